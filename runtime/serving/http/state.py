"""What all connections of a server share, and how long each may wait for what."""

from __future__ import annotations

import time
from array import array
from collections.abc import Callable
from typing import TYPE_CHECKING, Final, Literal

from runtime.serving.asgi import Bodies
from runtime.serving.base_server import Accounts
from runtime.serving.http.head import LONGEST_SHORT, Head, Refused

if TYPE_CHECKING:
    from starlette.types import ASGIApp

    from runtime.link.limits import Limits
    from runtime.log import Log
    from runtime.serving.health import Health
    from runtime.serving.inference import Endpoint

HEAD, BODY, ANSWER, IDLE, LINGER, CLOSED = range(6)
"""What a connection waits for: the rest of a head, of a body, the answer, the next request, the end of what a client
still sends after the last answer, the end of what it has yet to read."""

_BODY_GRACE_SECONDS: Final = 5
_WINDOW_BYTES: Final = LONGEST_SHORT + 8192
"""A short body and its head fit."""
_DAYS: Final = [b"Mon", b"Tue", b"Wed", b"Thu", b"Fri", b"Sat", b"Sun"]
_MONTHS: Final = [b"Jan", b"Feb", b"Mar", b"Apr", b"May", b"Jun", b"Jul", b"Aug", b"Sep", b"Oct", b"Nov", b"Dec"]


class State(Accounts):
    """The one value that every connection of a server holds."""

    def __init__(self, app: ASGIApp, served_at: Callable[[str], Endpoint | None], health: Health, limits: Limits,
                 log: Log, waiting: memoryview[float] | None = None) -> None:  # fmt: skip
        super().__init__(health, limits, log)
        self.app = app
        self.waiting: array[float] | memoryview[float] = array("d", [0.0]) if waiting is None else waiting
        """By descriptor, since when a client has waited for its answer, for who answers it if this process ends. Those
        for which there is no place share the first, which no connection has."""
        self._app_headers: frozenset[bytes] = getattr(app, "own_headers", frozenset())
        self.served_at = served_at
        """What a POST to a path asks, where the connection may ask it itself."""
        self.bodies: Bodies = getattr(app, "bodies", None) or Bodies(limits)
        self.date = b""
        self.window = memoryview(bytearray(_WINDOW_BYTES))
        """Where a connection receives what is no long body; its reader takes all of it at once."""

    def swept(self) -> None:
        """Renders the time of the answers of the next second."""
        self.date = b"date: " + date_of(time.time()) + b"\r\n"

    def is_for_app(self, head: Head) -> bool:
        """Returns True if a header says that the application itself has to see the request."""
        return bool(self._app_headers) and any(name in self._app_headers for name, _ in head.headers)


def date_of(seconds: float) -> bytes:
    """Returns a time as HTTP writes it: https://www.rfc-editor.org/rfc/rfc9110#section-5.6.7.

    The import of `email.utils` takes 4 ms of a start; `strftime` follows the locale, which a kit's code may change.
    """
    year, month, day, hour, minute, second, weekday, *_ = time.gmtime(seconds)
    return b"%b, %02d %b %d %02d:%02d:%02d GMT" % (_DAYS[weekday], day, _MONTHS[month - 1], year, hour, minute, second)


def look(limits: Limits, tick: int, *, what: int, since: int, received_bytes: int, reading: bool, unread_bytes: int,
         read_at: int) -> Refused | Literal["close", "abort"] | None:  # fmt: skip
    """Returns what has to be done with a connection at `tick`, None for nothing.

    Ticks are seconds of the server's clock, which asks once in each: no request has a timer. The connection has waited
    for `what` since `since`; `received_bytes` of the head or body have come; `reading` is False while the connection
    itself does not read on. `unread_bytes` of the answers are left to the client, which last read some, or all, at
    `read_at`.
    """
    seconds = tick - since
    if unread_bytes and tick - read_at > limits.unread_seconds:
        return "abort"
    if what == HEAD and seconds > limits.head_seconds:
        if not received_bytes:  # a client that never said anything needs no answer
            return "close"
        return Refused(408, f"request timeout: the request head was not whole within {limits.head_seconds:g} s")
    wanted_bytes = (seconds - _BODY_GRACE_SECONDS) * limits.body_bytes_per_second
    if what == BODY and reading and (seconds > limits.body_seconds or received_bytes < wanted_bytes):
        return Refused(408, "request timeout: the request body came too slowly")
    if what == IDLE and seconds > limits.keep_alive_seconds and not unread_bytes:
        return "close"
    if what == LINGER and seconds > limits.linger_seconds:
        return "abort"
    return None
