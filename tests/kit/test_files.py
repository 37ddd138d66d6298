"""What is done with files, whatever stands in their place."""

from __future__ import annotations

import errno
import os
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from runtime.errors import DigestMismatch, SizeMismatch, StorageFailed
from runtime.kit.files import (
    NewFile,
    NotPlain,
    free_bytes,
    is_abandoned,
    locked,
    open_lock,
    open_plain,
    pid_space,
    read_checked,
    remove,
    require_room,
    temporary_name,
    write_whole,
)
from runtime.kit.format.digest import Digest, DigestCheck
from tests.descriptors import open_descriptors

DATA = os.urandom(700_000)


def _socket(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(path))


NOT_PLAIN: dict[str, tuple[Callable[[Path], object], str]] = {
    "link": (lambda path: path.symlink_to("/etc/passwd"), "is a symbolic link"),
    "fifo": (os.mkfifo, "is not a regular file"),
    "socket": (_socket, "is not a regular file"),
    "folder": (Path.mkdir, "is not a regular file"),
}


@pytest.mark.slow
@pytest.mark.parametrize(("make", "what"), NOT_PLAIN.values(), ids=NOT_PLAIN)
def test_only_a_regular_file_is_opened(make: Callable[[Path], object], what: str, tmp_path: Path) -> None:
    make(tmp_path / "x")
    before = open_descriptors()
    with pytest.raises(NotPlain) as caught:
        open_plain(tmp_path / "x")
    assert caught.value.strerror == what
    assert open_descriptors() <= before
    with pytest.raises(FileNotFoundError):
        open_plain(tmp_path / "y")


def test_a_link_is_followed_if_asked(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(DATA)
    (tmp_path / "link").symlink_to("file")
    with open_plain(tmp_path / "link", follow=True) as file:
        assert file.read() == DATA


@pytest.mark.parametrize(
    ("found", "error"),
    [(DATA, None), (DATA[:-1], SizeMismatch), (DATA + b"x", SizeMismatch), (DATA[::-1], DigestMismatch)],
    ids=["right", "short", "long", "other"],
)
def test_what_is_read_is_compared(found: bytes, error: type[Exception] | None, tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(found)
    positions: list[int] = []
    check = DigestCheck(Digest.of(DATA), len(DATA), "it")
    with open_plain(tmp_path / "x") as file:
        if error is not None:
            with pytest.raises(error):
                read_checked(file, check, positions.append)
            return
        read_checked(file, check, positions.append)
        assert file.read() == DATA
    assert positions == sorted(positions)
    assert positions[-1] == len(DATA)


def test_a_file_has_no_name_until_it_is_whole(tmp_path: Path) -> None:
    target, beside = tmp_path / "target", tmp_path / "beside"
    beside.mkdir()
    with NewFile(target, beside) as file:
        file.write(DATA)
        assert not target.exists()
        assert len(list(beside.iterdir())) == 1
        with file.publish(0o640) as published:
            assert published.read() == DATA
    assert target.stat().st_mode & 0o777 == 0o640
    with NewFile(target, beside) as file:
        file.write(b"other")
    assert target.read_bytes() == DATA
    assert list(beside.iterdir()) == []


def test_a_small_file_is_replaced_as_a_whole(tmp_path: Path) -> None:
    for data in (b"one", b"two"):
        write_whole(tmp_path / "x", data, beside=tmp_path)
    assert [(path.name, path.read_bytes()) for path in tmp_path.iterdir()] == [("x", b"two")]


def test_a_file_is_abandoned_once_its_writer_is_dead(tmp_path: Path) -> None:
    code = "import sys; from runtime.kit.files import temporary_name; print(temporary_name('x'))"
    name = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip()
    (tmp_path / name).write_bytes(b"left")
    assert is_abandoned(tmp_path / name)
    (tmp_path / temporary_name("mine")).touch()
    assert not is_abandoned(next(tmp_path.glob("mine.*")))
    os.utime(next(tmp_path.glob("mine.*")), (0, 0))
    assert is_abandoned(next(tmp_path.glob("mine.*")))
    with locked(open_lock(next(tmp_path.glob("mine.*"))), lambda: None):
        assert not is_abandoned(next(tmp_path.glob("mine.*")))


def test_pids_are_told_apart_by_where_they_count_and_where_nothing_says_it_by_process(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def unreadable(_: Path) -> str:
        raise PermissionError

    assert pid_space.__wrapped__() == pid_space.__wrapped__()
    monkeypatch.setattr(Path, "read_text", unreadable)
    assert pid_space.__wrapped__() != pid_space.__wrapped__()


def test_who_waits_for_a_lock_may_give_up(tmp_path: Path) -> None:
    def give_up() -> None:
        raise InterruptedError

    for path in (tmp_path, tmp_path / "lock"):
        with locked(open_lock(path), give_up):
            waiting = open_lock(path)
            with pytest.raises(InterruptedError), locked(waiting, give_up):
                pytest.fail("two inside")
            with pytest.raises(OSError, match=os.strerror(errno.EBADF)):
                os.fstat(waiting)


def test_anything_is_removed(tmp_path: Path) -> None:
    (tmp_path / "folder" / "inside").mkdir(parents=True)
    (tmp_path / "link").symlink_to("folder")
    for name in ("link", "folder", "nothing"):
        remove(tmp_path / name)
    assert list(tmp_path.iterdir()) == []


def test_room_is_looked_for_where_a_folder_will_be(tmp_path: Path) -> None:
    assert free_bytes(tmp_path / "a" / "b") > 0
    require_room(tmp_path / "a", 1, "it", "make room")
    with pytest.raises(
        StorageFailed, match=rf"^folder '{tmp_path}/a' has \d+ bytes free, it needs {1 << 60}; make room$"
    ):
        require_room(tmp_path / "a", 1 << 60, "it", "make room")
