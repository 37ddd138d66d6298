"""The ASGI application: paths, methods and bodies in; `Response`s out.

It knows nothing of registries, the supervisor or the server it runs under: uvicorn, our own `server.Server`, Ray Serve
and a test's transport are all the same to it. There is no framework under it: the table of `routes` is small, and the
path of an inference request is a lookup in a dict, with nothing in between.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Final

import orjson

from runtime.errors import NotReady, Overloaded, RequestFailed, TooLarge, UnknownModel
from runtime.link.metrics import CONTENT_TYPE
from runtime.serving.inference import infer, refuse, request_id
from runtime.serving.media import check_head, check_length, too_large
from runtime.serving.routes import UNLOGGED, Route, route
from runtime.serving.statuses import JSON, RETRY, MethodNotAllowed, Response, UnknownPath, error_response
from runtime.serving.wording import listed, shown

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Receive, Scope, Send

    from runtime.serving.engine.limits import Limits
    from runtime.serving.engine.predictor import Predictor
    from runtime.serving.health import Health
    from runtime.serving.journal import Log
    from runtime.serving.media import Head

_ALIVE: Final = b'{"status":"alive"}'
_LIVE: Final = b'{"live":true}'
_MOST_PATHS: Final = 1024


class ClientGone(Exception):
    """The client left before its request was whole: there is nobody to answer."""


def build_app(predictors: Mapping[str, Predictor], *, health: Health, scrape: Callable[[], bytes], limits: Limits,
              log: Log) -> ASGIApp:  # fmt: skip
    """The application that serves `predictors` by name; the mapping may be filled later.

    `scrape` gives the metrics' text; it is called in a thread.
    """
    return _App(predictors, health, scrape, limits, log)


class _App:
    def __init__(self, predictors: Mapping[str, Predictor], health: Health, scrape: Callable[[], bytes],
                 limits: Limits, log: Log) -> None:  # fmt: skip
        self._predictors, self._health, self._scrape = predictors, health, scrape
        self._limits, self._log = limits, log
        self._infer_paths: dict[str, str] = {}
        self._reading_bytes = 0
        self._answers: dict[str, Callable[[Route], Response]] = {
            "alive": lambda _: Response(200, (JSON,), _ALIVE),
            "live": lambda _: Response(200, (JSON,), _LIVE),
            "ready": self._ready,
            "server": self._server,
            "models": self._models,
            "model": self._model,
            "model_ready": self._model_ready,
        }

    def predictor_at(self, path: str) -> Predictor | None:
        """The predictor that a POST to `path` means; only for paths that have been asked for before."""
        name = self._infer_paths.get(path)
        return None if name is None else self._predictors.get(name)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        predictor = self.predictor_at(scope.get("path", ""))
        try:
            if predictor is not None and scope["method"] == "POST":
                response = await self._infer(predictor, scope, receive)
            elif scope["type"] == "http":
                response = await self._other(scope, receive)
            else:
                await _not_http(scope, receive, send)
                return
        except ClientGone:
            return
        await _send(response, scope, send)

    async def _other(self, scope: Scope, receive: Receive) -> Response:
        path = _path(scope)
        found = route(path)
        try:
            if found is None:
                raise UnknownPath(f"not found: {shown(path)}")
            if scope["method"] not in found.methods:
                raise MethodNotAllowed(", ".join(found.methods))
            if found.kind == "infer":
                return await self._first_infer(found, path, scope, receive)
            if found.kind == "metrics":
                return Response(200, ((b"content-type", CONTENT_TYPE),), await asyncio.to_thread(self._scrape))
            return self._answers[found.kind](found)
        except RequestFailed as failure:
            return self._refused(failure, found, scope)

    def _refused(self, failure: RequestFailed, found: Route | None, scope: Scope) -> Response:
        predictor = self._predictors.get(found.model) if found is not None else None
        response = error_response(failure, headers=() if predictor is None else predictor.headers)
        if found is None or found.kind not in UNLOGGED:
            self._log.info("request.refused", id=request_id(dict(scope["headers"])), status=response.status,
                           method=scope["method"], path=shown(_path(scope)), reason=str(failure))  # fmt: skip
        return response

    # inference

    async def _first_infer(self, found: Route, path: str, scope: Scope, receive: Receive) -> Response:
        predictor = self._predictor(found)
        if len(self._infer_paths) < _MOST_PATHS:  # only names and versions that are served get here
            self._infer_paths[path] = found.model
        return await self._infer(predictor, scope, receive)

    async def _infer(self, predictor: Predictor, scope: Scope, receive: Receive) -> Response:
        head = dict(scope["headers"])
        reserved = 0
        try:
            length = check_length(head, self._limits)
            first = await receive()
            if first["type"] != "http.request":
                raise ClientGone
            body = first.get("body", b"")
            if first.get("more_body", False):
                reserved = self._reserve(length)
                body = await self._rest(body, head, receive)
            response = infer(predictor, head, body)
            return response if type(response) is Response else await response  # type: ignore[misc]  # narrowed by type()
        except RequestFailed as failure:
            return refuse(predictor, head, failure)
        finally:
            self._reading_bytes -= reserved

    def _reserve(self, length: int | None) -> int:
        """Books the memory that a body which comes in pieces will take; an unannounced one could be of any length."""
        wanted = self._limits.longest_body if length is None else length
        if self._reading_bytes + wanted > self._limits.in_flight_bytes:
            raise Overloaded(f"overloaded: bodies in flight hold {self._reading_bytes} bytes; try again")
        self._reading_bytes += wanted
        return wanted

    async def _rest(self, first: bytes, head: Head, receive: Receive) -> bytes:
        check_head(head)  # before reading on: a refusal is known already
        most, pieces, length = self._limits.longest_body, [first], len(first)
        while True:
            message = await receive()
            if message["type"] != "http.request":
                raise ClientGone
            pieces.append(message.get("body", b""))
            length += len(pieces[-1])
            if length > most:
                raise TooLarge(too_large(most))
            if not message.get("more_body", False):
                return b"".join(pieces)

    def _predictor(self, found: Route) -> Predictor:
        predictor = self._predictors.get(found.model)
        if predictor is None:
            raise self._missing(found)
        versions = predictor.provenance.versions or (predictor.provenance.version,)
        if found.version is not None and found.version not in versions:
            raise UnknownModel(
                f"unknown version {shown(found.version)} of model {shown(found.model)}; it has {listed(versions)}"
            )
        return predictor

    def _missing(self, found: Route) -> RequestFailed:
        coming = self._health.model_name
        if not self._health.ready and not self._predictors and coming in (None, found.model):
            return NotReady(f"model {shown(found.model)} is not ready: {self._reason()}; try again")
        served = list(self._predictors) or [coming or ""]
        return UnknownModel(f"unknown model {shown(found.model)}; this server has {listed(served)}")

    def _reason(self) -> str:
        return str(self._health.report().get("reason", "loading"))

    # everything else

    def _ready(self, _: Route) -> Response:
        report = orjson.dumps(self._health.report())
        return Response(200, (JSON,), report) if self._health.ready else Response(503, (JSON, RETRY), report)

    def _server(self, _: Route) -> Response:
        from runtime.serving.protocol.metadata import server_metadata  # nothing of a start has to wait for it

        return Response(200, (JSON,), server_metadata())

    def _models(self, _: Route) -> Response:
        return Response(200, (JSON,), orjson.dumps({"models": list(self._predictors)}))

    def _model(self, found: Route) -> Response:
        from runtime.serving.protocol.metadata import model_metadata

        predictor = self._predictor(found)
        return Response(200, predictor.ok_headers, model_metadata(predictor.model, predictor.provenance))

    def _model_ready(self, found: Route) -> Response:
        predictor = self._predictor(found)
        if not self._health.ready:
            raise NotReady(f"model {shown(found.model)} is not ready: {self._reason()}")
        return Response(200, predictor.ok_headers, orjson.dumps({"name": found.model, "ready": True}))


def _path(scope: Scope) -> str:
    path: str = scope["path"]
    root: str = scope.get("root_path") or ""
    return path.removeprefix(root) if root and path.startswith(root + "/") else path


async def _send(response: Response, scope: Scope, send: Send) -> None:
    status, headers, body, variable = response
    whole = [*headers, *variable, (b"content-length", b"%d" % len(body))]
    await send({"type": "http.response.start", "status": status, "headers": whole})
    await send({"type": "http.response.body", "body": b"" if scope["method"] == "HEAD" else body})


async def _not_http(scope: Scope, receive: Receive, send: Send) -> None:
    if scope["type"] == "websocket":
        await send({"type": "websocket.close", "code": 1000})
        return
    while True:  # lifespan: nothing to start and nothing to stop, but servers want it said
        phase = (await receive())["type"]
        await send({"type": f"{phase}.complete"})
        if phase == "lifespan.shutdown":
            return
