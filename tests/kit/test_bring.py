"""A kit in the cache in one pass: what is unpacked while it comes, what is checked, and what is fetched again."""

from __future__ import annotations

import gzip
import json
import logging
import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest

from runtime.errors import Cancelled, NotFound, UnsafeArchive, Unsupported
from runtime.kit import bring, threads
from runtime.kit.cache import store
from runtime.kit.registry import client, download, ranges, retry
from tests.kit import archives
from tests.kit.made import KIT, made_kit, named, put
from tests.kit.pulling import Recorder, leftovers, pulled, tree, unverified
from tests.lying_registry import Gate, Lie, LyingRegistry, claiming, cut, flipped, refusal, slow, stalled, truth, whole
from tests.registries import digest_of

MODEL = os.urandom(3_000_000)
FILES = {"m.onnx": MODEL, "labels.txt": b"a\nb\n", "src/a.py": b"print(1)\n"}
Lying = Callable[..., LyingRegistry]


@pytest.fixture(scope="module")
def layout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return made_kit(tmp_path_factory.mktemp("layout"), FILES)


@pytest.fixture
def registry(layout: Path, lying: Lying) -> LyingRegistry:
    return lying(layout)


@pytest.fixture(autouse=True)
def short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retry, "_FIRST_PAUSE_SECONDS", 0.02)


def model_path(layout: Path) -> str:
    """Pattern of the address of the model's blob."""
    return next(
        f"/blobs/sha256:{each.name}" for each in layout.rglob("*") if each.is_file() and each.stat().st_size > 10**6
    )


def layers(cache: Path) -> list[str]:
    """What the cache has of layers."""
    return [path.name for path in (cache / "blobs/sha256").iterdir() if not path.read_bytes().startswith(b"{")]


@pytest.mark.parametrize("keep", [True, False])
def test_a_cached_kit_is_checked_by_its_tree_alone(registry: LyingRegistry, tmp_path: Path, keep: bool) -> None:
    kit = pulled(f"{registry.host}/kits/m:v1", tmp_path, keep_blobs=keep)
    assert tree(kit.root) == FILES
    assert len(layers(tmp_path)) == (len(FILES) if keep else 0)
    for blob in layers(tmp_path):
        (tmp_path / "blobs/sha256" / blob).unlink()
    registry.close()
    watch = Recorder()
    assert pulled(f"{registry.host}/kits/m@{kit.digest}", tmp_path, watch, keep_blobs=keep).root == kit.root
    assert watch.warnings == []
    assert watch.marks[-1][1] == watch.marks[-1][2]


@pytest.mark.parametrize("what", ["a file", "its skeleton", "no skeleton"])
def test_a_tree_without_blobs_that_differs_is_fetched_again(registry: LyingRegistry, tmp_path: Path, what: str) -> None:
    kit = pulled(f"{registry.host}/kits/m:v1", tmp_path, keep_blobs=False)
    skeletons = list((tmp_path / "skeletons/sha256").iterdir())
    spoiled = {"a file": [kit.root / "labels.txt"], "its skeleton": skeletons, "no skeleton": skeletons}[what]
    for path in spoiled:
        path.chmod(0o644)
        path.unlink() if what == "no skeleton" else path.write_bytes(path.read_bytes()[::-1])
    before = len(registry.seen("/blobs/"))
    assert tree(pulled(f"{registry.host}/kits/m:v1", tmp_path, watch := Recorder(), keep_blobs=False).root) == FILES
    assert watch.warned == ["kit.differed"]
    assert len(registry.seen("/blobs/")) == before + len(FILES)


def test_a_spoiled_skeleton_costs_the_comparison_with_blobs_that_are_here(
    registry: LyingRegistry, tmp_path: Path
) -> None:
    kit = pulled(f"{registry.host}/kits/m:v1", tmp_path)
    for path in (tmp_path / "skeletons/sha256").iterdir():
        path.unlink()
    registry.close()
    assert pulled(f"{registry.host}/kits/m@{kit.digest}", tmp_path, watch := Recorder()).root == kit.root
    assert watch.warnings == []


