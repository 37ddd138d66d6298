"""Whether a client that sends no more has left, or waits for its answer: TCP says the same of both.

An interim response means nothing to a client that waits: https://www.rfc-editor.org/rfc/rfc9110#section-15.2.
The kernel of a client that has closed its socket answers it with a reset.
"""

import asyncio
import socket
from collections.abc import Callable
from typing import Final

CONTINUE: Final = b"HTTP/1.1 100 Continue\r\n\r\n"
_FIRST_SECONDS, _LAST_SECONDS = 0.05, 1.0
"""Between two looks, at first and at most."""


def abort_if_gone(transport: asyncio.Transport, waits: Callable[[], bool]) -> None:
    """Sends an interim response, and ends the connection when it is reset, as long as its client `waits`."""
    transport.write(CONTINUE)
    _look_later(transport, waits, _FIRST_SECONDS)


def _look_later(transport: asyncio.Transport, waits: Callable[[], bool], seconds: float) -> None:
    asyncio.get_running_loop().call_later(seconds, _look, transport, waits, seconds)


def _look(transport: asyncio.Transport, waits: Callable[[], bool], seconds: float) -> None:
    if transport.is_closing() or not waits():
        return
    if transport.get_extra_info("socket").getsockopt(socket.SOL_SOCKET, socket.SO_ERROR):
        transport.abort()
    else:
        _look_later(transport, waits, min(2 * seconds, _LAST_SECONDS))
