"""The cache: one rename gives a blob its name, and nothing but content is believed."""

import errno
import fcntl
import json
import os
import resource
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from runtime.errors import DigestMismatch, SizeMismatch, StorageFailed
from runtime.kit.cache.store import RESUMED_BYTES, Store
from runtime.kit.format.digest import Digest
from runtime.kit.format.manifest import Descriptor, Manifest
from tests.kit.golden import golden
from tests.kit.pulling import leftovers, unverified
from tests.places import ROOT

DATA = os.urandom(700_000)
DIGEST = Digest.of(DATA)
BLOB = Descriptor("application/octet-stream", DIGEST, len(DATA), {})


def silent(position: int) -> None:
    """Progress that nobody wants."""


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "cache")


def test_what_was_added_is_handed_out_from_its_beginning(store: Store) -> None:
    positions: list[int] = []
    store.add(DIGEST, DATA)
    with store.open(BLOB, positions.append) as file:  # type: ignore[union-attr]
        assert file.read() == DATA
    assert positions == sorted(positions)
    assert positions[-1] == len(DATA)
    assert store.read(DIGEST, len(DATA)) == DATA
    assert store.blob_path(DIGEST).stat().st_mode & 0o777 == 0o444


def test_reading_makes_nothing(store: Store) -> None:
    assert store.open(BLOB, silent) is None
    assert store.read(DIGEST, 10) is None
    assert not store.root.exists()


def test_a_blob_has_no_name_until_it_is_published(store: Store) -> None:
    with store.ingest(DIGEST) as ingest:
        ingest.write(DATA)
        assert not store.blob_path(DIGEST).exists()
        assert len(leftovers(store.root)) == 1
        with ingest.publish() as file:
            assert file.read() == DATA
    assert store.blob_path(DIGEST).read_bytes() == DATA
    assert leftovers(store.root) == []


def test_what_was_not_published_is_gone(store: Store) -> None:
    with store.ingest(DIGEST) as ingest:
        ingest.write(b"some")
    assert leftovers(store.root) == []
    assert not store.blob_path(DIGEST).exists()


def test_a_beginning_that_is_long_enough_is_there_for_the_next_one_for_a_day(store: Store) -> None:
    data = os.urandom(RESUMED_BYTES)
    for beginning, kept in ((data, 1), (data[:-1], 0)):
        with store.ingest(DIGEST) as ingest:
            ingest.write(beginning)
            ingest.resumable = len(beginning) >= RESUMED_BYTES
        assert len(leftovers(store.root)) == kept
        if kept:
            with store.partial(DIGEST) as file:  # type: ignore[union-attr]
                assert file.read() == data
            Store(store.root).prepare()
            assert len(leftovers(store.root)) == 1
            os.utime(leftovers(store.root)[0], (0, 0))
            Store(store.root).prepare()
            assert leftovers(store.root) == []
    assert store.partial(DIGEST) is None


def dead_name(name: str) -> str:
    """A temporary name of a process that has ended."""
    code = f"from runtime.kit.files import temporary_name; print(temporary_name({name!r}))"
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT).stdout[
        :-1
    ]


@pytest.mark.parametrize(
    "wrong", [DATA[:-1], DATA + b"x", b"\0" + DATA[1:], b""], ids=["short", "long", "other", "empty"]
)
def test_a_blob_with_other_bytes_is_spoiled(store: Store, wrong: bytes) -> None:
    store.prepare()
    store.blob_path(DIGEST).write_bytes(wrong)
    with pytest.raises((SizeMismatch, DigestMismatch)):
        store.open(BLOB, silent)
    assert store.read(DIGEST, 10**6) is None
    store.discard(DIGEST)
    assert store.open(BLOB, silent) is None


def test_files_of_a_dead_process_are_swept_and_those_of_a_living_one_are_not(store: Store) -> None:
    store.prepare()
    for name in (f"ingest/{dead_name('hex')}", f"kits/{dead_name('.tmp-kit')}/sub/file"):
        (store.root / name).parent.mkdir(parents=True, exist_ok=True)
        (store.root / name).write_bytes(b"left")
    with store.ingest(DIGEST) as ingest:
        ingest.write(DATA)
        Store(store.root).prepare()
        assert len(leftovers(store.root)) == 1
        ingest.publish().close()
    assert leftovers(store.root) == []
    assert unverified(store.root) == []


def test_what_another_container_writes_is_not_swept_until_an_hour_after_its_last_byte(store: Store) -> None:
    """Its pids say nothing here, and its lock may not be seen; the hour is by the clock of the file system."""
    store.prepare()
    theirs = store.root / "ingest" / f"{DIGEST.hex}.00000000.1.00"
    tree = store.root / "kits" / ".tmp-kit.00000000.1.00"
    theirs.write_bytes(b"half")
    tree.mkdir()
    Store(store.root).prepare()
    assert leftovers(store.root) == [str(theirs), str(tree)]
    for path in (theirs, tree):
        os.utime(path, (time.time() - 3700,) * 2)
    Store(store.root).prepare()
    assert leftovers(store.root) == []


