"""Several processes, one cache; and processes that die: kill -9 at any moment leaves nothing that is wrong."""

import errno
import io
import itertools
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from runtime.errors import Cancelled, StorageFailed
from runtime.kit import bring, lane
from tests.campaign import Campaign
from tests.kit.made import made_kit
from tests.kit.pulling import AT_ONCE_SECONDS, Recorder, leftovers, pulled, tree, unverified
from tests.lying_registry import Gate, LyingRegistry, held, slow, stalled
from tests.places import ROOT

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer as Buffer

Lying = Callable[..., LyingRegistry]

FILES = {f"{name}.bin": os.urandom(size) for name, size in (("a", 900_000), ("b", 400_000), ("c", 50_000), ("d", 10))}
CHILD = """
import sys
from pathlib import Path
from tests.kit.pulling import Recorder, pulled
import runtime.kit.registry.repository
if "no-locks" in sys.argv:
    import fcntl
    fcntl.flock = lambda *_: None
print("ready", flush=True)
sys.stdin.readline()
kit = pulled(sys.argv[1], Path(sys.argv[2]), retry_budget_seconds=20.0)
print(kit.root, flush=True)
status = Path("/proc/self/status").read_text()
print(next(line.split()[1] for line in status.splitlines() if line.startswith("VmHWM")))
"""


RACER = """
import sys
from pathlib import Path
from tests.kit.pulling import pulled
import runtime.kit.registry.repository
if "no-locks" in sys.argv:
    import fcntl
    fcntl.flock = lambda *_: None
print("ready", flush=True)
for cache in sys.stdin:
    print(pulled(sys.argv[1], Path(cache.strip())).root, flush=True)
"""


class Puller:
    """A process that pulls once `go` is called. With the flag `pod` it has pids of its own, as in a container."""

    def __init__(self, reference: str, cache: Path, *flags: str, script: str = CHILD) -> None:
        pod = ["unshare", "--pid", "--fork", "--mount-proc"] if "pod" in flags and os.geteuid() == 0 else []
        self.process = subprocess.Popen(
            [*pod, sys.executable, "-c", script, reference, str(cache), *flags],
            cwd=ROOT,
            text=True,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )

    def go(self) -> None:
        assert self.hear() == "ready"
        self.tell("")

    def tell(self, line: str) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(f"{line}\n")
        self.process.stdin.flush()

    def hear(self) -> str:
        assert self.process.stdout is not None
        return self.process.stdout.readline().rstrip()

    def end(self) -> list[str]:
        """Lines it printed; fails with its traceback."""
        out, err = self.process.communicate(timeout=60)
        assert self.process.returncode == 0, err
        return out.splitlines()

    def kill(self) -> None:
        self.process.send_signal(signal.SIGKILL)
        self.process.communicate()


@pytest.fixture(scope="module")
def layout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return made_kit(tmp_path_factory.mktemp("layout"), FILES)


class Observer:
    """Looks at the cache all the time, and writes down every blob and every tree that is not what its name says."""

    def __init__(self, cache: Path) -> None:
        self.wrong: list[str] = []
        self.looks = 0
        self._cache, self._over = cache, threading.Event()
        self._thread = threading.Thread(target=self._look)

    def __enter__(self) -> "Observer":
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._over.set()
        self._thread.join()

    def _look(self) -> None:
        while not self._over.wait(0.002):
            self.looks += 1
            self.wrong += unverified(self._cache)
            trees = (self._cache / "kits").glob("[0-9a-f]*")
            self.wrong += [str(path) for path in trees if tree(path) != FILES]


@pytest.mark.slow
def test_19_kill_9_at_any_moment_leaves_verified_blobs_and_the_next_pull_completes(
    lying: Lying, layout: Path, tmp_path: Path, campaign: Campaign
) -> None:
    registry = lying(layout)
    registry.lie("/blobs/", slow(20_000, 0.001))
    chance = random.Random(20261124)
    kept: set[str] = set()
    with Observer(tmp_path) as observer:
        for _ in range(campaign(3, 100, 1_000)):
            puller = Puller(f"{registry.host}/kits/m:v1", tmp_path)
            before = len(registry.requests)
            puller.go()
            time.sleep(chance.uniform(0.0, 0.12))
            puller.kill()
            asked = {seen.path.rpartition(":")[2] for seen in registry.requests[before:]}
            assert not asked & kept, "a blob that was complete was fetched again"
            kept = {path.name for path in (tmp_path / "blobs").rglob("*") if path.is_file()}
        kit = pulled(f"{registry.host}/kits/m:v1", tmp_path)
    assert observer.wrong == []
    assert observer.looks > 25
    assert tree(kit.root) == FILES
    assert unverified(tmp_path) == leftovers(tmp_path) == []