@pytest.mark.parametrize("diff_id", [True, False])
def test_a_compressed_layer_is_checked_by_its_diff_id_or_else_its_blob_is_kept(
    lying: Lying, tmp_path: Path, diff_id: bool
) -> None:
    layout = made_kit(tmp_path / "layout", {"m.onnx": MODEL})
    manifest = json.loads((layout / "blobs/sha256" / digest_of(layout, "v1")[7:]).read_bytes())
    plain = (layout / "blobs/sha256" / manifest["layers"][0]["digest"][7:]).read_bytes()
    layer = put(layout, gzip.compress(plain, 1), f"{KIT}.model.v1.tar+gzip")
    model = {"path": "m.onnx", "digest": layer["digest"]} | (
        {"diffId": manifest["layers"][0]["digest"]} if diff_id else {}
    )
    manifest["layers"] = [layer]
    manifest["config"] = put(
        layout, json.dumps({"manifestVersion": "1.0.0", "model": model}).encode(), f"{KIT}.config.v1+json"
    )
    named(layout, put(layout, json.dumps(manifest).encode(), manifest["mediaType"]), "gzip")
    registry = lying(layout)
    kit = pulled(f"{registry.host}/kits/m:gzip", tmp_path / "cache", keep_blobs=False)
    assert len(layers(tmp_path / "cache")) == (0 if diff_id else 1)
    registry.close()
    assert pulled(f"{registry.host}/kits/m@{kit.digest}", tmp_path / "cache", keep_blobs=False).root == kit.root
    (kit.root / "m.onnx").chmod(0o644)
    (kit.root / "m.onnx").write_bytes(MODEL[:-1] + b"x")
    registry = lying(layout)
    assert tree(pulled(f"{registry.host}/kits/m:gzip", tmp_path / "cache", keep_blobs=False).root) == {"m.onnx": MODEL}


@pytest.mark.parametrize("at", [100, 1_500_000], ids=["in the header", "in the data"])
def test_wrong_bytes_are_asked_for_again_even_where_they_are_no_archive(
    registry: LyingRegistry, layout: Path, tmp_path: Path, at: int
) -> None:
    registry.lie(model_path(layout), flipped(at), times=1)
    kit = pulled(f"{registry.host}/kits/m:v1", tmp_path, watch := Recorder(), keep_blobs=False)
    assert tree(kit.root) == FILES
    assert watch.warned == ["blob.differed"]
    assert unverified(tmp_path) == leftovers(tmp_path) == []


def test_an_unsafe_archive_is_refused_once_its_digest_holds(lying: Lying, tmp_path: Path) -> None:
    layout = made_kit(tmp_path / "layout", {"m.onnx": b"model"})
    manifest = json.loads((layout / "blobs/sha256" / digest_of(layout, "v1")[7:]).read_bytes())
    layer = put(layout, archives.file(b"../m.onnx", MODEL) + archives.END, f"{KIT}.model.v1.tar")
    config = {"manifestVersion": "1.0.0", "model": {"path": "m.onnx", "digest": layer["digest"]}}
    manifest |= {"layers": [layer], "config": put(layout, json.dumps(config).encode(), f"{KIT}.config.v1+json")}
    named(layout, put(layout, json.dumps(manifest).encode(), manifest["mediaType"]), "evil")
    registry = lying(layout)
    with pytest.raises(UnsafeArchive, match=r"has a member '../m.onnx' that is refused"):
        pulled(f"{registry.host}/kits/m:evil", tmp_path / "cache", keep_blobs=False)
    assert len(registry.seen(str(layer["digest"]))) == 1
    assert leftovers(tmp_path / "cache") == []


