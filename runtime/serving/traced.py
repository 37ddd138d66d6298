"""Requests that are traced: what of them becomes spans. Imported where a collector is asked for."""

import os
from collections.abc import Callable
from time import perf_counter, time_ns
from typing import Final

from runtime.link.spans import LONGEST_ID, MOST_NOTES, Note, Sampling, write
from runtime.serving.inference import Call
from runtime.serving.media import Body, Head
from runtime.serving.protocol.codec import Codec
from runtime.serving.served import Served
from runtime.serving.statuses import Response
from runtime.serving.trail import TRACE, Trail

_MOST_WAITING: Final = 1000
"""Notes that wait to be sent; further requests are not traced."""
_PARENT, _FLAGS = slice(36, 52), slice(53, 55)  # in a traceparent of version 00


class Tracer:
    """Collects notes, and sends them when asked. Everything is called on the event loop."""

    def __init__(self, sampling: Sampling, send: Callable[[str], None], lost: Callable[[int], None]) -> None:
        """`send` raises OSError if the reader is too slow; `lost` is told how many notes were lost."""
        self.sampling, self._send, self._lost = sampling, send, lost
        self._notes: list[Note] = []

    def note(self, note: Note) -> None:
        """Keeps a note until it is sent."""
        if len(self._notes) < _MOST_WAITING:
            self._notes.append(note)
        else:
            self._lost(1)

    def flush(self) -> None:
        """Sends all notes."""
        notes, self._notes = self._notes, []
        for start in range(0, len(notes), MOST_NOTES):
            some = notes[start : start + MOST_NOTES]
            try:
                self._send(write(some))
            except OSError:
                self._lost(len(some))


class TracedCall(Call):
    """A call that leaves a note, if it is among those that are traced."""

    __slots__ = ("_parent", "_tracer")

    def __init__(self, tracer: Tracer, served: Served, codec: Codec, head: Head, body: Body,
                 seconds: float | None = None) -> None:  # fmt: skip
        super().__init__(served, codec, head, body, seconds)
        self._parent, told, fields = "", None, self.trail.fields if self.trail else {}
        if "trace" in fields:
            self._parent, told = head[TRACE][_PARENT].decode(), int(head[TRACE][_FLAGS], 16) & 1 == 1
        trace = fields.get("trace") or os.urandom(16).hex()
        self._tracer = tracer if tracer.sampling.takes(trace, told=told) else None
        if self._tracer and not self._parent:  # the trace begins here
            span = os.urandom(8).hex()
            headers = ((b"traceresponse", f"00-{trace}-{span}-01".encode()),)
            self.trail = Trail(
                {**fields, "trace": trace, "span": span}, (self.trail.headers if self.trail else ()) + headers
            )

    def answered(self, response: Response) -> Response:
        """Closes the account of a request that has its answer."""
        self._note(response.status, "")
        return super().answered(response)

    def abandoned(self) -> None:
        """Closes the account of a request whose client has left: there is no answer."""
        super().abandoned()
        self._note(0, "abandoned")

    def refused(self, error: Exception) -> Response:
        """Closes the account of a request that fails, with the answer that says why."""
        response = super().refused(error)
        self._note(self.failed.http, self.failed.reason)
        return response

    def _note(self, status: int, outcome: str) -> None:
        if self._tracer is None or self.trail is None:
            return
        seconds, fields = perf_counter() - self.arrived, self.trail.fields
        computed, encoded = getattr(self, "computed", 0.0), getattr(self, "encoded", 0.0)
        started = getattr(self, "started", self.arrived) - self.arrived
        began = time_ns() - int(seconds * 1e9)
        self._tracer.note(Note(fields["trace"], fields["span"], self._parent, began, seconds, self.queued, started,
                               computed, encoded, self.rows, self.body_bytes, status, outcome, self._served.name,
                               self.codec.name, self.id[:LONGEST_ID]))  # fmt: skip
