"""`inference.GRPCInferenceService`: each method, from a message's bytes to a message's bytes.

Inference goes through `serving.inference` like that of any protocol. What the server says about itself and its models
is what the pages of V2 over HTTP say, in messages.
"""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, Final

import orjson
from google.protobuf.json_format import ParseDict
from google.protobuf.message import DecodeError

from runtime.errors import InvalidInput, NotReady, RequestFailed
from runtime.link.limits import Limits
from runtime.serving.grpc.bidirectional import Bidirectional
from runtime.serving.grpc.metadata import Asked
from runtime.serving.grpc.state import Answer, Method, Methods, Refuse
from runtime.serving.inference import Endpoint, infer
from runtime.serving.media import Body, too_large
from runtime.serving.protocol.codec import PAGE_BYTES
from runtime.serving.protocol.grpc.codec import GRPC
from runtime.serving.protocol.grpc.decode import names, own_id
from runtime.serving.protocol.grpc.messages import METHODS, SERVICE, Message, chosen
from runtime.serving.protocol.grpc.wire import field
from runtime.serving.protocol.v2.codec import V2_JSON
from runtime.serving.served import Models, Served
from runtime.serving.statuses import Response

_KIND_OF: Final[dict[type, str]] = {bool: "bool_param", int: "uint32_param", str: "string_param"}
_ERROR, _ANSWER = 1, 2  # fields of ModelStreamInferResponse
_ID: Final = 3  # of the answer in it


class Inference:
    """The methods of the service; `refuse` logs what never gets to inference, and says what its client is told."""

    def __init__(self, models: Models, limits: Limits, refuse: Refuse) -> None:
        self._models, self._limits, self._refuse = models, limits, refuse
        self._pages = {page.path: page for page in (*V2_JSON.pages, *V2_JSON.later_pages())}
        self._endpoints: dict[str, Endpoint] = {}

    @property
    def methods(self) -> Methods:
        """By path: bytes in, bytes out."""
        answers: dict[str, Callable[[Message], Mapping[str, Any]]] = {
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
        methods = {name: Method(unary=partial(self._answered, name, answer)) for name, answer in answers.items()}
        methods["ModelInfer"] = Method(unary=self._infer)
        methods["ModelStreamInfer"] = Method(stream=self._stream)
        return {f"/{SERVICE}/{name}".encode(): method for name, method in methods.items()}

    # inference

    def _infer(self, body: Body, asked: Asked, seconds: float | None) -> Answer:
        try:
            name, version = names(body)
            served = self._models.find(name, version or None)
        except RequestFailed as failure:
            return self._refuse(failure, asked)
        most = self._limits.deadline_seconds
        return infer(
            self._endpoint(served), asked.head, body, most if seconds is None else min(seconds, most or seconds)
        )

    def _endpoint(self, served: Served) -> Endpoint:
        endpoint = self._endpoints.get(served.name)
        if endpoint is None or endpoint.served is not served:
            endpoint = self._endpoints[served.name] = Endpoint.of(served, (GRPC,))
        return endpoint

    async def _stream(self, call: Bidirectional, asked: Asked) -> Response | None:
        """Answers one request after another. One that fails is told in its answer, and the stream goes on; or ends with
        that status if the client asked for it by the metadata `triton_grpc_error`."""
        ends = asked.metadata.get(b"triton_grpc_error") == b"true"
        async for body in call.messages():
            answer = self._infer(body, asked, call.seconds)
            response = answer if isinstance(answer, Response) else await answer
            if response.status == 200:
                await call.send(field(_ANSWER, b"".join((response.body, *response.tail))))
            elif ends:
                return response
            else:
                own = own_id(body, self._limits).encode()  # as Triton says which request it was
                await call.send(field(_ERROR, response.body) + field(_ANSWER, field(_ID, own)))
        return None

    # what the server says about itself and its models

    def _answered(self, name: str, answer: Callable[[Message], Mapping[str, Any]], body: Body, asked: Asked,
                  _: float | None) -> Response:  # fmt: skip
        request, made = METHODS[name]
        if len(body) > PAGE_BYTES:
            return self._refuse(too_large(PAGE_BYTES, "this method", "message"), asked)
        try:
            message = ParseDict(answer(request.FromString(body)), made(), ignore_unknown_fields=True)
        except DecodeError:
            return self._refuse(InvalidInput(f"not a valid {request.DESCRIPTOR.name}"), asked)
        except Exception as error:  # noqa: BLE001 - logged with its cause, and answered without it
            return self._refuse(error, asked, quiet=name.endswith("Ready"))
        return Response(200, (), message.SerializeToString())

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