def test_more_entries_of_one_layer_than_are_unpacked_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bring, "_TOGETHER", 2)
    layout = made_kit(tmp_path / "layout", {"m.onnx": MODEL})
    manifest = json.loads((layout / "blobs/sha256" / digest_of(layout, "v1")[7:]).read_bytes())
    blob = put(layout, MODEL)
    names = [f"{number}.bin" for number in range(5)]
    entries = [{"path": name, "digest": blob["digest"]} for name in names]
    notes = [{"annotations": {"org.cncf.model.filepath": name}} for name in names]
    config = {"manifestVersion": "1.0.0", "model": {**entries[0], "parts": entries[1:]}}
    kinds = ["model", *["modelpart"] * 4]
    manifest["layers"] = [
        {**blob, **note, "mediaType": f"{KIT}.{kind}.v1.raw"} for note, kind in zip(notes, kinds, strict=True)
    ]
    manifest["config"] = put(layout, json.dumps(config).encode(), f"{KIT}.config.v1+json")
    named(layout, put(layout, json.dumps(manifest).encode(), manifest["mediaType"]), "raw")
    kit = pulled(f"oci:{layout}:raw", tmp_path / "cache")
    assert tree(kit.root) == dict.fromkeys(names, MODEL)
    assert pulled(f"oci:{layout}:raw", tmp_path / "cache", watch := Recorder()).root == kit.root
    assert watch.warnings == []


def test_a_layer_that_no_version_could_read_is_refused_before_any_is_fetched(lying: Lying, tmp_path: Path) -> None:
    layout = made_kit(tmp_path / "layout", {"m.onnx": b"model", "part": b"x"})
    manifest = json.loads((layout / "blobs/sha256" / digest_of(layout, "v1")[7:]).read_bytes())
    manifest["layers"][1]["mediaType"] += "+br"
    named(layout, put(layout, json.dumps(manifest).encode(), manifest["mediaType"]), "odd")
    registry = lying(layout)
    with pytest.raises(Unsupported, match="is compressed with br, which this version cannot read"):
        pulled(f"{registry.host}/kits/m:odd", tmp_path / "cache")
    assert len(registry.seen("/blobs/")) == 1


def test_the_headers_of_many_files_take_little_room_and_check_them(
    lying: Lying, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bring, "MAX_SKELETON_BYTES", 20_000)
    names = [f"model/weights-{number:05}" for number in range(500)]
    layer = b"".join(archives.file(name, name.encode()) for name in names) + archives.END
    layout, cache = tmp_path / "layout", tmp_path / "cache"
    model = put(layout, layer, f"{KIT}.model.v1.tar")
    config = {"manifestVersion": "1.0.0", "model": {"path": "model", "digest": model["digest"]}}
    manifest = {
        "schemaVersion": 2,
        "config": put(layout, json.dumps(config).encode(), f"{KIT}.config.v1+json"),
        "layers": [model],
    }
    named(layout, put(layout, json.dumps(manifest).encode(), "application/vnd.oci.image.manifest.v1+json"), "v1")
    registry = lying(layout)
    kit = pulled(f"{registry.host}/kits/m:v1", cache, keep_blobs=False)
    registry.close()
    pinned = f"{registry.host}/kits/m@{kit.digest}"
    assert pulled(pinned, cache, watch := Recorder(), keep_blobs=False).root == kit.root
    assert watch.warnings == []
    spoiled = kit.root / names[170]
    spoiled.chmod(0o644)
    spoiled.write_bytes(spoiled.read_bytes().replace(b"7", b"8"))
    with pytest.raises(NotFound):
        pulled(pinned, cache, keep_blobs=False, pull="never")


def test_a_skeleton_that_is_too_long_is_not_kept(
    registry: LyingRegistry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bring, "MAX_SKELETON_BYTES", 20)
    kit = pulled(f"{registry.host}/kits/m:v1", tmp_path)
    assert list((tmp_path / "skeletons/sha256").iterdir()) == []
    assert pulled(f"{registry.host}/kits/m:v1", tmp_path, watch := Recorder()).root == kit.root
    assert watch.warnings == []


