"""What is done with a connection that waits: a function of values, no clock and no socket."""

from __future__ import annotations

import pytest

from runtime.link.limits import Limits
from runtime.serving.http.head import Refused
from runtime.serving.http.state import ANSWER, BODY, CLOSED, HEAD, IDLE, LINGER, look

LIMITS = Limits(
    head_seconds=10,
    body_seconds=60,
    body_bytes_per_second=1000,
    keep_alive_seconds=75,
    linger_seconds=5,
    unread_seconds=60,
)
BEGAN = 100


def after(
    seconds: int, what: int, received: int = 0, *, reading: bool = True, unread: int = 0, read: int | None = None
):
    """What is done `seconds` after the wait began; the client last read `read` seconds after it began."""
    read_at = BEGAN + (seconds if read is None else read)
    action = look(LIMITS, BEGAN + seconds, what=what, since=BEGAN, received_bytes=received, reading=reading,
                  unread_bytes=unread, read_at=read_at)  # fmt: skip
    return action.status if isinstance(action, Refused) else action


@pytest.mark.parametrize(
    ("seconds", "what", "received", "done"),
    [
        pytest.param(10, HEAD, 5, None, id="a head in time"),
        pytest.param(11, HEAD, 5, 408, id="a head that is late"),
        pytest.param(11, HEAD, 0, "close", id="a client that says nothing"),
        pytest.param(5, BODY, 0, None, id="a body may begin late"),
        pytest.param(8, BODY, 2999, 408, id="a slow body"),
        pytest.param(8, BODY, 3000, None, id="a body just fast enough"),
        pytest.param(61, BODY, 10**9, 408, id="a body that takes too long"),
        pytest.param(10**6, ANSWER, 0, None, id="an answer takes what the deadline of the call allows"),
        pytest.param(75, IDLE, 0, None, id="idle"),
        pytest.param(76, IDLE, 0, "close", id="idle for too long"),
        pytest.param(5, LINGER, 0, None, id="lingering"),
        pytest.param(6, LINGER, 0, "abort", id="lingering for too long"),
        pytest.param(10**6, CLOSED, 0, None, id="closed, and all is read"),
    ],
)
def test_who_keeps_the_server_waiting(seconds, what, received, done):
    assert after(seconds, what, received) == done


def test_a_body_that_is_not_read_cannot_be_slow():
    assert after(61, BODY, 0, reading=False) is None


@pytest.mark.parametrize("what", [HEAD, BODY, ANSWER, IDLE, LINGER, CLOSED])
def test_who_reads_nothing_of_its_answers_is_broken_off(what):
    assert after(200, what, 10**9, unread=1, read=139) == "abort"


def test_who_still_reads_is_not_idle():
    assert after(76, IDLE, unread=1, read=70) is None
