import fcntl
import math
import mmap
import os

import pytest

from runtime.link.board import Board
from runtime.link.meter import Meter
from runtime.link.metrics import WIDTH
from runtime.serving.accounts import Account
from runtime.serving.scrape import render
from tests.serving.support import PROVENANCE

GARBAGE = [math.nan, math.inf, -math.inf, 1e300, -1.0, 1e12, 0.5]


OPEN = []


@pytest.fixture(autouse=True)
def nothing_left_open():
    yield
    while OPEN:
        os.close(OPEN.pop())


def created(**sizes):
    board = Board.create(**sizes)
    OPEN.extend(board.files)
    return board


def as_a_worker(board):
    other = Board(*(os.dup(file) for file in board.files))
    OPEN.extend(other.files)
    return other


def test_what_the_supervisor_writes_workers_read():
    board = created(slots=3, width=10, models=2)
    other = as_a_worker(board)
    first, second = board.models
    first.phase = "pulling"
    first.note_bytes(5, 2**40)
    second.phase = "ready"
    first.set_ready(1, True)
    second.set_ready(1, True)
    second.set_ready(2, True)
    assert [model.phase for model in other.models] == ["pulling", "ready"]
    assert [model.workers_ready for model in other.models] == [1, 2]
    assert other.models[0].progress_bytes == (5, 2**40)
    assert other.workers_ready == 1
    assert not other.draining
    board.draining = True
    assert other.draining
    board.slot(0)[9], other.slot(2)[9] = 0.25, 0.5
    assert (other.slot(0)[9], board.slot(2)[9]) == (0.25, 0.5)


def test_slots_do_not_overlap():
    board = created(slots=3, width=4)
    for slot in range(3):
        board.slot(slot)[:] = memoryview(bytearray(32)).cast("d")
        board.slot(slot)[0] = board.slot(slot)[3] = float(slot + 1)
    assert [(board.slot(i)[0], board.slot(i)[3]) for i in range(3)] == [(1, 1), (2, 2), (3, 3)]
    assert board.workers_ready == 0
    assert (board.models[0].phase, board.draining) == ("starting", False)


@pytest.mark.parametrize("index", [0, 1])
@pytest.mark.parametrize("size", [0, 8, 2**20])
def test_a_worker_cannot_change_the_size(index, size):
    board = created(slots=3, width=4)
    with pytest.raises(PermissionError):
        os.truncate(board.files[index], size)
    with pytest.raises(PermissionError):
        fcntl.fcntl(board.files[index], fcntl.F_ADD_SEALS, fcntl.F_SEAL_WRITE)


def test_a_worker_cannot_write_what_the_supervisor_says():
    board = created(slots=3, width=4)
    control = os.open(f"/proc/self/fd/{board.files[0]}", os.O_RDWR)
    with pytest.raises(PermissionError):
        mmap.mmap(control, 0)
    with pytest.raises(PermissionError):
        os.pwrite(control, b"\xff" * 8, 0)
    with pytest.raises(TypeError):
        as_a_worker(board).models[0].phase = "ready"
    board.models[0].phase = "ready"  # the supervisor still can
    assert as_a_worker(board).models[0].phase == "ready"
    os.close(control)


@pytest.mark.parametrize("garbage", GARBAGE)
def test_readers_take_any_content(garbage):
    """As on a kernel without F_SEAL_FUTURE_WRITE, where a worker could write into the control block."""
    board = created(slots=3, width=WIDTH)
    for cells in (board._control[3:], board._metrics):
        for index in range(len(cells)):
            cells[index] = garbage
    other = as_a_worker(board)
    assert other.models[0].phase in ("starting", "failed", "ready", "loading", "pulling")
    assert min(other.models[0].progress_bytes) >= 0
    assert 0 <= other.workers_ready <= 3
    assert isinstance(other.draining, bool)
    text = render(other, [PROVENANCE], ["v2_json"]).decode()
    assert not {"NaN", "+Inf", "-Inf"} & {line.rpartition(" ")[2] for line in text.splitlines()}


@pytest.mark.parametrize("garbage", [math.nan, math.inf, -math.inf, 1e300, -1.0])
def test_the_next_owner_of_a_spoilt_slot_counts_from_0(garbage):
    board = created(slots=2, width=WIDTH)
    slot = board.slot(1)
    for index in range(WIDTH):
        slot[index] = garbage
    account = Account(Meter(slot), 0)
    account.answered(0.001, 0.0, 0.0005, 0.0004, 0.0001, 5, 1, 1)
    account.settle()
    assert 'runtime_rows_total{model="iris"} 5.0' in render(board, [PROVENANCE], ["v2_json"]).decode()
