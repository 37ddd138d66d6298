import errno
import io
import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from runtime.errors import BadContent, Cancelled, StorageFailed, UnsafeArchive, Usage
from runtime.kit.format.digest import Digest
from runtime.kit.format.manifest import Manifest
from runtime.kit.format.placing import Placed
from runtime.kit.format.reference import Reference
from runtime.kit.installed.destination import Destination
from runtime.kit.installed.receipt import Receipt, read_receipt
from runtime.kit.installed.recheck import recheck
from tests.campaign import Campaign
from tests.kit.archives import END, file
from tests.kit.made import KIT, made_kit
from tests.kit.pulling import tree
from tests.kit.unpack.test_walk import layer
from tests.places import ROOT

RECEIPT, STAGING = ".modelkit-receipt.json", ".modelkit-unpack"


def kit(name: str) -> tuple[Manifest, bytes]:
    """Manifest and config of a kit of this name, whose model is the whole folder."""
    config = json.dumps({"package": {"name": name}, "model": {"path": "."}}).encode()
    layer = {"mediaType": f"{KIT}.model.v1.tar", "digest": str(Digest.of(b"tar")), "size": 3}
    head = {"mediaType": f"{KIT}.config.v1+json", "digest": str(Digest.of(config)), "size": len(config)}
    raw = json.dumps({"schemaVersion": 2, "config": head, "layers": [layer]}).encode()
    return Manifest.parse(raw, expected=None), config


KITS = {manifest.digest: (manifest, config) for manifest, config in (kit("one"), kit("two"))}
ONE, TWO = KITS
CONFIG, OTHER_CONFIG = (config for _, config in KITS.values())


def reference(tag: str, digest: Digest = ONE) -> Reference:
    return Reference.parse(f"host.example/org/kit:{tag}@{digest}")


V1, V2 = reference("v1"), reference("v2", TWO)
GOOD = {"m/a": b"model", "m/b.txt": b"labels"}
OTHER = {"m/a": b"other model", "n/größe": b"new"}


def layers(files: dict[str, bytes]) -> Callable[[], Iterator[tuple[Placed, io.BytesIO]]]:
    def opened() -> Iterator[tuple[Placed, io.BytesIO]]:
        for path, data in files.items():
            placed, blob = layer(file(path, data) + END, path)
            yield placed, io.BytesIO(blob)

    return opened


def put(place: Destination, ref: Reference, files: dict[str, bytes], check: Callable[[], None]) -> Receipt:
    assert ref.digest is not None
    return place.fill(ref, *KITS[ref.digest], layers(files), check)


def fill(place: Destination, ref: Reference = V1, files: dict[str, bytes] = GOOD) -> Receipt:
    with place.locked(nobody_waits):
        return put(place, ref, files, lambda: None)


def holds(place: Destination, ref: Reference = V1) -> str | None:
    with place.locked(nobody_waits):
        return place.holds(ref, lambda *_: None)


def nobody_waits() -> None:
    raise AssertionError("nobody else is here")


@pytest.fixture
def place(tmp_path: Path) -> Destination:
    return Destination(tmp_path / "kit")


def whole(folder: Path) -> Receipt | None:
    """The receipt, if all files are its own."""
    receipt = read_receipt(folder / RECEIPT)
    assert receipt is None or recheck(folder, receipt, lambda *_: None)
    return receipt


def test_an_empty_folder_is_filled(place: Destination) -> None:
    assert holds(place) == "it is empty"
    receipt = fill(place)
    assert tree(place.folder) == {**GOOD, "Kitfile": CONFIG, RECEIPT: receipt.to_bytes()}
    assert (receipt.reference, receipt.manifest.digest) == (V1, V1.digest)
    assert receipt == whole(place.folder)
    modes = {path.name: path.stat().st_mode & 0o777 for path in place.folder.rglob("*")}
    assert modes == {"m": 0o755, "a": 0o444, "b.txt": 0o444, "Kitfile": 0o444, RECEIPT: 0o444}


def test_the_folder_is_made_with_those_above_it(tmp_path: Path) -> None:
    place = Destination(tmp_path / "a" / "b" / "c")
    fill(place)
    assert whole(place.folder)


def test_a_file_is_no_folder(place: Destination) -> None:
    place.folder.write_text("")
    with pytest.raises(Usage, match=r"^cannot unpack into '.*/kit': it is a file, wanted a folder$"):
        holds(place)


def test_lost_and_found_may_be_there(place: Destination) -> None:
    (place.folder / "lost+found").mkdir(parents=True)
    for ref, files in ((V1, GOOD), (V2, OTHER)):
        fill(place, ref, files)
        assert whole(place.folder)
    assert (place.folder / "lost+found").is_dir()


