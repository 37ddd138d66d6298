"""One request and its answer, and the order of the answers on a connection; `application.py` adds what ASGI needs."""

import asyncio
import http
import time
from collections import deque
from collections.abc import Callable, Coroutine, Iterable
from functools import lru_cache, partial
from typing import Any, Final

from runtime.serving.http.flow import Flow, addresses
from runtime.serving.http.head import Headers, Refused
from runtime.serving.http.state import State
from runtime.serving.inference import Later
from runtime.serving.statuses import JSON, Header, Response, check_lines, error_body

_PHRASES: Final = {status.value: status.phrase for status in http.HTTPStatus}
STATUS_LINES: Final = {code: f"HTTP/1.1 {code} {_PHRASES.get(code, '')}\r\n".encode() for code in range(200, 600)}
FAILED: Final = Response(500, (JSON,), error_body("the runtime failed; its log says why"))


class Exchange:
    """Collects a request's body and writes its answer in one piece."""

    __slots__ = ("_pieces", "_turns", "complete", "gone", "headers", "keep_alive", "more_body", "pending", "started")

    def __init__(self, turns: "Turns", headers: Headers, *, keep_alive: bool) -> None:
        self._turns, self.headers, self.keep_alive = turns, headers, keep_alive
        self.more_body, self.gone = True, False
        self.started = self.complete = False
        """Whether the answer's head is written, and whether all of it is."""
        self.pending: asyncio.Future[Any] | None = None
        """What is cancelled if the client leaves."""
        self._pieces: list[bytes] = []

    def took(self, piece: bytes) -> bool:
        """Keeps a piece of the body. Returns False if that is enough for now."""
        self._pieces.append(piece)
        return True

    def ended(self) -> None:
        """Notes that the body is whole."""
        self.more_body = False

    def body(self) -> bytes:
        """Returns what has come of the body."""
        return self._pieces[0] if len(self._pieces) == 1 else b"".join(self._pieces)

    def leave(self) -> None:
        """Gives up: the client is gone, or was told already."""
        self.gone = True
        if self.pending is not None:  # once a task has begun: what it awaits has an account to close
            asyncio.get_running_loop().call_soon(self.pending.cancel)

    def answer_later(self, later: Later) -> None:
        """Writes an answer when it is there."""
        computed = self.pending = later.computed
        self._turns.state.pending.add(computed)
        computed.add_done_callback(partial(self._computed, later))

    def _computed(self, later: Later, computed: asyncio.Future[Response]) -> None:
        self.pending = None  # or the connection would keep the answer until its next request
        self._turns.state.pending.discard(computed)
        try:
            response = later.take()
            if response is not None:
                self.answer(response)
        except Exception as error:  # noqa: BLE001 - whatever it is, the client gets an answer and the log the cause
            self.fail(error)

    def fail(self, error: Exception) -> None:
        """Logs a fault of ours, and answers without its cause."""
        self._turns.state.failed(error)
        if self.complete:  # the fault came behind the answer: who knows what the connection would do next
            self._turns.transport.abort()
        else:
            self.answer(FAILED)

    def answer(self, response: Response) -> None:
        """Writes a whole answer."""
        if self.gone:
            return
        turns = self._turns
        if self.keep_alive and turns.ends_next():
            self.keep_alive = False
        whole = rendered(response, turns.state.date, keep_alive=self.keep_alive)
        self.started = self.complete = True
        turns.state.waiting[turns.place] = 0.0
        if response.tail:
            turns.transport.writelines((whole, *response.tail))
        else:
            turns.transport.write(whole)
        turns.answered(self)


