from __future__ import annotations

import math
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator

import pytest

from runtime.link.board import POISONED, Board
from runtime.supervisor.vitals import Vitals


@pytest.fixture
def board() -> Board:
    return Board.create(slots=3, width=4)


def test_a_worker_that_gives_no_signs_yet_is_left_alone(board: Board) -> None:
    assert Vitals(board, 1.0).stuck(1, os.getpid()) == ""


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Callable[[float], None]:
    """Sets the time that the supervisor sees."""
    return lambda now: monkeypatch.setattr(time, "monotonic", lambda: now)


@pytest.mark.parametrize("beat", [50.0, 0.0, math.nan, math.inf, -1.0, 1e300])
def test_a_loop_may_stand_still_until_the_deadline_and_a_moment_more(
    beat: float, clock: Callable[[float], None], board: Board
) -> None:
    vitals = Vitals(board, 5.0)
    clock(100.0)
    board.signs(2).note(90.0, 0.0)
    assert vitals.stuck(2, os.getpid()) == ""
    board.signs(2).note(beat, 0.0)  # what is no time is no beat: a worker may have been taken over
    clock(101.0)
    assert vitals.stuck(2, os.getpid()) == ""
    clock(109.0)
    stuck = vitals.stuck(2, os.getpid())
    assert stuck == f"its event loop has not run for {8 if beat == 50.0 else 9} s"
    board.signs(2).note(108.5, 0.0)
    assert vitals.stuck(2, os.getpid()) == ""


@pytest.mark.parametrize(("late", "said"), [
    (0.0, ""), (98.5, ""), (97.4, "a prediction goes on 3 s after its deadline"), (math.nan, ""), (math.inf, ""),
])  # fmt: skip
def test_a_call_has_a_moment_to_end_after_its_deadline(
    late: float, said: str, clock: Callable[[float], None], board: Board
) -> None:
    clock(100.0)
    board.signs(1).note(100.0, late)
    assert Vitals(board, 5.0).stuck(1, os.getpid()) == said
    assert Vitals(board, 0.0).stuck(1, os.getpid()) == ""  # no deadline


@pytest.fixture
def stopped() -> Iterator[int]:
    process = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    os.kill(process.pid, signal.SIGSTOP)
    os.waitid(os.P_PID, process.pid, os.WSTOPPED | os.WNOWAIT)
    yield process.pid
    process.kill()
    process.communicate()


def test_a_stopped_worker_is_stuck_at_the_second_look(stopped: int, board: Board) -> None:
    vitals = Vitals(board, 0.0)
    assert [vitals.stuck(1, stopped) for _ in range(3)] == ["", *2 * ["it was stopped by a signal"]]


def poisoned(board: Board) -> set[float]:
    return {cell for cell in board.poisoned if cell}


def test_a_request_that_was_alone_is_refused_from_then_on(board: Board) -> None:
    vitals, signs = Vitals(board, 1.0), board.signs(1)
    signs.note(1.0, 1.0)
    signs.in_hand[5] = 77.0
    assert (vitals.died(1), poisoned(board)) == (1, {77.0})
    assert (signs.beat, signs.late, max(signs.in_hand)) == (0, 0, 0)
    assert (vitals.died(1), poisoned(board)) == (0, {77.0})


def test_of_several_one_that_is_there_again_is_refused(board: Board) -> None:
    vitals = Vitals(board, 1.0)
    for index, fingerprint in enumerate((3.0, 5.0, 7.0)):
        board.signs(1).in_hand[index] = fingerprint
    assert (vitals.died(1), poisoned(board)) == (0, set())
    board.signs(2).in_hand[0], board.signs(2).in_hand[1] = 5.0, 9.0
    assert (vitals.died(2), poisoned(board)) == (1, {5.0})


def test_the_board_holds_the_latest(board: Board) -> None:
    vitals = Vitals(board, 1.0)
    for fingerprint in range(1, POISONED + 3):
        board.signs(1).in_hand[0] = float(fingerprint)
        vitals.died(1)
    assert poisoned(board) == {float(number) for number in range(3, POISONED + 3)}


def test_what_is_no_fingerprint_is_passed_over(board: Board) -> None:
    board.signs(1).in_hand[0], board.signs(1).in_hand[1] = float("nan"), -1.0
    assert (Vitals(board, 1.0).died(1), poisoned(board)) == (0, set())