def test_the_same_kit_is_there_already(place: Destination) -> None:
    fill(place)
    before = {path: path.stat() for path in place.folder.rglob("*")}
    assert holds(place) is None
    assert {path: path.stat().st_ino for path in place.folder.rglob("*")} == {p: s.st_ino for p, s in before.items()}


def test_the_same_kit_by_another_tag_gets_another_receipt(place: Destination) -> None:
    fill(place)
    assert holds(place, reference("stable")) is None
    receipt = whole(place.folder)
    assert receipt is not None
    assert receipt.reference == reference("stable")
    assert not (place.folder / STAGING).exists()


def test_another_kit_replaces_the_one_that_is_there(place: Destination) -> None:
    fill(place)
    assert holds(place, V2) == f"it holds {V1}"
    receipt = fill(place, V2, OTHER)
    assert tree(place.folder) == {**OTHER, "Kitfile": OTHER_CONFIG, RECEIPT: receipt.to_bytes()}


def test_another_kitfile_than_the_kits_is_put_right(place: Destination) -> None:
    fill(place)
    (place.folder / "Kitfile").chmod(0o644)
    (place.folder / "Kitfile").write_bytes(OTHER_CONFIG)
    assert "'Kitfile'" in str(holds(place))
    fill(place)
    assert whole(place.folder)


DAMAGE = {
    "changed": (lambda root: (root / "m" / "a").write_bytes(b"MODEL"), "was changed after it was unpacked"),
    "missing": (lambda root: (root / "m" / "b.txt").unlink(), "is missing"),
    "link": (
        lambda root: ((root / "m" / "a").unlink(), (root / "m" / "a").symlink_to("/etc/passwd")),
        "is a symbolic link",
    ),
    "folder-gone": (lambda root: [*map(Path.unlink, (root / "m").iterdir()), (root / "m").rmdir()], "'m/a' in folder"),
}


@pytest.mark.parametrize(("path", "mode"), [(".", 0o777), ("m", 0o777), ("m/a", 0o666), (RECEIPT, 0o646)])
def test_a_receipt_that_others_could_have_put_there_is_not_believed(path: str, mode: int, place: Destination) -> None:
    receipt = fill(place)
    for name in ("m/a", RECEIPT):
        (place.folder / name).chmod(0o644)
    (place.folder / "m/a").write_bytes(b"forged")
    (place.folder / RECEIPT).write_bytes(
        receipt._replace(files={**receipt.files, "m/a": Digest.of(b"forged")}).to_bytes()
    )
    (place.folder / path).chmod(mode)
    assert f"'{place.folder / path}' can be written by everybody" in str(holds(place))
    fill(place)
    assert (place.folder / "m/a").read_bytes() == GOOD["m/a"]


@pytest.mark.parametrize(("damage", "why"), DAMAGE.values(), ids=DAMAGE.keys())
def test_a_damaged_kit_is_unpacked_again(damage, why: str, place: Destination) -> None:
    fill(place)
    (place.folder / "m" / "a").chmod(0o644)
    damage(place.folder)
    assert why in str(holds(place))
    fill(place)
    assert whole(place.folder)
    assert Path("/etc/passwd").exists()


STRANGE = {
    "file": (lambda root: (root / "notes.txt").write_text("x"), "'notes.txt'"),
    "hidden": (lambda root: (root / ".env").write_text("x"), "'.env'"),
    "below": (
        lambda root: ((root / "m").mkdir(exist_ok=True), (root / "m" / "mine.py").write_text("x")),
        "'m/mine.py'",
    ),
    "link": (lambda root: (root / "ln").symlink_to("/etc"), "'ln'"),
    "kitfile": (lambda root: (root / "kitfile").write_text("x"), "'kitfile'"),
    "staging-is-a-file": (lambda root: (root / STAGING).write_text("x"), f"'{STAGING}'"),
    "staging-is-a-link": (lambda root: (root / STAGING).symlink_to("/tmp"), f"'{STAGING}'"),
    "many": (lambda root: [(root / name).write_text("x") for name in "vwxyz"], "'v', 'w', 'x' and 2 more"),
}


@pytest.mark.parametrize("before", [False, True], ids=["fresh", "with-a-kit"])
@pytest.mark.parametrize(("change", "names"), STRANGE.values(), ids=STRANGE.keys())
def test_what_no_unpack_put_there_is_never_touched(change, names: str, before: bool, place: Destination) -> None:
    place.folder.mkdir()
    if before:
        fill(place)
    change(place.folder)
    seen = sorted(place.folder.rglob("*"))
    for attempt in (holds, fill):
        with pytest.raises(Usage) as caught:
            attempt(place)
        assert str(caught.value) == (
            f"cannot unpack into '{place.folder}': it holds {names}, which `runtime unpack` did not put there; "
            "take that away, or choose another folder"
        )
    assert sorted(place.folder.rglob("*")) == seen


