from __future__ import annotations

import pytest

from runtime.errors import Poisoned
from runtime.link.board import IN_HAND, Board
from runtime.link.meter import Meter
from runtime.link.metrics import OFFSETS, WIDTH
from runtime.serving.in_hand import InHand

BODY = b'{"inputs": []}'


@pytest.fixture
def board() -> Board:
    return Board.create(slots=2, width=WIDTH)


def made(board: Board) -> InHand:
    return InHand(board, board.signs(1), Meter(board.slot(1)))


def on_board(board: Board) -> list[float]:
    return [cell for cell in board.signs(1).in_hand if cell]


def test_a_request_is_on_the_board_until_it_is_answered_and_no_suspect_afterwards(board: Board) -> None:
    in_hand = made(board)
    mark = in_hand.take(BODY)
    assert on_board(board) == [mark[0]]
    in_hand.answered(mark)
    assert on_board(board) == []
    again = in_hand.take(BODY)
    assert (again[0], on_board(board)) == (mark[0], [])
    in_hand.answered(again)
    other = in_hand.take(b"another")
    in_hand.left(other, late=False)
    assert on_board(board) == []


def test_a_late_one_stays_while_it_may_run(board: Board) -> None:
    in_hand = made(board)
    in_hand.left(in_hand.take(BODY), late=True)
    in_hand.look(late=True)
    assert len(on_board(board)) == 1
    in_hand.look(late=False)
    assert on_board(board) == []


def test_a_poisoned_one_is_refused_and_counted(board: Board) -> None:
    in_hand = made(board)
    board.poisoned[3] = in_hand.take(BODY)[0]
    in_hand.look(late=False)
    for _ in range(2):
        with pytest.raises(Poisoned):
            in_hand.take(memoryview(BODY))
    in_hand.take(b"another")
    assert board.slot(1)[OFFSETS["runtime_poisoned_requests_total"]] == 2


def test_long_bodies_differ_in_their_ends_or_length(board: Board) -> None:
    in_hand, size = made(board), 2**20
    bodies = (bytes(size), bytes(size + 1), b"x" + bytes(size - 1), bytes(size - 1) + b"x")
    assert len({in_hand.take(body)[0] for body in bodies}) == 4


def test_more_than_there_is_room_for_replace_the_oldest(board: Board) -> None:
    in_hand = made(board)
    marks = [in_hand.take(bytes([number])) for number in range(IN_HAND + 2)]
    for mark in marks:
        in_hand.left(mark, late=False)
    assert on_board(board) == []