@pytest.mark.parametrize("number", [errno.ENOTSUP, errno.ENOLCK], ids=["never", "not now"])
def test_without_locks_only_what_was_forgotten_is_swept(
    store: Store, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    def no_locks(*_: object) -> None:
        raise OSError(number, os.strerror(number))

    store.prepare()
    process = subprocess.Popen(["true"])
    process.wait()  # its pid is nobody's, which proves nothing: on such disks the writer may be on another machine
    for name in ("old", "new"):
        (store.root / "ingest" / f"{name}.{process.pid}.00").write_bytes(b"left")
    os.utime(store.root / "ingest" / f"old.{process.pid}.00", (0, 0))
    monkeypatch.setattr(fcntl, "flock", no_locks)
    Store(store.root).add(DIGEST, DATA)
    assert [Path(path).name.partition(".")[0] for path in leftovers(store.root)] == ["new"]
    assert unverified(store.root) == []


# --- whose the folders are

STRANGER = 4242


@pytest.fixture
def as_root() -> None:
    if os.geteuid() != 0:
        pytest.skip("only root can give a folder away")


@pytest.mark.parametrize("umask", [0o000, 0o077])
def test_nobody_else_can_write_into_what_was_made_whatever_the_umask_is(tmp_path: Path, umask: int) -> None:
    root = tmp_path / "shared"
    root.mkdir()
    before = os.umask(umask)
    try:
        Store(root).prepare()
    finally:
        os.umask(before)
    assert {path.stat().st_mode & 0o022 for path in root.rglob("*")} == {0}


@pytest.mark.parametrize("where", [".", "kits", "blobs", "blobs/sha256", "ingest", "locks"])
@pytest.mark.usefixtures("as_root")
def test_a_folder_that_is_a_strangers_is_refused(store: Store, where: str) -> None:
    store.prepare()
    os.chown(store.root / where, STRANGER, STRANGER)
    with pytest.raises(
        StorageFailed,
        match=r" belongs to user 4242, wanted user 0 \(this process\) or root, or choose another .*--cache-",
    ):
        Store(store.root)


@pytest.mark.usefixtures("as_root")
def test_a_blob_that_is_a_strangers_is_spoiled(store: Store) -> None:
    store.add(DIGEST, DATA)
    os.chown(store.blob_path(DIGEST), STRANGER, STRANGER)
    assert store.read(DIGEST, len(DATA)) is None
    with pytest.raises(DigestMismatch, match=rf"^blob {DIGEST} in the cache belongs to user {STRANGER}, wanted user 0"):
        store.open(BLOB, silent)
    store.add(DIGEST, DATA)
    assert store.blob_path(DIGEST).stat().st_uid == 0
    assert store.read(DIGEST, len(DATA)) == DATA


def test_a_blob_that_a_group_may_write_to_is_spoiled_unless_it_is_a_volumes(store: Store) -> None:
    store.add(DIGEST, DATA)
    os.chown(store.blob_path(DIGEST), -1, os.getegid())
    store.blob_path(DIGEST).chmod(0o664)
    with pytest.raises(DigestMismatch, match=r"can be written by group \d+ \(mode 0664\): chmod g-w"):
        store.open(BLOB, silent)
    os.chown(store.root, -1, os.getegid())
    store.root.chmod(0o2775)
    again = Store(store.root)
    assert again.read(DIGEST, len(DATA)) == DATA
    again.open(BLOB, silent).close()  # type: ignore[union-attr]


@pytest.mark.parametrize("where", [".", "kits", "blobs"])
def test_46_a_folder_that_is_a_link_is_refused_and_not_followed(store: Store, tmp_path: Path, where: str) -> None:
    store.prepare()
    place = store.root / where
    place.rename(tmp_path / "elsewhere")
    place.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(StorageFailed, match=r"^the cache folder .* is a symbolic link, .* with --cache-dir$"):
        Store(store.root)


def test_46_a_folder_that_everybody_may_write_to_is_refused(store: Store) -> None:
    store.prepare()
    for folder in (store.root, store.root / "kits"):
        folder.chmod(0o777)
        with pytest.raises(StorageFailed) as caught:
            Store(store.root)
        assert str(caught.value) == (
            f"the cache folder {folder} can be written by everybody (mode 0777): chmod go-w {folder}, "
            "or choose another with --cache-dir"
        )
        folder.chmod(0o755)
    Store(store.root)


def test_a_cache_below_a_folder_that_everybody_may_write_to_is_refused(store: Store) -> None:
    store.prepare()
    above = store.root.parent
    above.chmod(0o777)
    with pytest.raises(StorageFailed) as caught:
        Store(store.root)
    assert str(caught.value) == (
        f"the cache folder {store.root} is in {above}, which can be written by everybody (mode 0777): chmod go-w {above}, "
        "or choose another with --cache-dir"
    )
    above.chmod(0o1777)
    Store(store.root)


def test_a_folder_that_a_group_may_write_to_is_refused_unless_it_is_a_volumes(store: Store) -> None:
    store.prepare()
    store.root.chmod(0o775)
    with pytest.raises(StorageFailed, match=r"can be written by group \d+ \(mode 0775\): chmod g-w"):
        Store(store.root)
    for folder in (store.root, *(path for path in store.root.rglob("*") if path.is_dir())):
        os.chown(folder, -1, os.getegid())
        folder.chmod(0o2775)
    Store(store.root).add(DIGEST, DATA)


@pytest.mark.parametrize("mode", [0o777, 0o2777, 0o1777], ids=["emptyDir", "emptyDir with fsGroup", "tmpfs"])
def test_a_volume_of_roots_that_everybody_may_write_to_is_a_cache_for_anybody(mounted: Path, mode: int) -> None:
    mounted.chmod(mode)
    assert _as_user(STRANGER, mounted) == "fine"
    assert (mounted / "kits").stat().st_mode & 0o022 == 0
    assert (mounted / "kits").stat().st_uid == STRANGER


def _as_user(user: int, root: Path) -> str:
    """What another user's process says of a cache."""
    for folder in (root.parent, *root.parent.parents):
        if folder.is_relative_to("/tmp") and folder != Path("/tmp") and folder.stat().st_mode & 0o777 == 0o700:
            folder.chmod(0o711)  # pytest's folders, else another user gets no farther
    code = (
        "import os, sys; from pathlib import Path; from runtime.errors import StorageFailed; from runtime.kit.cache.store import RESUMED_BYTES, Store\n"
        "os.setgid(int(sys.argv[1])); os.setuid(int(sys.argv[1]))\n"
        "try: Store(Path(sys.argv[2])).prepare(); print('fine')\n"
        "except StorageFailed as error: print(str(error).removeprefix('the cache folder '))"
    )
    command = [sys.executable, "-c", code, str(user), str(root)]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


def test_a_folder_exchanged_while_the_cache_is_made_is_refused(tmp_path: Path) -> None:
    store = Store(tmp_path / "cache")  # nothing there yet
    (tmp_path / "cache").symlink_to(tmp_path)
    with pytest.raises(StorageFailed, match="is a symbolic link"):
        store.prepare()


def test_what_cannot_be_renamed_to_its_place_is_said_and_leaves_nothing(mounted: Path) -> None:
    store = Store(mounted.parent / "cache")
    store.prepare()
    store.blob_path(DIGEST).parent.rmdir()
    subprocess.run(["mount", "--bind", str(mounted), str(_made(store.blob_path(DIGEST).parent))], check=True)
    try:
        with pytest.raises(
            StorageFailed, match=r"^the cache .* is on several file systems, wanted one; choose another"
        ):
            store.add(DIGEST, DATA)
        assert leftovers(store.root) == []
    finally:
        subprocess.run(["umount", "-l", str(store.blob_path(DIGEST).parent)], check=True)


def _made(folder: Path) -> Path:
    folder.mkdir()
    return folder


# --- the index


def _manifest(tag: str) -> Manifest:
    kit = golden("iris-onnx", tag)
    return Manifest.parse(kit.blob(kit.digest).read_bytes(), expected=None)


def _names(store: Store) -> list[tuple[str, str]]:
    entries = json.loads((store.root / "index.json").read_bytes())["manifests"]
    return [(next(iter(entry["annotations"].values())), entry["digest"]) for entry in entries]


def test_a_name_stands_once_in_the_index(store: Store) -> None:
    one, two = _manifest("v1"), _manifest("gzip")
    for name, manifest in (("h/r:v1", one), ("h/r:v2", one), ("h/r:v1", two), ("h/r:v1", two)):
        store.name(name, manifest)
    assert _names(store) == [("h/r:v2", str(one.digest)), ("h/r:v1", str(two.digest))]


def test_naming_what_is_named_writes_nothing(store: Store) -> None:
    store.name("h/r:v1", _manifest("v1"))
    before = (store.root / "index.json").stat()
    store.name("h/r:v1", _manifest("v1"))
    after = (store.root / "index.json").stat()
    assert (after.st_ino, after.st_mtime_ns) == (before.st_ino, before.st_mtime_ns)


@pytest.mark.parametrize(
    "text",
    ["", "{", "[]", "[" * 100_000, '{"manifests":5}', '{"manifests":[5]}', '{"manifests":[{"annotations":5}]}'],
    ids=["empty", "cut", "list", "deep", "number", "numbers", "no annotations"],
)
def test_an_unreadable_index_is_made_anew(store: Store, text: str) -> None:
    store.prepare()
    (store.root / "index.json").write_text(text)
    store.name("h/r:v1", _manifest("v1"))
    assert _names(store) == [("h/r:v1", str(_manifest("v1").digest))]


@pytest.mark.slow
def test_names_given_at_the_same_time_all_stay(store: Store) -> None:
    manifest = _manifest("v1")
    threads = [threading.Thread(target=Store(store.root).name, args=(f"h/r:v{n}", manifest)) for n in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert {name for name, _ in _names(store)} == {f"h/r:v{n}" for n in range(12)}


# --- locks


def test_a_lock_is_held_by_one_at_a_time(store: Store) -> None:
    inside: list[int] = []
    most: list[int] = []

    def work() -> None:
        with Store(store.root).locked("x"):
            inside.append(1)
            most.append(len(inside))
            time.sleep(0.002)
            inside.pop()

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most == [1] * 8


@pytest.mark.slow
def test_a_wait_for_a_lock_is_said_and_ends_without_it_if_nobody_writes(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("runtime.kit.cache.waiting.SAID_SECONDS", 0.0)
    monkeypatch.setattr("runtime.kit.cache.waiting.SILENT_SECONDS", 0.3)
    said: list[str] = []
    writes = iter(range(4))
    with store.locked("x"), store.ingest(DIGEST) as ingest:

        def another_writes() -> None:
            if next(writes, None) is not None:
                ingest.write(b"more")

        with Store(store.root).locked("x", another_writes, lambda event, **fields: said.append(event)):
            assert next(writes, None) is None
    assert said == ["cache.waiting"]


def test_who_waits_for_a_lock_may_give_up(store: Store) -> None:
    def give_up() -> None:
        raise InterruptedError

    with store.locked("x"), pytest.raises(InterruptedError), Store(store.root).locked("x", give_up):
        pytest.fail("two inside")
    with store.locked("x", give_up):
        pass


# --- disks that say no


@pytest.fixture
def mounted(tmp_path: Path) -> Iterator[Path]:
    """A file system of 1 MiB, writable. Needs root, as CI has."""
    folder = tmp_path / "disk"
    folder.mkdir()
    if os.geteuid() != 0:
        pytest.skip("mounting needs root")
    done = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=1m", "none", str(folder)], check=False, capture_output=True
    )
    if done.returncode:
        pytest.skip(f"this sandbox cannot mount: {done.stderr.decode().strip()}")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


def test_a_full_disk_is_said_and_leaves_nothing(mounted: Path) -> None:
    store = Store(mounted / "cache")
    with pytest.raises(
        StorageFailed, match=r"^no space left for the cache .*: free some; choose another folder with --cache"
    ):
        store.add(DIGEST, DATA * 2)
    assert leftovers(store.root) == []
    store.add(DIGEST, DATA)
    assert unverified(store.root) == []


def test_too_few_file_descriptors_are_no_fault_of_the_folder(tmp_path: Path) -> None:
    store, (soft, hard) = Store(tmp_path / "cache"), resource.getrlimit(resource.RLIMIT_NOFILE)
    store.prepare()
    resource.setrlimit(resource.RLIMIT_NOFILE, (0, hard))
    try:
        with pytest.raises(StorageFailed, match=r"Too many open files; raise RLIMIT_NOFILE \(ulimit -n\)$"):
            store.add(DIGEST, DATA)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_a_read_only_cache_is_read_and_not_written(mounted: Path) -> None:
    store = Store(mounted / "cache")
    store.add(DIGEST, DATA)
    subprocess.run(["mount", "-o", "remount,ro", str(mounted)], check=True)
    with Store(store.root).open(BLOB, silent) as file:  # type: ignore[union-attr]
        assert file.read() == DATA
    Store(store.root).add(DIGEST, DATA)
    with pytest.raises(StorageFailed, match=r"is on a read-only file system; choose another folder with --cache-dir$"):
        store.add(Digest.of(b"new"), b"new")


@pytest.mark.parametrize(
    "root",
    ["/proc/nowhere/cache", "/dev/null/cache", f"/tmp/{'x' * 300}", f"/tmp/{'y/' * 3000}c"],
    ids=["proc", "device", "long name", "long path"],
)
def test_a_cache_that_cannot_be_made_is_said(root: str) -> None:
    with pytest.raises(StorageFailed, match=rf"the cache {root}"):
        Store(Path(root)).prepare()