def test_15_without_blobs_the_disk_never_holds_more_than_the_kit(
    registry: LyingRegistry, layout: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(threads, "_LOOK_SECONDS", 0.002)
    registry.lie(model_path(layout), slow(100_000, 0.002))
    held: list[int] = []

    def look() -> bool:
        with suppress(FileNotFoundError):
            held.append(sum(path.lstat().st_size for path in tmp_path.rglob("*") if not path.is_dir()))
        return False

    kit = pulled(f"{registry.host}/kits/m:v1", tmp_path, Recorder(stop=look), keep_blobs=False)
    assert tree(kit.root) == FILES
    assert len([size for size in held if 100_000 < size < len(MODEL)]) > 3  # looked at while it came
    assert max(held) <= 1.05 * sum(map(len, FILES.values()))


# --- the wire


@pytest.mark.slow
def test_21_a_connection_that_drips_is_replaced_where_it_was(
    registry: LyingRegistry, layout: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(download, "WINDOW_SECONDS", 0.3)
    registry.lie(model_path(layout), slow(5, 0.01), times=1)
    kit = pulled(f"{registry.host}/kits/m:v1", tmp_path, min_rate=10_000)
    assert tree(kit.root) == FILES
    first, second = registry.seen(model_path(layout))
    assert "range" not in first.headers
    assert second.headers["range"].startswith("bytes=")


def test_20_a_connection_that_stalls_is_replaced_where_it_was(
    registry: LyingRegistry, layout: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client, "STALL_SECONDS", 0.2)
    registry.lie(model_path(layout), stalled(1_500_000), times=1)
    assert tree(pulled(f"{registry.host}/kits/m:v1", tmp_path).root) == FILES
    _, second = registry.seen(model_path(layout))
    assert second.headers["range"] == "bytes=1500000-"


@pytest.mark.parametrize("stop", ["cancelled", "cut"])
def test_19_35_what_was_there_when_a_pull_ended_is_not_asked_for_again(
    registry: LyingRegistry, layout: Path, tmp_path: Path, stop: str
) -> None:
    gate = Gate()
    lies = [stalled(2_000_000, gate)] if stop == "cancelled" else [cut(2_000_000), stalled(500_000, gate)]
    for lie in lies:
        registry.lie(model_path(layout), lie, times=1)
    watch = Recorder(stop=lambda: bool(watch.marks) and watch.marks[-1][1] >= 2_000_000)
    with pytest.raises(Cancelled):
        pulled(f"{registry.host}/kits/m:v1", tmp_path, watch)
    assert unverified(tmp_path) == []
    gate.open.set()
    assert tree(pulled(f"{registry.host}/kits/m:v1", tmp_path, after := Recorder()).root) == FILES
    begin, _, end = registry.seen(model_path(layout))[-1].headers["range"].removeprefix("bytes=").partition("-")
    assert int(begin) >= 2_000_000
    assert not end
    assert after.marks[-1][1] == after.marks[-1][2]
    assert leftovers(tmp_path) == []


def test_a_wrong_beginning_of_an_earlier_pull_costs_one_more_request(
    registry: LyingRegistry, layout: Path, tmp_path: Path
) -> None:
    hexadecimal = model_path(layout).rpartition(":")[2]
    store.Store(tmp_path).prepare()
    (tmp_path / "ingest" / f"{hexadecimal}.00000000.1.ab").write_bytes(os.urandom(2_000_000))
    kit = pulled(f"{registry.host}/kits/m:v1", tmp_path, watch := Recorder())
    assert tree(kit.root) == FILES
    assert watch.warned == ["blob.differed"]
    asked = [seen.headers.get("range") for seen in registry.seen(model_path(layout))]
    assert asked == ["bytes=2000000-", None]


@pytest.fixture
def many_ranges(monkeypatch: pytest.MonkeyPatch) -> None:
    """A blob of 3 MB is a long one, and any connection a slow one."""
    monkeypatch.setattr(download, "RANGES_FROM_BYTES", 1_000_000)
    monkeypatch.setattr(download, "_PROBED_BYTES", 200_000)
    monkeypatch.setattr(download, "_FAST", 1e12)
    monkeypatch.setattr(ranges, "PIECE_BYTES", 300_000)


def asked_ranges(registry: LyingRegistry, layout: Path) -> list[tuple[int, int | None]]:
    """First and last byte of each range that was asked for of the model's blob; the last is None for an open one."""
    asked = [seen.headers.get("range", "bytes=0-")[6:].partition("-") for seen in registry.seen(model_path(layout))]
    return [(int(first), int(last) if last else None) for first, _, last in asked]


@pytest.mark.slow
@pytest.mark.usefixtures("many_ranges")
def test_connections_of_several_long_layers_are_all_used_again(lying: Lying, tmp_path: Path) -> None:
    said: list[logging.LogRecord] = []
    logger, handler = logging.getLogger("urllib3.connectionpool"), logging.Handler()
    handler.emit = said.append  # type: ignore[method-assign]
    logger.addHandler(handler)
    layout = made_kit(tmp_path / "layout", {name: os.urandom(3_000_000) for name in ("m.onnx", "a", "b", "c")})
    registry = lying(layout)
    pulled(f"{registry.host}/kits/m:v1", tmp_path / "cache")
    logger.removeHandler(handler)
    assert len([seen for seen in registry.requests if "range" in seen.headers]) > 20
    assert [record.getMessage() for record in said if record.levelno >= logging.WARNING] == []


@pytest.mark.usefixtures("many_ranges")
@pytest.mark.parametrize("keep", [True, False])
def test_15_a_long_blob_comes_in_bounded_ranges_over_several_connections(
    registry: LyingRegistry, layout: Path, tmp_path: Path, keep: bool
) -> None:
    kit = pulled(f"{registry.host}/kits/m:v1", tmp_path, watch := Recorder(), keep_blobs=keep)
    assert tree(kit.root) == FILES
    plain, *bounded = asked_ranges(registry, layout)
    assert plain == (0, None)
    assert len(bounded) > 5
    bounded.sort()
    assert all(last is not None and last - first < 300_000 for first, last in bounded)
    assert [first for first, _ in bounded[1:]] == [last + 1 for _, last in bounded[:-1] if last]
    assert watch.warnings == []
    done = [done for _, done, _ in watch.marks]
    assert done == sorted(done)
    assert done[-1] == watch.marks[-1][2]


@pytest.mark.usefixtures("many_ranges")
@pytest.mark.parametrize(
    "lies", [[cut(50_000), cut(0)], [refusal(503, Retry_After="0")], [claiming(Content_Range="bytes 1-2/3000")]]
)
def test_18_a_range_that_breaks_goes_on_where_it_was(
    registry: LyingRegistry, layout: Path, tmp_path: Path, lies: list[Lie]
) -> None:
    registry.lie(model_path(layout), truth(), times=1)
    for lie in lies:
        registry.lie(model_path(layout), lie, times=2)
    watch = Recorder()
    kit = pulled(f"{registry.host}/kits/m:v1", tmp_path, watch)
    assert tree(kit.root) == FILES
    assert set(watch.warned) <= {"blob.differed"}
    assert leftovers(tmp_path) == []


@pytest.mark.slow
@pytest.mark.usefixtures("many_ranges")
def test_21_a_range_that_is_far_slower_than_others_is_asked_for_again_where_it_was(
    registry: LyingRegistry, layout: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(download, "WINDOW_SECONDS", 0.3)
    registry.lie(model_path(layout), truth(), times=3)
    registry.lie(model_path(layout), slow(20, 0.01), times=1)  # 150 s for a piece
    kit = pulled(f"{registry.host}/kits/m:v1", tmp_path, min_rate=1)
    assert tree(kit.root) == FILES
    bounded = sorted(asked_ranges(registry, layout))[1:]
    assert len({last for _, last in bounded}) == len(bounded) - 1  # one piece was asked for twice
    assert all(first < last for first, last in bounded if last)


@pytest.mark.usefixtures("many_ranges")
def test_26_a_server_that_ignores_ranges_is_asked_by_one_connection_from_then_on(
    registry: LyingRegistry, layout: Path, tmp_path: Path
) -> None:
    registry.lie(model_path(layout), whole())
    kit = pulled(f"{registry.host}/kits/m:v1", tmp_path, watch := Recorder())
    assert tree(kit.root) == FILES
    assert watch.warnings == []
    assert any(first and last is None for first, last in asked_ranges(registry, layout))
    assert len(registry.seen(model_path(layout))) <= 2 + ranges.WORKERS