@pytest.mark.slow
@pytest.mark.parametrize("flags", [(), ("no-locks", "pod")], ids=["locks", "pods between which locks do nothing"])
def test_33_processes_that_start_together_all_get_the_kit(
    lying: Lying, layout: Path, tmp_path: Path, flags: tuple[str, ...]
) -> None:
    registry = lying(layout)
    registry.lie("/blobs/", slow(50_000, 0.001))
    pullers = [Puller(f"{registry.host}/kits/m:v1", tmp_path, *flags) for _ in range(4)]
    with Observer(tmp_path) as observer:
        for puller in pullers:
            puller.go()
        roots = {puller.end()[0] for puller in pullers}
    assert len(roots) == 1
    assert tree(Path(roots.pop())) == FILES
    assert observer.wrong == unverified(tmp_path) == leftovers(tmp_path) == []
    if not flags:
        assert len(registry.seen("/blobs/")) == len(FILES) + 1
        assert len(registry.seen("/manifests/")) == len(pullers)


@pytest.mark.slow
@pytest.mark.parametrize("flags", [("pod",), ("no-locks", "pod")], ids=["locks", "locks that do nothing"])
def test_33_two_pods_that_race_for_a_cache_both_get_the_kit(
    lying: Lying, tmp_path: Path, memory: Path, flags: tuple[str, ...], campaign: Campaign
) -> None:
    files = {"a": os.urandom(3000), "b": b"x"}
    registry = lying(made_kit(tmp_path / "layout", files))
    racers = [Puller(f"{registry.host}/kits/m:v1", memory, *flags, script=RACER) for _ in range(2)]
    assert [racer.hear() for racer in racers] == ["ready", "ready"]
    for number in range(campaign(8, 100, 5_000)):
        cache = memory / str(number)
        for racer in racers:
            racer.tell(str(cache))
        (root,) = {racer.hear() for racer in racers}
        assert tree(Path(root)) == files
        assert unverified(cache) == leftovers(cache) == []
        shutil.rmtree(cache)
    assert [racer.end() for racer in racers] == [[], []]


@pytest.mark.slow
def test_34_when_the_one_that_downloads_is_killed_the_one_that_waits_takes_over(
    lying: Lying, layout: Path, tmp_path: Path
) -> None:
    registry, gate = lying(layout), Gate()
    registry.lie("/blobs/", lambda exchange: exchange.send(), times=1)
    registry.lie("/blobs/", stalled(5, gate), times=4)
    first = Puller(f"{registry.host}/kits/m:v1", tmp_path)
    first.go()
    assert gate.reached.wait(10)
    second = Puller(f"{registry.host}/kits/m:v1", tmp_path)
    second.go()
    first.kill()
    assert tree(Path(second.end()[0])) == FILES
    assert unverified(tmp_path) == []


@pytest.mark.slow
def test_one_that_waits_for_another_process_can_be_cancelled(lying: Lying, layout: Path, tmp_path: Path) -> None:
    registry, gate = lying(layout), Gate()
    registry.lie("/manifests/", lambda exchange: exchange.send())
    registry.lie("/blobs/", held(gate), times=1)
    first = Puller(f"{registry.host}/kits/m:v1", tmp_path)
    first.go()
    assert gate.reached.wait(10)
    waiting = threading.Event()
    timer = threading.Timer(0.3, waiting.set)
    timer.start()
    started = time.monotonic()
    with pytest.raises(Cancelled):
        pulled(f"{registry.host}/kits/m:v1", tmp_path, Recorder(stop=waiting.is_set))
    assert time.monotonic() - started < AT_ONCE_SECONDS
    assert len(registry.seen("/blobs/")) == 1
    timer.join()
    gate.open.set()
    assert first.end()


@pytest.mark.slow
def test_memory_does_not_grow_with_the_model(lying: Lying, tmp_path: Path) -> None:
    layout = made_kit(tmp_path / "layout", {"big.bin": os.urandom(1 << 20) * 96})
    registry = lying(layout)
    puller = Puller(f"{registry.host}/kits/m:v1", tmp_path / "cache")
    puller.go()
    _, peak_kilobytes = puller.end()
    assert int(peak_kilobytes) < 120_000


