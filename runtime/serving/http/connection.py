"""One HTTP/1.1 connection, from its first byte to its end.

Its reader finds requests, the door or the application answers them, its turns keep the answers in order. How it ends
is decided here: deadlines, room for others, the drain, a lingering close so that a refusal reaches a client that is
still sending.
"""

import asyncio
from typing import Final, cast

from runtime.link.metrics import reason_of
from runtime.serving.base_server import readable
from runtime.serving.http.application import ApplicationExchange
from runtime.serving.http.exchange import Exchange, Turns, rendered
from runtime.serving.http.head import LONGEST_SHORT, UNKNOWN, Head, Refused, is_plain, known
from runtime.serving.http.leaving import abort_if_gone
from runtime.serving.http.long_body import LongBody
from runtime.serving.http.reader import Reader
from runtime.serving.http.state import ANSWER, BODY, CLOSED, HEAD, IDLE, LINGER, State, look
from runtime.serving.inference import Endpoint, infer
from runtime.serving.media import Body, head_of
from runtime.serving.media import Head as MediaHead
from runtime.serving.statuses import JSON, RETRY, Response, error_body
from runtime.serving.trail import LOGGED_ID, trail

_IDLE_GRACE_SECONDS: Final = 0.25
"""An idle client's next request may be on its way when the listener closes."""
_FRESH_GRACE_SECONDS: Final = 1.0
"""So may the first request of a connection that was accepted last."""
_SLOW_BYTES_PER_SECOND: Final = 16_384
"""A body that comes slower gives way where there are too many connections."""


