"""The gRPC server: the services on HTTP/2 connections (docs/decisions/9-grpc.md)."""

import socket
from collections.abc import Callable, Sequence

from runtime.link.limits import Limits
from runtime.log import Log
from runtime.serving.asgi import Bodies
from runtime.serving.base_server import BaseServer
from runtime.serving.grpc.bidirectional import Bidirectional
from runtime.serving.grpc.health import NAME, Checks
from runtime.serving.grpc.metadata import Asked
from runtime.serving.grpc.state import Methods, State
from runtime.serving.grpc.unary import Unary
from runtime.serving.health import Health
from runtime.serving.http2.connection import Connection
from runtime.serving.protocol.codec import Codec
from runtime.serving.served import Models


class Server(BaseServer[State, Connection[Asked]]):
    """Serves `models`; `speak` gets the protocol before its first use, which is imported then."""

    def __init__(self, models: Models, sockets: Sequence[socket.socket], *, bodies: Bodies, health: Health,
                 limits: Limits, log: Log, speak: Callable[[Codec], object]) -> None:  # fmt: skip
        state = State(self._later, bodies, health=health, limits=limits, log=log, unary=Unary, streaming=Bidirectional)
        state.methods = Checks(health, state.refuse).methods
        super().__init__(state, Connection, sockets)
        self._models, self._speak = models, speak

    async def prepare(self) -> None:
        """Imports what calls need, and no start has to wait for."""
        await self._state.prepare()

    def _later(self) -> Methods:
        from runtime.serving.grpc.reflection import NAME as REFLECTION  # with protobuf: 30 ms
        from runtime.serving.grpc.reflection import Reflection
        from runtime.serving.grpc.service import Inference
        from runtime.serving.protocol.grpc.codec import GRPC
        from runtime.serving.protocol.grpc.messages import SERVICE

        self._speak(GRPC)
        inference = Inference(self._models, self._state.limits, self._state.refuse)
        return {**inference.methods, **Reflection((SERVICE, NAME, REFLECTION)).methods}
