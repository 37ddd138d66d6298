"""The ASGI application: inference by one lookup of the path, everything else by Starlette (`routes`)."""

from __future__ import annotations

import asyncio
import re
import threading
from collections.abc import Mapping
from http import HTTPMethod
from typing import TYPE_CHECKING, Final

from runtime.errors import RequestFailed
from runtime.link.gateway import NO_GATEWAY, Gateway
from runtime.link.metrics import PROTOCOLS
from runtime.serving.asgi import Bodies, ClientGone, deliver, local_path
from runtime.serving.codec_table import CODECS, codecs_behind
from runtime.serving.inference import Endpoint, infer, told_of
from runtime.serving.media import head_of
from runtime.serving.protocol.codec import Codec, prepare
from runtime.serving.served import Models, Served
from runtime.serving.statuses import Response, status_of
from runtime.serving.trail import LOGGED_ID, trail
from runtime.serving.wording import quoted

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Receive, Scope, Send

    from runtime.link.board import Board
    from runtime.link.limits import Limits
    from runtime.log import Log
    from runtime.serving.health import Health

_MOST_PATHS: Final = 1024


class App:
    """Serves the models in `served`, a mapping that may be filled later, in the protocols `codecs`."""

    def __init__(self, served: Mapping[str, Served], *, health: Health, board: Board, limits: Limits, log: Log,
                 codecs: tuple[Codec, ...] = CODECS, gateway: Gateway = NO_GATEWAY) -> None:  # fmt: skip
        codecs = codecs_behind(gateway, codecs)
        self._models, self._codecs, self._board = Models(served, health, board, log), codecs, board
        self.speak()
        self.later: tuple[str, ...] = ()
        """The names of protocols that this process may speak later, and another one may have spoken."""
        self._limits, self._log, self._gateway = limits, log, gateway
        self.own_headers = frozenset({b"origin"}) if gateway.cors_origins else frozenset()
        """Requests with one of these are not answered without ASGI."""
        self._cors: ASGIApp | None = None
        self.bodies = Bodies(limits)
        """Shared with protocols that come without HTTP."""
        # Compiled as Starlette does a route's path; Starlette itself is not imported yet.
        self._patterns = [(re.compile(re.sub(r"\\{(\w+)\\}", r"(?P<\1>[^/]+)", re.escape(path))), codec)
                          for codec in codecs for path in codec.paths]  # fmt: skip
        self._endpoints: dict[str, Endpoint] = {}
        self._starlette: ASGIApp | None = None
        self._building = threading.Lock()

    def speak(self, *more: Codec) -> tuple[Codec, ...]:
        """Returns all protocols after adding `more`, which come without HTTP; to be called before a model is served."""
        self._codecs += more
        if len(self._codecs) > PROTOCOLS:
            raise ValueError(f"{len(self._codecs)} protocols; metrics have room for {PROTOCOLS}")
        return self._codecs

    def served_at(self, path: str) -> Endpoint | None:
        """Returns what a POST to `path` asks for a prediction, None for a path that was not asked for before."""
        endpoint = self._endpoints.get(path)
        known = endpoint is not None and self._models.served.get(endpoint.served.name) is endpoint.served
        return endpoint if known else None

    def prepare(self) -> None:
        """Imports Starlette and builds what stands behind inference, if that is not done yet; in any thread."""
        with self._building:
            if self._starlette is None:
                from runtime.serving.routes import application  # 15 ms that no start has to wait for

                if self._gateway.cors_origins:
                    from runtime.serving.cors import Cors

                    self._cors = Cors(self._answer, self._gateway.cors_origins)
                self._starlette = application(self, self._codecs, self._models, self._scrape, self.refused, self.bodies)

    def _scrape(self) -> bytes:
        from runtime.serving.scrape import render  # with prometheus_client: 40 ms that no start has to wait for

        models = [served.provenance for served in self._models.served.values()]
        spoken = [codec.name for codec in self._codecs]
        return render(self._board, models, [*spoken, *(name for name in self.later if name not in spoken)])

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers one ASGI connection: https://asgi.readthedocs.io/en/stable/specs/main.html."""
        root = self._gateway.root_path
        if root and scope["type"] == "http" and f"{scope['path']}/".startswith(root + "/"):
            scope = {**scope, "root_path": root, "path": f"{root}/" if scope["path"] == root else scope["path"]}
        if self.own_headers and scope["type"] == "http" and any(name == b"origin" for name, _ in scope["headers"]):
            if self._cors is None:
                await asyncio.to_thread(self.prepare)
            assert self._cors is not None
            await self._cors(scope, receive, send)
            return
        await self._answer(scope, receive, send)

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and scope["method"] == "POST":
            try:
                response = await self._post(scope, receive)
            except ClientGone:
                return
            if response is not None:
                await deliver(response, scope, receive, send)
                return
        if self._starlette is None:
            await asyncio.to_thread(self.prepare)
        assert self._starlette is not None
        await self._starlette(scope, receive, send)

    async def _post(self, scope: Scope, receive: Receive) -> Response | None:
        """Returns the answer, None if the path is no protocol's."""
        endpoint = self.served_at(scope["path"])
        if endpoint is None:
            found = self._find(scope)
            if not isinstance(found, Endpoint):
                return found
            endpoint = found
        head = head_of(scope["headers"])
        try:
            codec = endpoint.codec(head)
            body = await self.bodies.read(head, receive, codec.longest_body, codec.binary_at(head))
        except RequestFailed as failure:
            return endpoint.begin(endpoint.served, endpoint.codecs[0], head, b"", None).refused(failure)
        answer = infer(endpoint, head, body)
        return answer if isinstance(answer, Response) else await answer

    def _find(self, scope: Scope) -> Endpoint | Response | None:
        """Returns the endpoint of a path that was not asked for before, a refusal, or None: it is no protocol's."""
        path = local_path(scope)
        matches = [(found, codec) for pattern, codec in self._patterns if (found := pattern.fullmatch(path))]
        if not matches:
            return None
        parameters, codecs = matches[0][0].groupdict(), tuple(codec for _, codec in matches)
        try:
            served = self._models.find(**parameters)
        except RequestFailed as failure:
            return self.refused(failure, {**scope, "path_params": parameters}, codecs[0])
        prepare(served, self._codecs)
        endpoint = Endpoint.of(served, codecs)
        if len(self._endpoints) < _MOST_PATHS:  # only names and versions that are served get here
            self._endpoints[scope["path"]] = endpoint
        return endpoint

    def refused(self, error: Exception, scope: Scope, codec: Codec, *, quiet: bool = False) -> Response:
        """Returns the answer to a request that is no call, in the words of `codec`; logs it unless `quiet`."""
        inputs = self._limits.log_inputs
        failure, told, line = told_of(error, inputs=inputs)
        own_id, trace = trail(head_of(scope["headers"]), inputs=inputs)
        response, method = codec.refuse(told), scope["method"]
        if not quiet or response.status == 500:
            if inputs:
                line["path"] = quoted(local_path(scope))
            verb = method if inputs or method in HTTPMethod.__members__ else "***"
            self._log.refused(response.status, status_of(failure).reason, id=own_id[:LOGGED_ID], method=verb, **line,
                              **trace.fields)  # fmt: skip
        response = response._replace(variable=response.variable + trace.headers)
        return self._models.stamp(response, scope.get("path_params", {}))
