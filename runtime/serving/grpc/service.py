"""`inference.GRPCInferenceService`: each method, from a message's bytes to a message's bytes.

Inference goes through `serving.inference` like that of any protocol. What the server says about itself and its models
is what the pages of V2 over HTTP say, in messages.
"""

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from typing import Any, Final

import grpc
import orjson
from google.protobuf.json_format import ParseDict

from runtime.errors import NotReady, RequestFailed
from runtime.link.limits import Limits
from runtime.log import Log
from runtime.serving.inference import Endpoint, infer, told_of
from runtime.serving.media import Head
from runtime.serving.protocol.grpc.codec import CODE, GRPC, refuse
from runtime.serving.protocol.grpc.decode import names
from runtime.serving.protocol.grpc.messages import METHODS, Message, chosen
from runtime.serving.protocol.grpc.wire import field
from runtime.serving.protocol.v2.codec import V2_JSON
from runtime.serving.served import Models
from runtime.serving.statuses import Header, Response
from runtime.serving.tracing import REQUEST_ID, TRACE, trail

Context = Any
"""`grpc.aio.ServicerContext`, which has no types."""
_CODES: Final = {code.name: code for code in grpc.StatusCode}
_KIND_OF: Final[dict[type, str]] = {bool: "bool_param", int: "uint32_param", str: "string_param"}
_ERROR, _ANSWER = 1, 2  # fields of ModelStreamInferResponse
_HEADERS: Final = tuple(name.decode() for name in (REQUEST_ID, TRACE))
"""What of a call's metadata is a header to a protocol."""


