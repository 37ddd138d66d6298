"""What the cache keeps: kits that are in use, and those used last."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from runtime.errors import NotFound
from runtime.kit.cache.keeping import blob_bytes, evict, held_kits, remove_unnamed, total_bytes
from runtime.kit.cache.store import Store
from runtime.kit.format.digest import Digest
from tests.commands.forked import run
from tests.kit.cache.test_store import dead_name
from tests.kit.made import made_kit
from tests.kit.pulling import Recorder, pulled, tree
from tests.lying_registry import LyingRegistry
from tests.places import KITS, ROOT

Lying = Callable[..., LyingRegistry]
PULL = """
import sys
from pathlib import Path
from tests.kit.pulling import pulled
kits = [pulled(reference, Path(sys.argv[1])) for reference in sys.argv[2:]]
if sys.stdin.readline() == "kept\\n":
    print("in use", flush=True)
    sys.stdin.readline()
"""


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory):
    """Three kits with a layer of 100 kB each, and one that they share."""
    layout = tmp_path_factory.mktemp("layout")
    for name in ("one", "two", "three"):
        made_kit(layout, {f"{name}.onnx": os.urandom(100_000), "shared": b"x" * 10_000}, tag=name)
    with LyingRegistry(layout) as registry:
        yield registry


def pull_and_end(registry: LyingRegistry, cache: Path, *names: str) -> None:
    """Pulls kits in a process that is over then, and so uses none of them."""
    references = [f"{registry.host}/kits/m:{name}" for name in names]
    subprocess.run([sys.executable, "-c", PULL, str(cache), *references], input="", text=True, cwd=ROOT, check=True)
    for age, name in enumerate(reversed(names)):
        digest = next(kit.digest for kit in held_kits(Store(cache)) if kit.names[0].endswith(f":{name}"))
        os.utime(cache / "locks" / f"use-{digest.hex}", (1e9 - age, 1e9 - age))


def held(cache: Path) -> list[str]:
    return [kit.names[0].rpartition(":")[2] for kit in held_kits(Store(cache))]


@pytest.mark.slow
def test_the_kits_used_longest_ago_go_first_and_what_others_need_stays(registry: LyingRegistry, tmp_path: Path) -> None:
    pull_and_end(registry, tmp_path, "one", "two", "three")
    store = Store(tmp_path)
    assert held(tmp_path) == ["one", "two", "three"]
    assert [kit.digest for kit in evict(store, total_bytes(store) - 1)] != []
    assert held(tmp_path) == ["two", "three"]
    assert len(blob_bytes(store)) == 3 * 2 + 1  # manifest, config, layer; and what they share
    before = len(registry.requests)
    assert "shared" in tree(pulled(f"{registry.host}/kits/m:two", tmp_path, pull="never").root)
    assert len(registry.requests) == before


def test_a_kit_that_somebody_put_there_and_nobody_used_stays(tmp_path: Path) -> None:
    store = Store(made_kit(tmp_path / "layout", {"m/a": b"a" * 1000}))
    assert [(kit.used, kit.in_use) for kit in held_kits(store)] == [(0.0, False)]
    assert evict(store, 1) == []
    assert not (store.root / "locks").exists()


@pytest.mark.slow
def test_a_pull_makes_room_for_its_kit_but_never_takes_one_that_is_in_use(
    registry: LyingRegistry, tmp_path: Path
) -> None:
    pull_and_end(registry, tmp_path, "one", "two")
    command = [sys.executable, "-c", PULL, str(tmp_path), f"{registry.host}/kits/m:one"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT) as user:
        assert user.stdin is not None
        assert user.stdout is not None
        user.stdin.write("kept\n")
        user.stdin.flush()
        assert user.stdout.readline() == "in use\n"
        kit = pulled(f"{registry.host}/kits/m:three", tmp_path, watch := Recorder(), cache_max_bytes=500_000)
        assert sorted(held(tmp_path)) == ["one", "three"]
        assert watch.warnings == []
        assert pulled(f"{registry.host}/kits/m:three", tmp_path, watch := Recorder(), cache_max_bytes=1000) == kit
        assert sorted(held(tmp_path)) == ["one", "three"]
        assert watch.warned == ["cache.too_large"]


@pytest.mark.parametrize("policy", ["missing", "never"])
def test_04_a_tag_that_the_cache_knows_is_not_asked_for(registry: LyingRegistry, tmp_path: Path, policy: str) -> None:
    kit = pulled(f"{registry.host}/kits/m:one", tmp_path)
    before = len(registry.requests)
    assert pulled(f"{registry.host}/kits/m:one", tmp_path, pull=policy) == kit
    assert len(registry.requests) == before


def test_never_says_what_is_missing_and_asks_nobody(registry: LyingRegistry, tmp_path: Path) -> None:
    before = len(registry.requests)
    with pytest.raises(
        NotFound, match=r"m:one is not whole in the cache .*--pull never \(or --offline\) asks no registry"
    ):
        pulled(f"{registry.host}/kits/m:one", tmp_path, pull="never")
    assert len(registry.requests) == before
    assert pulled(f"{registry.host}/kits/m:one", tmp_path, pull="missing").root.exists()


def test_47_by_stat_a_tree_is_read_only_if_it_looks_otherwise_than_at_its_last_check(
    registry: LyingRegistry, tmp_path: Path
) -> None:
    reference = f"{registry.host}/kits/m:one"
    kit = pulled(reference, tmp_path, cache_check="stat")
    pulled(reference, tmp_path, watch := Recorder(), cache_check="stat")
    assert watch.marks == [("", 0, watch.marks[0][2])]  # nothing was read
    file = kit.root / "one.onnx"
    data, status = file.read_bytes(), file.stat()
    file.chmod(0o644)
    file.write_bytes(b"x" + data[1:])
    file.chmod(0o444)
    os.utime(file, ns=(status.st_atime_ns, status.st_mtime_ns))  # the time of its change is not so easily forged
    pulled(reference, tmp_path, watch := Recorder(), cache_check="stat")
    assert watch.warned == ["kit.differed"]
    assert file.read_bytes() == data


@pytest.mark.slow
def test_the_command_lists_checks_and_removes(registry: LyingRegistry, tmp_path: Path) -> None:
    def cache(*arguments: str) -> tuple[int, str]:
        done = run("cache", "--cache-dir", str(tmp_path), *arguments)
        return done.returncode, done.stdout + done.stderr

    kit = pulled(f"{registry.host}/kits/m:one", tmp_path)  # in use as long as this lives
    assert cache("verify") == (0, f"{tmp_path}: 4 blobs, 1 kit, 0 wrong\n")
    code, listed = cache("ls")
    assert (code, "kits/m:one" in listed, "in use" in listed) == (0, True, True)
    (kit.root / "shared").chmod(0o644)
    (kit.root / "shared").write_bytes(b"y" * 10_000)
    (tmp_path / "blobs/sha256" / ("0" * 64)).write_bytes(b"junk")
    (tmp_path / "ingest" / dead_name("junk")).write_bytes(bytes(2_000_000))
    code, said = cache("verify", "--json")
    assert (code, '"kit": "' + str(kit.digest) in said, '"blob": "sha256:000' in said) == (65, True, True)
    code, said = cache("gc")
    assert code == 0
    assert "freed 2.0 MB: 0 kits, 1 blob that no kit needs" in said
    assert cache("list")[0] == 2
    of_layout = pulled(f"oci:{KITS}/iris-onnx:v1", tmp_path / "of a layout")
    assert cache("ls", "--cache-dir", str(tmp_path / "of a layout"))[1].endswith(f"  {str(of_layout.digest)[:19]}\n")
    code, said = cache("verify", "--cache-dir", str(tmp_path / "of a layout"))
    assert (code, "0 wrong" in said, "not checked: its manifest lies where it came from" in said) == (0, True, True)


def test_what_a_pull_has_fetched_so_far_belongs_to_a_kit(registry: LyingRegistry, tmp_path: Path) -> None:
    removed: list[Digest] = []

    def collect() -> bool:
        store = Store(tmp_path)
        removed.extend(remove_unnamed(store, blob_bytes(store), held_kits(store)))
        return False

    reference = f"{registry.host}/kits/m:one"
    kit = pulled(reference, tmp_path, Recorder(stop=collect))
    assert removed == []
    assert pulled(reference, tmp_path, watch := Recorder(), pull="never") == kit
    assert watch.warnings == []


@pytest.mark.slow
def test_a_cached_kit_without_blobs_needs_no_room(registry: LyingRegistry, tmp_path: Path) -> None:
    names = ("one", "two")
    for name in names:
        pulled(f"{registry.host}/kits/m:{name}", tmp_path, keep_blobs=False)
    pull_and_end(registry, tmp_path, *names)
    limit = total_bytes(Store(tmp_path))
    pulled(f"{registry.host}/kits/m:two", tmp_path, watch := Recorder(), cache_max_bytes=limit)
    assert held(tmp_path) == ["one", "two"]
    assert watch.warnings == []