def test_a_receipt_that_is_none_stops_everything(place: Destination) -> None:
    fill(place)
    (place.folder / RECEIPT).unlink()
    (place.folder / RECEIPT).write_text("{}")
    with pytest.raises(BadContent, match="cannot be used: its version is None, wanted 2; empty the folder and unpack"):
        holds(place)


def test_a_cache_in_the_folder_is_left_alone(tmp_path: Path) -> None:
    place = Destination(tmp_path, lambda path: path.split("/")[0] == "cache")
    (tmp_path / "cache" / "blobs").mkdir(parents=True)
    (tmp_path / "cache" / "blobs" / "x").write_text("x")
    fill(place)
    assert holds(place) is None
    fill(place, V2, OTHER)
    assert (tmp_path / "cache" / "blobs" / "x").exists()


def test_a_layers_own_kitfile_and_receipt_are_leftovers(place: Destination) -> None:
    fill(place, files={**GOOD, "Kitfile": b"old", RECEIPT: b"old"})
    assert (place.folder / "Kitfile").read_bytes() == CONFIG
    assert whole(place.folder)


@pytest.mark.parametrize("name", [f"{STAGING}/tree/x", "Kitfile/x", f"{RECEIPT}/x", "lost+found/x", STAGING])
def test_a_kit_with_a_name_that_is_ours_is_refused(name: str, place: Destination) -> None:
    with pytest.raises(UnsafeArchive, match=r"the kit has a (file|folder) '.*', a name that is not free where"):
        fill(place, files={name: b""})
    assert tree(place.folder) == {}


def test_what_fails_leaves_what_was_there(place: Destination) -> None:
    receipt = fill(place)
    for failing in ({"m/a": b"", "M/a": b""}, {"/etc/x": b""}):
        with pytest.raises(UnsafeArchive):
            fill(place, V2, failing)
        assert whole(place.folder) == receipt
        assert not (place.folder / STAGING).exists()


def test_it_can_be_cancelled(place: Destination) -> None:
    def stop() -> None:
        raise Cancelled("told to stop")

    with place.locked(nobody_waits), pytest.raises(Cancelled):
        put(place, V1, GOOD, stop)
    assert list(place.folder.iterdir()) == []


def test_too_little_room_is_said_before(place: Destination) -> None:
    place.require(1)
    with pytest.raises(StorageFailed, match=r"^folder '.*/kit' has \d+ bytes free, the kit needs \d+; make room, or"):
        place.require(1 << 60)


def test_a_folder_that_is_not_ours_names_the_user(tmp_path: Path) -> None:
    place = Destination(tmp_path / ("n" * 300))
    with pytest.raises(StorageFailed) as caught:
        place.is_there()
    why = os.strerror(errno.ENAMETOOLONG)
    assert str(caught.value) == (
        f"cannot unpack into '{place.folder}' as user {os.geteuid()}: {why}; choose another folder"
    )


def test_two_unpacks_into_one_folder_take_turns(place: Destination) -> None:
    waited, released = threading.Event(), threading.Event()

    def wait() -> None:
        waited.set()
        released.wait(10)

    def second() -> None:
        with place.locked(wait):
            put(place, V2, OTHER, lambda: None)

    with place.locked(nobody_waits):
        other = threading.Thread(target=second)
        other.start()
        assert waited.wait(10)
        put(place, V1, GOOD, lambda: None)
    released.set()
    other.join(10)
    receipt = whole(place.folder)
    assert receipt is not None
    assert receipt.reference == V2


@pytest.mark.slow
@pytest.mark.parametrize("before", ["nothing", "a-kit"])
def test_a_kill_at_any_step_leaves_a_whole_kit_or_none_and_the_next_run_mends_it(
    before: str, tmp_path: Path, campaign: Campaign
) -> None:
    old, new = (made_kit(tmp_path / name, {"m/a": name.encode(), f"{name}/x": b"x"}) for name in ("old", "new"))
    layouts = [str(old), str(new)] if before == "a-kit" else [str(new)]
    stride = campaign(3, 1, 1)
    command = [sys.executable, "-m", "tests.kit.crashing_unpack", str(stride), str(tmp_path / "kit"), *layouts]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=100)
    assert done.returncode == 0, done.stderr
    states = done.stdout.split()
    assert len(states) * stride > 15
    assert {"whole", "refused"} == set(states)
    assert states[-1] == "whole"
