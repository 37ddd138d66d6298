"""The gRPC server: its port, its limits, and the order of a stop (docs/decisions/9-grpc.md).

gRPC makes its listening socket itself, and listens at once. So it binds before a kit is near, and stops listening until
it is to accept.
"""

import asyncio
import socket
from contextlib import suppress
from typing import Any, Final

import grpc
import grpc.aio

from runtime.link.limits import Limits
from runtime.link.new_clients import turn_away
from runtime.log import Log
from runtime.serving.grpc import health as checks
from runtime.serving.grpc.service import Inference
from runtime.serving.grpc.sockets import Connections, listener
from runtime.serving.health import Health
from runtime.serving.protocol.grpc.messages import SERVICE
from runtime.serving.served import Models

_BACKLOG: Final = 2048
_OTHERS: Final = 256
"""Calls beside those that may have a permit: health, metadata, streams that wait for their next request."""
_SETTLE_SECONDS: Final = 0.05
_LOOK_SECONDS: Final = 0.02
_LEAVE_SECONDS: Final = 1.0
"""How long clients may take to read that they are to go elsewhere, and to finish and close."""
_REFLECTION: Final = "grpc.reflection.v1alpha.ServerReflection"


class Server:
    """Serves the models on gRPC. Runs on the loop that calls it."""

    def __init__(self, models: Models, *, health: Health, limits: Limits, log: Log) -> None:
        self._inference = Inference(models, limits, log)
        self._server = grpc.aio.server(
            options=(
                ("grpc.max_receive_message_length", limits.body_bytes),
                ("grpc.max_send_message_length", -1),
                ("grpc.max_metadata_size", limits.head_bytes),
                ("grpc.absolute_max_metadata_size", limits.head_bytes),
                ("grpc.so_reuseport", 1),
            ),
            maximum_concurrent_rpcs=limits.in_flight + _OTHERS,
        )
        for name, handlers in ((SERVICE, self._inference.handlers), (checks.NAME, checks.Checks(health).handlers)):
            self._server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(name, handlers),))
        self._server.add_generic_rpc_handlers((_Reflection(),))
        self._listener: socket.socket | None = None

    def bind(self, address: str) -> None:
        """Takes the port, and listens to nobody yet. Raises RuntimeError."""
        port = self._server.add_insecure_port(address)
        self._listener = listener(port)
        self._listener.shutdown(socket.SHUT_RD)

    async def accept(self) -> None:
        """Begins to accept connections."""
        assert self._listener is not None
        self._listener.listen(_BACKLOG)
        await self._server.start()

    async def drain(self, seconds: float) -> None:
        """Stops without losing a request: lets no new client in, accepts those who wait, tells all to go (GOAWAY), and
        answers what is under way; what is left after `seconds` is broken off."""
        assert self._listener is not None
        with suppress(OSError):
            turn_away(self._listener)
        loop, port = asyncio.get_running_loop(), self._listener.getsockname()[1]
        ends = loop.time() + seconds
        await asyncio.sleep(min(_SETTLE_SECONDS, seconds / 4))
        clients, quiet = Connections(port), loop.time() + min(_LEAVE_SECONDS, seconds / 2)
        while clients.tell_to_leave() and loop.time() < quiet:  # noqa: ASYNC110 - gRPC tells of no connection's end
            await asyncio.sleep(_LOOK_SECONDS)
        await self._server.stop(max(ends - loop.time(), 0.0))
        self._listener.close()


class _Reflection(grpc.GenericRpcHandler):  # type: ignore[misc,unused-ignore]
    """Server reflection, imported once somebody asks."""

    def __init__(self) -> None:
        self._handler: Any = None

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> Any:
        """Returns what answers a call, None if it is for others."""
        if handler_call_details.method != f"/{_REFLECTION}/ServerReflectionInfo":
            return None
        if self._handler is None:
            from runtime.serving.grpc.reflection import handler

            self._handler = handler((SERVICE, checks.NAME, _REFLECTION))
        return self._handler
