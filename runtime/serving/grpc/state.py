"""What all gRPC connections of a server share: the methods, the limits, and how a refusal is logged."""

import asyncio
from collections.abc import Callable, Coroutine, Mapping
from typing import Any, Final, NamedTuple, Protocol

from runtime.errors import RequestFailed
from runtime.link.limits import Limits
from runtime.log import Log
from runtime.serving.asgi import Bodies
from runtime.serving.grpc.metadata import Asked, asked
from runtime.serving.health import Health
from runtime.serving.http2.hpack import Header
from runtime.serving.http2.output import Output
from runtime.serving.http2.state import State as Http2State
from runtime.serving.http2.stream import Stream
from runtime.serving.inference import Later, told_of
from runtime.serving.media import Body
from runtime.serving.statuses import Response, grpc_response, status_of
from runtime.serving.trail import trail

Answer = Response | Later
Opened = Callable[["State", Output, int, Asked], Stream]


class Refuse(Protocol):
    """`State.refuse`, as services know it."""

    def __call__(self, error: Exception, head: Asked, *, quiet: bool = False) -> Response:
        """Returns the answer."""


class Method(NamedTuple):
    """One of a service's methods. One of the two is there."""

    unary: Callable[[Body, Asked, float | None], Answer] | None = None
    """A message, the call's headers and the seconds that its client waits → the answer."""
    stream: Callable[[Any, Asked], Coroutine[Any, Any, Response | None]] | None = None
    """A `bidirectional.Bidirectional` and the call's headers → the status in the end, None for OK."""


Methods = Mapping[bytes, Method]
"""By path."""


class State(Http2State[Asked]):
    """What `later` returns is imported when it is needed; the methods of health are there at once."""

    def __init__(self, later: Callable[[], Methods], bodies: Bodies, *, health: Health, limits: Limits, log: Log,
                 unary: Opened, streaming: Opened) -> None:  # fmt: skip
        super().__init__(health, limits, log)
        self.methods: Methods = {}
        self.bodies, self.prepared = bodies, False
        self._later, self._unary, self._streaming = later, unary, streaming
        self._preparing = asyncio.Lock()

    async def prepare(self) -> None:
        """Imports what is left to import, in a thread; returns when it is there."""
        async with self._preparing:
            if not self.prepared:
                self.methods = {**self.methods, **await asyncio.to_thread(self._later)}
                self.prepared = True

    def understand(self, headers: list[Header] | None) -> Asked:
        """Returns what the headers of a call say."""
        return asked(headers, self.limits.head_bytes)

    def open(self, output: Output, number: int, head: Asked) -> Stream:
        """Returns the stream of a new call."""
        return (self._streaming if head.path in STREAMS else self._unary)(self, output, number, head)

    def refuse(self, error: Exception, head: Asked, *, quiet: bool = False) -> Response:
        """Returns the answer to a call that never gets to inference, and logs it."""
        failure, told, line = told_of(error, inputs=self.limits.log_inputs)
        own_id, left = trail(head.head, inputs=self.limits.log_inputs)
        response = grpc_response(told)._replace(variable=left.headers)
        if not quiet or not isinstance(error, RequestFailed):
            method = {"method": head.path.rpartition(b"/")[2].decode()} if head.path in self.methods else {}
            self.log.refused(response.status, status_of(failure).reason, id=own_id, **method, **line, **left.fields)
        return response


STREAMS: Final = frozenset({
    b"/inference.GRPCInferenceService/ModelStreamInfer", b"/grpc.health.v1.Health/Watch",
    b"/grpc.reflection.v1.ServerReflection/ServerReflectionInfo",
    b"/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo",
})  # fmt: skip
"""The methods that are no unary ones: known before their services are imported."""