class Inference:
    """The methods of the service; `handlers` is what a server needs of it."""

    def __init__(self, models: Models, limits: Limits, log: Log) -> None:
        self._models, self._limits, self._log = models, limits, log
        self._pages = {page.path: page for page in (*V2_JSON.pages, *V2_JSON.later_pages())}
        self._metadata: dict[tuple[Header, ...], tuple[tuple[str, str], ...]] = {}
        self.in_flight = 0
        """Calls that are not answered yet."""

    @property
    def handlers(self) -> dict[str, Any]:
        """By name: bytes in, bytes out for inference; messages for the rest."""
        answers = {
            "ServerLive": lambda _: {"live": True},
            "ServerReady": lambda _: {"ready": self._models.health.ready},
            "ModelReady": self._model_ready,
            "ServerMetadata": lambda _: self._page("/v2", {}),
            "ModelMetadata": lambda request: self._model_page("/v2/models/{model}", request),
            "ModelConfig": lambda request: {"config": self._model_page("/v2/models/{model}/config", request)},
            "ModelStatistics": self._statistics,
            "RepositoryIndex": self._index,
            "LogSettings": self._log_settings,
            "TraceSetting": self._trace_settings,
            "RepositoryModelLoad": lambda request: self._repository("load", request),
            "RepositoryModelUnload": lambda request: self._repository("unload", request),
        }
        handlers: dict[str, Any] = {
            name: grpc.unary_unary_rpc_method_handler(
                self._answered(name, answer), METHODS[name][0].FromString, METHODS[name][1].SerializeToString
            )
            for name, answer in answers.items()
        }
        handlers["ModelInfer"] = grpc.unary_unary_rpc_method_handler(self._infer)
        handlers["ModelStreamInfer"] = grpc.stream_stream_rpc_method_handler(self._stream)
        return handlers

    # inference

    async def _infer(self, body: bytes, context: Context) -> bytes:
        response = await self._response(body, context)
        metadata = self._trailing(response)
        if response.status != 200:
            await context.abort(_code(response), response.body.decode(), metadata)
        context.set_trailing_metadata(metadata)
        return response.body

    async def _stream(self, bodies: AsyncIterator[bytes], context: Context) -> AsyncIterator[bytes]:
        """Answers one request after another. One that fails is told in its answer, and the stream goes on; or ends with
        that status if the client asked for it by the metadata `triton_grpc_error`."""
        ends = ("triton_grpc_error", "true") in tuple(context.invocation_metadata() or ())
        async for body in bodies:
            response = await self._response(body, context)
            if response.status == 200:
                yield field(_ANSWER, response.body)
            elif ends:
                await context.abort(_code(response), response.body.decode(), self._trailing(response))
            else:
                yield field(_ERROR, response.body)

    async def _response(self, body: bytes, context: Context) -> Response:
        self.in_flight += 1
        try:
            answer = self._call(body, _head(context), self._seconds(context))
            return answer if isinstance(answer, Response) else await answer
        finally:
            self.in_flight -= 1

    def _call(self, body: bytes, head: Head, seconds: float) -> Response | Awaitable[Response]:
        try:
            name, version = names(body)
            served = self._models.find(name, version or None)
        except RequestFailed as failure:
            return self._refused("ModelInfer", failure, head)
        return infer(Endpoint.of(served, (GRPC,)), head, body, seconds)

    def _seconds(self, context: Context) -> float:
        """Returns the deadline: the client's or the operator's, whichever is sooner; 0: none."""
        most, left = self._limits.deadline_seconds, context.time_remaining()
        if left is None:
            return most
        return max(float(min(left, most or left)), 1e-6)

    def _refused(self, method: str, error: Exception, head: Head) -> Response:
        """Returns the answer to a request that is no call, and logs it."""
        _, told, line = told_of(error, inputs=self._limits.log_inputs)
        own_id, left = trail(head, inputs=self._limits.log_inputs)
        response = refuse(told)._replace(variable=left.headers)
        write = self._log.info if response.status != 500 else self._log.error
        write("request.refused", id=own_id, status=response.status, method=method, **line, **left.fields)
        return response

    def _trailing(self, response: Response) -> tuple[tuple[str, str], ...]:
        """Returns the headers that say where the model is from, and whose call it is, as metadata."""
        headers = response.headers
        if headers not in self._metadata:  # they are a few tuples
            self._metadata[headers] = _texts(headers)
        return self._metadata[headers] + _texts(response.variable)

    # what the server says about itself and its models

    def _answered(self, name: str, answer: Callable[[Message], Mapping[str, Any]]) -> Callable[..., Awaitable[Message]]:
        made, quiet = METHODS[name][1], name.endswith("Ready")

        async def method(request: Message, context: Context) -> Message:
            try:
                return ParseDict(answer(request), made(), ignore_unknown_fields=True)
            except Exception as error:  # noqa: BLE001 - logged with its cause, and answered without it
                if quiet and isinstance(error, RequestFailed):
                    response = refuse(error)
                else:
                    response = self._refused(name, error, _head(context))
            return await context.abort(_code(response), response.body.decode(), self._trailing(response))

        return method

    def _model_ready(self, request: Message) -> dict[str, Any]:
        try:
            self._models.find_ready(request.name, request.version or None)
        except NotReady:
            return {"ready": False}
        return {"ready": True}

    def _page(self, path: str, parameters: Mapping[str, str], body: object = None) -> Any:
        page = self._pages[path]
        more = (b"" if body is None else orjson.dumps(body),) if page.wants_body else ()
        return orjson.loads(page.answer(self._models, parameters, *more).body)

    def _model_page(self, path: str, request: Message) -> Any:
        return self._page(path, {"model": request.name, **({"version": request.version} if request.version else {})})

    def _statistics(self, request: Message) -> Any:
        if not request.name:
            return self._page("/v2/models/stats", {})
        return self._model_page("/v2/models/{model}/stats", request)

    def _log_settings(self, request: Message) -> Any:
        settings = self._page("/v2/logging", {}, {name: chosen(value) for name, value in request.settings.items()})
        return {"settings": {name: {_KIND_OF[type(value)]: value} for name, value in settings.items()}}

    def _trace_settings(self, request: Message) -> Any:
        parameters = {"model": request.model_name} if request.model_name else {}
        path = "/v2/models/{model}/trace/setting" if parameters else "/v2/trace/setting"
        given = {name: list(setting.value) for name, setting in request.settings.items()}
        asked = {name: values if name == "trace_level" else ", ".join(values) for name, values in given.items()}
        settings = self._page(path, parameters, asked).items()
        lists = {name: value if isinstance(value, list) else [value] for name, value in settings}
        return {"settings": {name: {"value": values} for name, values in lists.items()}}

    def _index(self, request: Message) -> dict[str, Any]:
        return {"models": self._page("/v2/repository/index", {}, {"ready": request.ready})}

    def _repository(self, verb: str, request: Message) -> Any:
        # KServe's messages have the model's name where Triton's have that of a repository
        model = request.model_name or request.repository_name
        return self._page(f"/v2/repository/models/{{model}}/{verb}", {"model": model})


def _code(response: Response) -> grpc.StatusCode:
    return _CODES[dict(response.headers)[CODE].decode()]


def _texts(headers: tuple[Header, ...]) -> tuple[tuple[str, str], ...]:
    return tuple((key.decode(), text.decode()) for key, text in headers if key != CODE)


def _head(context: Context) -> Head:
    """Returns what of a call's metadata is a header to a protocol: the client's own id, and its trace."""
    return {key.encode(): text.encode() for key, text in context.invocation_metadata() or () if key in _HEADERS}
