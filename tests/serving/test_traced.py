"""What a traced request notes: answered on the loop and in a thread, refused, and left by its client."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable
from functools import partial
from typing import Any

import pytest

from runtime.link.limits import Limits
from runtime.link.spans import Note, Sampling, read
from runtime.serving.inference import infer
from runtime.serving.traced import TracedCall, Tracer
from tests.serving.support import BODY, Served, app_of, model
from tests.serving.test_inference import ask

TRACE, SPAN = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
PARENT = {b"traceparent": f"00-{TRACE}-{SPAN}-01".encode()}
ALL = Sampling(1.0, parent=True)


class Sent:
    """A tracer, what it sent, and what it lost; while it is `full` nothing can be sent."""

    def __init__(self, served: Served, sampling: Sampling = ALL) -> None:
        self.notes: list[Note] = []
        self.lost, self.full = 0, False
        self.tracer = Tracer(sampling, self._send, self._lose)
        served.model.begin = partial(TracedCall, self.tracer)

    def _send(self, text: str) -> None:
        if self.full:
            raise BlockingIOError
        self.notes += read(text)

    def _lose(self, count: int) -> None:
        self.lost += count


def test_an_answer_on_the_loop_notes_its_stages():
    served = app_of(model(), limits=Limits(inline_seconds=1))
    sent = Sent(served)
    answer = ask(served, head=PARENT)
    sent.tracer.flush()
    (note,) = sent.notes
    assert dict(answer.variable)[b"traceresponse"].decode() == f"00-{TRACE}-{note.span}-01"
    assert (note.trace, note.parent, note.status, note.outcome, note.rows) == (TRACE, SPAN, 200, "", 1)
    assert (note.model, note.protocol, note.bytes_in, note.queued) == ("iris", "v2_json", len(BODY), 0)
    assert 0 < note.started < note.started + note.computed + note.encoded <= note.seconds
    assert served.lines.events()[0]["span"] == note.span


def test_an_answer_of_a_thread_notes_what_it_waited():
    served = app_of(model(), warm=False)
    sent = Sent(served)
    answer = ask(served)
    sent.tracer.flush()
    (note,) = sent.notes
    assert note.parent == ""
    assert dict(answer.variable)[b"traceresponse"].decode() == f"00-{note.trace}-{note.span}-01"
    assert 0 < note.queued < note.started
    assert note.started + note.computed + note.encoded <= note.seconds


def test_a_refusal_notes_its_reason():
    served = app_of(model())
    sent = Sent(served)
    ask(served, b"{}")
    sent.tracer.flush()
    assert [(note.status, note.outcome, note.computed) for note in sent.notes] == [(400, "invalid_input", 0)]


def test_a_client_that_leaves_is_noted():
    gate, running = threading.Event(), threading.Event()

    def held(arrays: Any, wanted: Any) -> Any:
        running.set()
        assert gate.wait(20)
        return {}

    served = app_of(model(held), warm=False)
    sent = Sent(served)

    async def leave() -> None:
        answer = infer(served.endpoint, {}, BODY)
        assert isinstance(answer, Awaitable)
        task = asyncio.ensure_future(answer)
        await asyncio.to_thread(running.wait)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        gate.set()

    asyncio.run(leave())
    sent.tracer.flush()
    assert [(note.status, note.outcome) for note in sent.notes] == [(0, "abandoned")]


def test_what_is_not_chosen_leaves_no_note_and_no_header():
    served = app_of(model())
    sent = Sent(served, Sampling(0.0, parent=True))
    assert b"traceresponse" not in dict(ask(served).variable)
    ask(served, head={b"traceparent": PARENT[b"traceparent"][:-1] + b"0"})
    sent.tracer.flush()
    assert sent.notes == []


@pytest.mark.slow
def test_notes_that_cannot_be_sent_are_dropped_and_counted():
    served = app_of(model(), limits=Limits(inline_seconds=1))
    sent = Sent(served)
    for _ in range(1003):
        ask(served)
    assert sent.lost == 3
    sent.full = True
    sent.tracer.flush()
    assert (sent.lost, sent.notes) == (1003, [])
    sent.full = False
    ask(served)
    sent.tracer.flush()
    assert len(sent.notes) == 1