# --- a disk that fills up


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 4 MiB. Needs root, as CI has."""
    folder = tmp_path / "disk"
    folder.mkdir()
    if os.geteuid() != 0:
        pytest.skip("mounting needs root")
    done = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=4m", "none", str(folder)], check=False, capture_output=True
    )
    if done.returncode:
        pytest.skip(f"this sandbox cannot mount: {done.stderr.decode().strip()}")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


def test_32_a_disk_that_fills_up_in_the_middle_leaves_nothing_unfinished(
    lying: Lying, layout: Path, small_disk: Path
) -> None:
    registry, gate = lying(layout), Gate()
    registry.lie("/blobs/", lambda exchange: exchange.send(), times=1)
    registry.lie("/blobs/", stalled(5, gate), times=4)

    def fill() -> bool:
        if gate.reached.is_set() and not gate.open.is_set():
            (small_disk / "other").write_bytes(b"x" * 3_900_000)
            gate.open.set()
        return False

    cache = small_disk / "cache"
    with pytest.raises(StorageFailed, match=r"^(no space left for the cache|the disk is full: ).*--cache-dir"):
        pulled(f"{registry.host}/kits/m:v1", cache, Recorder(stop=fill))  # found before a file is begun, or in it
    assert unverified(cache) == leftovers(cache) == []
    (small_disk / "other").unlink()
    assert tree(pulled(f"{registry.host}/kits/m:v1", cache).root) == FILES


def test_a_cache_of_somebody_else_is_said() -> None:
    if os.geteuid() != 0:
        pytest.skip("becoming somebody else needs root")
    script = """
import os, sys
from pathlib import Path
import runtime.kit.disk.layout
from tests.kit.pulling import pulled
os.seteuid(65534)
try:
    pulled(sys.argv[1], Path(sys.argv[2]))
except Exception as error:
    print(type(error).__name__, error)
"""
    with tempfile.TemporaryDirectory() as text:
        folder = Path(text)
        folder.chmod(0o755)
        (folder / "cache").mkdir(mode=0o700)
        command = [sys.executable, "-c", script, f"oci:{made_kit(folder / 'layout', FILES)}:v1", str(folder / "cache")]
        done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=True)
    wanted = f"the cache {folder}/cache is not writable for user 65534; choose another folder with --cache-dir"
    assert done.stdout == f"StorageFailed {wanted}\n"


def test_a_complete_cache_on_a_read_only_disk_serves_a_pinned_kit(lying: Lying, layout: Path, small_disk: Path) -> None:
    registry, cache = lying(layout), small_disk / "cache"
    kit = pulled(f"{registry.host}/kits/m:v1", cache)
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
    assert pulled(f"{registry.host}/kits/m@{kit.digest}", cache, watch := Recorder()).root == kit.root
    assert watch.warned == ["cache.not_indexed"]
    assert pulled(f"{registry.host}/kits/m:v1", cache).root == kit.root
    with pytest.raises(StorageFailed, match="read-only file system"):
        pulled(f"{registry.host}/kits/m:v1", small_disk / "none")


@contextmanager
def failing_disk(number: int, step: int, *, for_good: bool) -> Iterator[Callable[[], bool]]:
    """The call number `step` that a pull makes to change the disk fails; `for_good`: so do all calls after it.

    Yields what tells whether there was one.
    """
    names = ("write", "fsync", "rename", "mkdir", "fchmod", "open")
    real = {name: getattr(os, name) for name in names}
    calls = itertools.count()

    def count() -> None:
        if threading.current_thread().name in ("pull", "lane", "MainThread"):  # not the registry's
            now = next(calls)
            if now == step or (for_good and now > step):
                raise OSError(number, os.strerror(number))

    def called(name: str, *arguments: object, **more: object) -> object:
        if name != "open" or int(str(arguments[1])) & os.O_CREAT:
            count()
        return real[name](*arguments, **more)

    class Raw(io.FileIO):
        def write(self, data: "Buffer", /) -> int:
            count()
            return super().write(data)

    with pytest.MonkeyPatch.context() as patch:
        for name in names:
            patch.setattr(os, name, partial(called, name))
        patch.setattr(os, "fdopen", lambda descriptor, mode: io.BufferedWriter(Raw(descriptor, mode)))
        yield lambda: next(calls) > step


@pytest.mark.slow
@pytest.mark.parametrize(
    ("number", "for_good"), [(errno.EIO, False), (errno.ENOSPC, True)], ids=["an error that passes", "a full disk"]
)
def test_32_a_disk_that_fails_at_any_step_gives_a_failure_leaves_nothing_and_the_next_pull_completes(
    number: int,
    for_good: bool,
    lying: Lying,
    tmp_path: Path,
    memory: Path,
    monkeypatch: pytest.MonkeyPatch,
    campaign: Campaign,
) -> None:
    for module in (bring, lane):
        monkeypatch.setattr(module, "SMALL_BYTES", 40_000)  # one layer goes through threads, one does not
    files = {"a.onnx": os.urandom(50_000), "b": b"x"}
    registry = lying(made_kit(tmp_path / "layout", files))
    reference, failed = f"{registry.host}/kits/m:v1", 0
    stride = campaign(4, 1, 1)
    for step in itertools.count(step=stride):
        cache = memory / str(step)
        with failing_disk(number, step, for_good=for_good) as has_failed:
            try:
                assert tree(pulled(reference, cache).root) == files
            except StorageFailed:
                failed += 1
        assert unverified(cache) == leftovers(cache) == []
        assert tree(pulled(reference, cache).root) == files
        assert leftovers(cache) == []
        if not has_failed():
            break
    assert failed * stride > 20
