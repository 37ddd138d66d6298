"""`grpc.health.v1.Health`, which Kubernetes probes ask: https://github.com/grpc/grpc/blob/master/doc/health-checking.md."""

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any, Final

import grpc
from grpc_health.v1 import health_pb2

from runtime.serving.health import Health
from runtime.serving.protocol.grpc.messages import SERVICE

NAME: Final = "grpc.health.v1.Health"
_LOOK_SECONDS: Final = 0.1
_SERVING, _NOT_SERVING, _UNKNOWN = (
    health_pb2.HealthCheckResponse.ServingStatus.Value(name) for name in ("SERVING", "NOT_SERVING", "SERVICE_UNKNOWN")
)


class Checks:
    """The methods of the service: the server as a whole (""), the inference service, and each model by its name."""

    def __init__(self, health: Health) -> None:
        self._health = health

    @property
    def handlers(self) -> dict[str, Any]:
        """By name."""
        return {
            "Check": _handler(grpc.unary_unary_rpc_method_handler, self._check, health_pb2.HealthCheckRequest),
            "Watch": _handler(grpc.unary_stream_rpc_method_handler, self._watch, health_pb2.HealthCheckRequest),
            "List": _handler(grpc.unary_unary_rpc_method_handler, self._list, health_pb2.HealthListRequest),
        }

    def _status(self, service: str) -> Any:
        if service not in ("", SERVICE, *self._health.model_names):
            return _UNKNOWN
        return _SERVING if self._health.ready else _NOT_SERVING

    async def _check(self, request: Any, context: grpc.aio.ServicerContext) -> Any:
        status = self._status(request.service)
        if status == _UNKNOWN:
            await context.abort(grpc.StatusCode.NOT_FOUND, "unknown service")
        return health_pb2.HealthCheckResponse(status=status)

    async def _watch(self, request: Any, _: grpc.aio.ServicerContext) -> AsyncIterator[Any]:
        """Says each change; other processes make them, so it has to look. Ends when the server is about to."""
        said = None
        while True:
            ends, status = self._health.draining, self._status(request.service)
            if status != said:
                yield health_pb2.HealthCheckResponse(status=status)
                said = status
            if ends:
                return
            await asyncio.sleep(_LOOK_SECONDS)

    async def _list(self, _request: Any, _: grpc.aio.ServicerContext) -> Any:
        names = ("", SERVICE, *self._health.model_names)
        statuses = {name: health_pb2.HealthCheckResponse(status=self._status(name)) for name in names}
        return health_pb2.HealthListResponse(statuses=statuses)


def _handler(kind: Callable[..., Any], method: Any, request: Any) -> Any:
    return kind(method, request.FromString, lambda answer: answer.SerializeToString())
