import os

from runtime.link.board import Board


def test_what_one_process_writes_another_reads():
    board = Board.create(slots=3, width=10)
    other = Board(os.dup(board.fd))
    board.phase, board.progress_bytes = "pulling", (5, 2**40)
    board.slot(2)[9] = 0.5
    board.set_ready(1, True)
    assert (other.phase, other.progress_bytes, other.slot(2)[9]) == ("pulling", (5, 2**40), 0.5)
    assert other.workers_ready == 1
    assert not other.draining


def test_slots_do_not_overlap():
    board = Board.create(slots=3, width=4)
    for slot in range(3):
        board.slot(slot)[:] = memoryview(bytes(bytearray(32))).cast("d") if slot == 1 else board.slot(slot)
        board.slot(slot)[0] = board.slot(slot)[3] = float(slot + 1)
    assert [(board.slot(i)[0], board.slot(i)[3]) for i in range(3)] == [(1, 1), (2, 2), (3, 3)]
    assert board.workers_ready == 0