class Connection(asyncio.BufferedProtocol):
    """The protocol that `server.Server` gives to the event loop. `peers` are the server's open connections."""

    transport: asyncio.Transport
    turns: Turns

    def __init__(self, state: State, peers: "set[Connection]") -> None:
        self._state, self._limits, self._peers = state, state.limits, peers
        self._reader = Reader(state.limits, asked=self._ask, took=self._take, ended=self._whole)
        self._newest: Exchange | None = None
        """The request that is being read, or was read last."""
        self._direct: tuple[Endpoint, Head] | None = None
        """What answers `_newest`, where not the application does."""
        self._long: LongBody | None = None
        """The body of `_newest` while it is received, if it is a long one that is answered without the application."""
        self._known = UNKNOWN
        self._asked = self._takes_interim = False
        self._what, self._since = HEAD, state.tick
        self._unread_bytes, self._read_at = 0, state.tick
        self._deaf = False
        """True once the last answer is known: what still comes is thrown away."""
        self._thrown_bytes, self._lingers_until = 0, 0.0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Takes the connection, or says that there are too many."""
        state, peers, self.transport = self._state, self._peers, cast("asyncio.Transport", transport)
        self.turns = Turns(state, self.transport, rested=self._rest, ended=self._end)
        flow = self.flow = self.turns.flow
        self.pause_writing, self.resume_writing = flow.pause_writing, flow.resume_writing  # type: ignore[method-assign]
        peers.add(self)
        if len(peers) <= state.most_connections or state.make_room(peers):
            state.unasked[self] = None
            return
        if len(peers) <= state.most_connections + state.most_told:
            self._refuse(Refused(503, "overloaded: too many connections; try again"))
        else:
            self._deaf = True
            state.turned_away += 1
            self.transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - asyncio's signature
        """Ends what is still at work for this client."""
        self._peers.discard(self)
        self._stop_long()
        self._state.unasked.pop(self, None)
        for exchange in (self.turns.current, self._newest):
            if exchange is not None:
                exchange.leave()
        self.turns.waiting.clear()
        self._state.waiting[self.turns.place] = 0.0
        self.flow.resume_writing()
        self._reader.close()
        del self._reader, self._newest, self.turns  # they call this connection: so it needs no garbage collector

    def eof_received(self) -> bool | None:
        """Notes that the client sends no more. If it still reads, its whole requests are answered."""
        if self._what != ANSWER:
            return None
        assert self._newest is not None
        self._newest.keep_alive = False
        current = self.turns.current
        if self._takes_interim and current is not None and not current.started:
            abort_if_gone(self.transport, lambda: self._what == ANSWER)
        return True

    def get_buffer(self, sizehint: int) -> memoryview:  # noqa: ARG002 - asyncio's signature
        """Returns where the next bytes go: a long body's into its own memory."""
        return self._long.free if self._long else self._state.window

    def buffer_updated(self, nbytes: int) -> None:
        """Goes on with the bytes that have come."""
        if self._long is None:
            self._received(bytes(self._state.window[:nbytes]))
        else:
            self._received_long(nbytes)

    def _received_long(self, size: int) -> None:
        assert self._long is not None
        self._reader.received_bytes += size
        self._long.came(size)
        if self._long and not self._long.left:
            self._reader.body_left()
            self._whole()

    def _received(self, data: bytes) -> None:
        """Answers a known request at once; has anything else read."""
        known = self._known
        if len(data) == known.whole and self._what == IDLE and data.startswith(known.head):
            served = None if self.flow.write_paused else self._state.served_at(known.path)
            if served is not None:
                exchange = self._newest = Exchange(self.turns, [], keep_alive=True)
                self.turns.begin(exchange)
                exchange.more_body, self._what = False, ANSWER
                self._answer(exchange, served, known.headers, data[len(known.head) :])
                return
        if not self._deaf:
            self._read(data)
            return
        self._thrown_bytes += len(data)
        if self._thrown_bytes < self._limits.body_bytes and self._state.tick < self._lingers_until:
            self._since = self._state.tick

    def _read(self, data: bytes) -> None:
        reader, begins = self._reader, self._reader.between
        if begins:
            self._direct = None
            if len(data) < self._known.whole and self._what == IDLE and self._come_again(data):
                return
        try:
            reader.feed(data)
        except Refused as refused:
            self._refuse(refused)
        except Exception as error:  # noqa: BLE001 - whatever it is, the client gets an answer and the log the cause
            self._state.failed(error)
            self._refuse(Refused(500, "the runtime failed; its log says why"))
        else:
            if begins and self._direct and not self._deaf and (reader.between or self._long):
                head = self._direct[1]
                self._known = known(data, head, (head.length or 0) - (self._long.left if self._long else 0))
            if self._long:
                reader.leave_body()
                self._long.came(0)
            elif self._what == IDLE and not reader.between:
                self._wait_for(HEAD)

    def _come_again(self, data: bytes) -> bool:
        """Begins a long body whose head equals the last one. Returns False if it does not, or has to be looked at."""
        known, length = self._known, self._known.whole - len(self._known.head)
        if length <= LONGEST_SHORT or not data.startswith(known.head) or self.flow.write_paused:
            return False
        served = self._state.served_at(known.path)
        if served is None or not self._begin_long(served, known.headers, length):
            return False
        assert self._long is not None
        self._wait_for(BODY)
        self._newest = Exchange(self.turns, [], keep_alive=True)
        self.turns.begin(self._newest)
        self._reader.leave_body(len(data))
        self._long.put(memoryview(data)[len(known.head) :])
        self._long.came(0)
        return True

    def _begin_long(self, served: Endpoint, head: MediaHead, length: int) -> bool:
        self._long = LongBody.begun(served, head, length, self._state.bodies,
                                    lambda text: self._refuse(Refused(503, text)))  # fmt: skip
        return self._long is not None

    def _stop_long(self) -> LongBody | None:
        long, self._long = self._long, None
        if long:
            long.end()
        return long

    def _ask(self, head: Head) -> None:
        """Has a request answered, without the application where that may be.

        Of several requests in one piece of data only the first may, or a pipelining client would hold the loop; and
        none of a client that does not read its answers, which would pile up.
        """
        if self._deaf:  # the connection's last answer was given while this piece of data was being parsed
            raise Refused(400, "invalid HTTP request: after the last one")
        if not self._asked:
            self._asked = True
            self._state.unasked.pop(self, None)
        self._wait_for(BODY)
        self._takes_interim = head.version == "1.1"
        free = not (self._direct or self.turns.current or self.flow.write_paused or self._state.is_for_app(head))
        served = self._state.served_at(head.path) if free and is_plain(head, self._limits) else None
        length = head.length or 0
        if served is not None and (length <= LONGEST_SHORT or self._begin_long(served, head_of(head.headers), length)):
            self._direct = served, head
            self._newest = Exchange(self.turns, head.headers, keep_alive=head.keep_alive)
            self.turns.begin(self._newest)
            return
        self._direct = None
        exchange = self._newest = ApplicationExchange(self.turns, head)
        self.turns.add(exchange, exchange.run)

    def _take(self, piece: bytes) -> None:
        if self._long:
            self._long.put(piece)
        elif self._newest is not None and not self._newest.took(piece):
            self.flow.pause_reading()

    def _whole(self) -> None:
        exchange = self._newest
        assert exchange is not None
        exchange.ended()
        long = self._stop_long()
        if exchange.complete:
            self._wait_for(IDLE)
            return
        self._what = ANSWER
        if long and not exchange.gone:
            self._answer(exchange, long.endpoint, long.head, long.whole())
        elif self._direct and not exchange.gone:
            self._answer(exchange, self._direct[0], head_of(exchange.headers), exchange.body())

    def _answer(self, exchange: Exchange, served: Endpoint, head: MediaHead, body: Body) -> None:
        try:
            response = infer(served, head, body)
            if isinstance(response, Response):
                exchange.answer(response)
            else:
                exchange.answer_later(response)
        except Exception as error:  # noqa: BLE001 - as in _read
            exchange.fail(error)

    def _rest(self, exchange: Exchange) -> None:
        if self._reader.between:
            self._wait_for(IDLE)
        elif not exchange.more_body:  # a head has begun to come behind it
            self._wait_for(HEAD)

    def _refuse(self, refused: Refused) -> None:
        """Answers what is wrong with the request that is being read, after those before it, and ends."""
        if self._deaf:
            return
        self._deaf = True
        self._stop_long()
        newest, status, text = self._newest, refused.status, str(refused)
        reading = newest if newest is not None and newest.more_body else None
        head = dict(self._reader.headers if reading is None else reading.headers)  # of any number yet
        own_id, trace = trail(head, inputs=self._limits.log_inputs)
        self._state.log.refused(status, reason_of(status), id=own_id[:LOGGED_ID], reason=text, **trace.fields)
        if reading is not None and reading.complete:  # answered before its end: a second answer would be another's
            self._end(linger=True)
            return
        answer = Response(status, (JSON, RETRY) if status == 503 else (JSON,), error_body(text), trace.headers)
        self.turns.say_last(rendered(answer, self._state.date, keep_alive=False), reading)

    def _end(self, linger: bool) -> None:
        """Ends the connection. Where the client may still be sending, only our half of it first: unread bytes would
        reset the connection, and the answer with it."""
        linger = (linger or self._deaf) and self.transport.can_write_eof()
        self._deaf = True
        self.turns.waiting.clear()
        if not linger:
            self.close()
            return
        self._lingers_until = self._state.tick + self._limits.body_seconds
        self._wait_for(LINGER)
        self.flow.resume_reading()
        self.transport.write_eof()

    def close(self) -> None:
        """Closes once everything is written."""
        self._wait_for(CLOSED)
        self.transport.close()

    @property
    def spare_since(self) -> int | None:
        """Since when it is idle, or its client has had time to go on and has hardly done so."""
        what, tick, reader = self._what, self._state.tick, self._reader
        seconds = tick - self._since
        if self._stalls:
            return self._read_at
        slow = what == BODY and not self.flow.read_paused and reader.received_bytes < seconds * _SLOW_BYTES_PER_SECOND
        return self._since if what == IDLE or (seconds > 1 and (slow or what in (HEAD, LINGER))) else None

    @property
    def _stalls(self) -> bool:
        """True if its client does not read its answers."""
        return self._unread_bytes > 0 and self._state.tick - self._read_at > 1

    def give_way(self) -> None:
        """Ends, because there are too many connections; a client in the middle of a request gets a 503."""
        if self._stalls:
            self.transport.abort()
            return
        if self._what == BODY:
            self._refuse(Refused(503, "overloaded: too many connections, and this body came slowly; try again"))
        self.close()

    def look(self) -> None:
        """Ends what takes too long."""
        left, tick = self.transport.get_write_buffer_size(), self._state.tick
        if not left or left < self._unread_bytes:
            self._read_at = tick
            if left and self._what == IDLE:  # it is idle once it has read all
                self._since = tick
        self._unread_bytes = left
        action = look(self._limits, tick, what=self._what, since=self._since, read_at=self._read_at, unread_bytes=left,
                      received_bytes=self._reader.received_bytes, reading=not self.flow.read_paused)  # fmt: skip
        if isinstance(action, Refused):
            self._refuse(action)
        elif action == "close":
            self.close()
        elif action == "abort":
            self.transport.abort()

    def retire(self, seconds: float) -> None:
        """Closes, `seconds` after the server began to drain, unless something is under way or may be."""
        grace = _IDLE_GRACE_SECONDS if self.turns.answers else _FRESH_GRACE_SECONDS
        begun = self._what in (HEAD, BODY) and self._reader.received_bytes
        if seconds >= grace and not (begun or self.turns.busy or readable([self.transport.get_extra_info("socket")])):
            self.close()

    def _wait_for(self, what: int) -> None:
        self._what, self._since = what, self._state.tick
