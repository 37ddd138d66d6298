"""`grpc.health.v1.Health`, which Kubernetes probes ask: https://github.com/grpc/grpc/blob/master/doc/health-checking.md.

Its messages are a name and a number: no protobuf is needed, so that a probe is answered before anything is imported.
"""

import asyncio
from typing import Final

from runtime.errors import InvalidInput, UnknownModel
from runtime.serving.grpc.bidirectional import Bidirectional
from runtime.serving.grpc.metadata import Asked
from runtime.serving.grpc.state import Method, Methods, Refuse
from runtime.serving.health import Health
from runtime.serving.media import Body
from runtime.serving.protocol.grpc.wire import field, fields
from runtime.serving.statuses import Response

NAME: Final = "grpc.health.v1.Health"
_INFERENCE: Final = "inference.GRPCInferenceService"
_LOOK_SECONDS: Final = 0.1
_SERVING, _NOT_SERVING, _UNKNOWN = b"\x08\x01", b"\x08\x02", b"\x08\x03"
"""Each a HealthCheckResponse, whose field 1 is the status."""


class Checks:
    """The methods of the service: the server as a whole (""), the inference service, and each model by its name."""

    def __init__(self, health: Health, refuse: Refuse) -> None:
        self._health, self._refuse = health, refuse

    @property
    def methods(self) -> Methods:
        """By path."""
        methods = {
            "Check": Method(unary=self._check),
            "Watch": Method(stream=self._watch),
            "List": Method(unary=self._list),
        }
        return {f"/{NAME}/{name}".encode(): method for name, method in methods.items()}

    @property
    def _names(self) -> tuple[str, ...]:
        return ("", _INFERENCE, *self._health.model_names)

    def _status(self, service: str) -> bytes:
        if service not in self._names:
            return _UNKNOWN
        return _SERVING if self._health.ready else _NOT_SERVING

    def _check(self, body: Body, asked: Asked, _: float | None) -> Response:
        try:
            status = self._status(_service(body))
        except InvalidInput as failure:
            return self._refuse(failure, asked)
        if status == _UNKNOWN:
            return self._refuse(UnknownModel("unknown service"), asked, quiet=True)
        return Response(200, (), status)

    async def _watch(self, call: Bidirectional, _: Asked) -> None:
        """Says each change; other processes make them, so it has to look. Ends when the server is about to."""
        service, said = "", None
        async for body in call.messages():
            service = _service(body)
            break
        while True:
            ends, status = self._health.draining, self._status(service)
            if status != said:
                await call.send(status)
                said = status
            if ends:
                return
            await asyncio.sleep(_LOOK_SECONDS)

    def _list(self, _body: Body, _asked: Asked, _: float | None) -> Response:
        entries = (field(1, name.encode()) + field(2, self._status(name)) for name in self._names)
        return Response(200, (), b"".join(field(1, entry) for entry in entries))


def _service(body: Body) -> str:
    """Returns the service of a HealthCheckRequest. Raises InvalidInput."""
    name = b""
    for number, _, begin, end in fields(body):
        if number == 1:
            name = bytes(body[begin:end])
    return name.decode(errors="replace")