class Turns:
    """Has the requests of a connection answered one after another, as they came, and then perhaps a refusal.

    When all are answered, `rested` hears of the last one. `ended` hears that the connection has to end, and whether
    the client may still be sending.
    """

    def __init__(self, state: State, transport: asyncio.Transport, *, rested: Callable[[Exchange], None],
                 ended: Callable[[bool], None]) -> None:  # fmt: skip
        self.state, self.transport, self.flow = state, transport, Flow(transport)
        self.addresses = addresses(transport)
        descriptor = transport.get_extra_info("socket").fileno()
        self.place = descriptor if descriptor < len(state.waiting) else 0
        """In `State.waiting`."""
        self._rested, self._ended = rested, ended
        self.current: Exchange | None = None
        self.waiting: deque[tuple[Exchange, Callable[[], Coroutine[Any, Any, None]]]] = deque()
        """Pipelined requests behind `current`, and what will answer them."""
        self.answers = 0
        self._last_words = b""

    @property
    def busy(self) -> bool:
        """Whether something has yet to be answered."""
        return bool(self.current or self.waiting or self._last_words)

    def add(self, exchange: Exchange, work: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """Has `work` answer `exchange` when its turn comes. Raises Refused."""
        if self.current is None:
            self.begin(exchange)
            self.run(exchange, work())
        elif len(self.waiting) < self.state.limits.pipelined:
            self.flow.pause_reading()
            self.waiting.append((exchange, work))
        else:
            raise Refused(400, f"too many pipelined requests: more than {self.state.limits.pipelined} wait")

    def begin(self, exchange: Exchange) -> None:
        """Notes that `exchange` is the next to be answered."""
        self.current = exchange
        self.state.waiting[self.place] = time.monotonic()

    def run(self, exchange: Exchange, work: Coroutine[Any, Any, None]) -> None:
        """Starts `work`, which will answer `exchange`."""
        task = exchange.pending = asyncio.get_running_loop().create_task(work)
        self.state.pending.add(task)
        task.add_done_callback(self.state.pending.discard)

    def answered(self, exchange: Exchange) -> None:
        """Goes on after an answer: to the next request, or to the end."""
        self.answers += 1
        self.current = None
        if self.transport.is_closing():
            return
        if not exchange.keep_alive:
            self._ended(exchange.more_body or bool(self.waiting))
        elif self.waiting:  # reading goes on when none waits any more, or a client could pile them up
            self.add(*self.waiting.popleft())
        else:
            self.flow.resume_reading()
            if self._last_words:
                self._say_last_words()
            else:
                self._rested(exchange)

    def ends_next(self) -> bool:
        """Returns True if the answer that is about to be written should be the last."""
        state = self.state
        return (state.closing or state.health.draining) and not self.waiting and not self._last_words

    def say_last(self, words: bytes, instead_of: Exchange | None) -> None:
        """Writes `words` when all before them is answered, and ends."""
        self._last_words = words
        if instead_of is not None:
            instead_of.leave()
            if self.waiting and self.waiting[-1][0] is instead_of:
                self.waiting.pop()
            elif instead_of is self.current and not instead_of.started:
                self.current = None
            elif instead_of is self.current:  # a refusal behind half an answer could not be read
                self.transport.abort()
        if not (self.current or self.waiting):
            self._say_last_words()

    def _say_last_words(self) -> None:
        self.transport.write(self._last_words)
        self._last_words = b""
        self._ended(True)


def rendered(response: Response, date: bytes, *, keep_alive: bool) -> bytes:
    """Returns an answer's bytes without its tail (https://www.rfc-editor.org/rfc/rfc9112#section-4); `date` is a whole
    line."""
    status, headers, body, variable, tail = response
    end = b"\r\n\r\n" if keep_alive else b"\r\nconnection: close\r\n\r\n"
    length = b"content-length: %d" % (response.length if tail else len(body))
    more = _lines(variable) if variable else b""
    return b"".join((STATUS_LINES[status], date, _constant_lines(headers), more, length, end, body))


@lru_cache(maxsize=256)
def _constant_lines(headers: tuple[Header, ...]) -> bytes:
    """Returns head lines that many answers share. They have no value of a request, or each would take a place here."""
    check_lines(headers)
    return _lines(headers)


def _lines(headers: Iterable[Header]) -> bytes:
    return b"".join(b"%b: %b\r\n" % header for header in headers)
