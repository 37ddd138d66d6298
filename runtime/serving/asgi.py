"""ASGI on both sides of inference: bodies in, within the memory that all of them may take, and answers out."""

from __future__ import annotations

from asyncio import CancelledError, current_task
from collections.abc import Callable
from time import monotonic
from typing import TYPE_CHECKING, Final

from runtime.errors import Overloaded
from runtime.serving.media import Body, Head, announced_length, too_large
from runtime.serving.protocol.tensor_bytes import aligned

if TYPE_CHECKING:
    from starlette.types import Receive, Scope, Send

    from runtime.link.limits import Limits
    from runtime.serving.statuses import Response


SLOW: Final = "overloaded: this body came slowly, and others need its memory; try again"
_FRESH_SECONDS: Final = 2.0
"""A body is not ended for another one before."""


class ClientGone(Exception):
    """The client left before its request was whole: there is no client to answer."""


class Arrival:
    """A body that is coming, and what it holds."""

    __slots__ = ("began", "bytes", "gave_way", "give_way")

    def __init__(self, give_way: Callable[[], object]) -> None:
        """`give_way` ends it on the loop, because its memory is wanted."""
        self.give_way, self.gave_way = give_way, False
        self.bytes, self.began = 0, monotonic()


class Bodies:
    """Counts the bytes of bodies that come in more than one piece, as they come."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._in_flight = 0
        self._arriving: set[Arrival] = set()

    async def read(self, head: Head, receive: Receive, longest: int, at: int | None = None) -> Body:
        """Returns a whole body of at most `--max-body-bytes` and at most `longest` bytes, which its protocol allows; in
        memory so that its byte `at` is aligned, and may be written, unless `at` is None.
        Raises TooLarge, before anything is read where the length is announced; Overloaded if memory is short."""
        most, whose = min((self._limits.body_bytes, "--max-body-bytes"), (longest, "this protocol"))
        announced = announced_length(head)
        pieces: list[bytes] = []
        length, more = 0, True
        task = current_task()
        assert task is not None
        arrival = Arrival(task.cancel)
        try:
            while more and max(announced, length) <= most:
                if pieces:
                    self.came(arrival, length - arrival.bytes)
                message = await receive()
                if message["type"] != "http.request":
                    raise ClientGone
                pieces.append(message.get("body", b""))
                length, more = length + len(pieces[-1]), message.get("more_body", False)
        except CancelledError:
            if not arrival.gave_way:
                raise
            task.uncancel()
            raise Overloaded(SLOW) from None
        finally:
            self.ended(arrival)
        if max(announced, length) > most:
            raise too_large(most, whose)
        if at is not None:
            return aligned(pieces, at)
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    def came(self, arrival: Arrival, more: int) -> None:
        """Counts `more` bytes of a body. Raises Overloaded."""
        self.book(more, arrival.bytes)
        arrival.bytes += more
        self._arriving.add(arrival)

    def ended(self, arrival: Arrival) -> None:
        """Counts a body no longer."""
        self._arriving.discard(arrival)
        self.free(arrival.bytes)
        arrival.bytes = 0

    def book(self, more: int, own: int) -> None:
        """Counts `more` bytes for a body that has `own` already. One that is alone may be longer than the limit.
        Where memory is short, slow bodies give way. Raises Overloaded."""
        while self._in_flight > own and self._in_flight + more > self._limits.in_flight_bytes:
            if not self._make_room():
                raise Overloaded(f"overloaded: bodies in flight hold {self._in_flight} bytes; try again")
        self._in_flight += more

    def free(self, booked: int) -> None:
        """Gives bytes back."""
        self._in_flight -= booked

    def _make_room(self) -> bool:
        """Has the slowest body give way. Returns False if all began a moment ago."""
        now = monotonic()
        old = [each for each in self._arriving if now - each.began > _FRESH_SECONDS]
        if not old:
            return False
        slowest = min(old, key=lambda each: each.bytes / (now - each.began))
        self.ended(slowest)
        slowest.gave_way = True
        slowest.give_way()
        return True


def local_path(scope: Scope) -> str:
    """Returns the path below the one that the application is mounted at."""
    path, root = str(scope["path"]), scope.get("root_path")
    return path.removeprefix(root) if root and path.startswith(root + "/") else path


async def deliver(response: Response, scope: Scope, _receive: Receive, send: Send) -> None:
    """Sends a whole answer; to HEAD, without its body."""
    whole = [*response.headers, *response.variable, (b"content-length", b"%d" % response.length)]
    await send({"type": "http.response.start", "status": response.status, "headers": whole})
    pieces = (b"",) if scope["method"] == "HEAD" else (response.body, *response.tail)
    views = "modelkit.views" in scope.get("extensions", ())  # other servers want bytes, as the specification says
    for left, piece in enumerate(pieces, 1 - len(pieces)):
        body = piece if views else bytes(piece)
        await send({"type": "http.response.body", "body": body, "more_body": left < 0})
