"""The order of things, with real kits from real registries, layouts and archives."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from runtime.errors import Cancelled, NoModel, NotFound, StorageFailed
from runtime.kit.format.reference import Reference
from runtime.kit.installed.destination import Destination
from runtime.kit.pull import PullOptions, resolve, verified_layers
from tests.kit.made import made_kit, named, put
from tests.kit.pulling import Recorder, leftovers, pulled, tree, unverified
from tests.lying_registry import Gate, LyingRegistry, held, redirect, refusal, stalled, truth
from tests.places import KITS
from tests.registries import Registry, digest_of, sha256, skopeo, tags_of

REFUSED = {"dataset-only": NoModel, "empty": NoModel}
WITH_PARENTS = {"child", "grandchild"}  # in tests/kit/test_chain.py
GOLDEN = [
    (layout.name, tag)
    for layout in sorted(KITS.glob("*/"))
    if (layout / "oci-layout").exists()
    for tag in tags_of(layout)
]
AT_EVERY_EDIT = {("iris-onnx", "v1"), ("iris-onnx", "gzip"), ("wine-sklearn", "era-0.2"), ("everything", "v1")}
SERVED = [
    pytest.param(*each, id=":".join(each), marks=[] if each in AT_EVERY_EDIT else [pytest.mark.slow])
    for each in GOLDEN
    if each[0] not in {*REFUSED, *WITH_PARENTS}
]

Lying = Callable[..., LyingRegistry]


@pytest.mark.slow
@pytest.mark.parametrize(("name", "tag"), SERVED)
def test_01_a_golden_kit_is_the_same_tree_from_a_registry_and_a_layout(
    registry: Registry, tmp_path: Path, name: str, tag: str
) -> None:
    far = pulled(registry.push(KITS / name, tag), tmp_path / "far")
    near = pulled(f"oci:{KITS / name}:{tag}", tmp_path / "near")
    assert tree(far.root) == tree(near.root) != {}
    assert str(far.digest) == str(near.digest) == digest_of(KITS / name, tag)
    assert far.verified == near.verified == "true"
    assert far.verified_bytes == near.verified_bytes > 1000
    assert far.root == tmp_path / "far" / "kits" / str(far.digest).partition(":")[2]
    assert unverified(tmp_path / "far") == leftovers(tmp_path / "far") == leftovers(tmp_path / "near") == []


@pytest.mark.parametrize(("name", "error"), REFUSED.items(), ids=REFUSED)
def test_a_kit_that_cannot_be_served_is_refused_before_any_layer_is_fetched(
    lying: Lying, tmp_path: Path, name: str, error: type[Exception]
) -> None:
    registry = lying(name)
    with pytest.raises(error):
        pulled(f"{registry.host}/kits/{name}:v1", tmp_path)
    assert len(registry.seen("/blobs/")) == 1
    assert unverified(tmp_path) == leftovers(tmp_path) == []


def test_an_archive_gives_the_same_tree(tmp_path: Path) -> None:
    archive = tmp_path / "kit.tar"
    skopeo("copy", "--preserve-digests", f"oci:{KITS}/digits-external:v1", f"oci-archive:{archive}:v1")
    near = pulled(f"oci:{KITS}/digits-external:v1", tmp_path / "near")
    packed = pulled(f"oci-archive:{archive}:v1", tmp_path / "packed")
    assert tree(packed.root) == tree(near.root)
    assert packed.digest == near.digest


def test_a_folder_is_served_in_place_and_not_verified(tmp_path: Path) -> None:
    (tmp_path / "kit").mkdir()
    (tmp_path / "kit" / "Kitfile").write_text("manifestVersion: 1.0.0\nmodel:\n  path: m.onnx\n")
    (tmp_path / "kit" / "m.onnx").write_bytes(b"model")
    watch = Recorder()
    kit = pulled(str(tmp_path / "kit"), tmp_path / "cache", watch)
    assert (kit.root, kit.digest, kit.verified, kit.verified_bytes) == (tmp_path / "kit", None, "false", 0)
    assert watch.events == ["kitfile", "resolve"]
    assert not (tmp_path / "cache").exists()


@pytest.fixture
def unpacked_folder(tmp_path: Path) -> Path:
    """What `runtime unpack` makes of a kit."""
    reference, options = Reference.parse(f"oci:{KITS}/everything:v1"), PullOptions(tmp_path / "unpack")
    watch = Recorder()
    resolved = resolve(reference, options, watch)
    assert resolved.manifest is not None
    place = Destination(tmp_path / "folder")
    with verified_layers(resolved, options, watch) as layers, place.locked(lambda: None):
        place.fill(resolved.reference, resolved.manifest, resolved.config, layers, lambda: None)
    return place.folder


def test_a_folder_with_a_receipt_is_what_its_manifest_says_by_receipt(unpacked_folder: Path, tmp_path: Path) -> None:
    watch = Recorder()
    kit = pulled(f"name={unpacked_folder}", tmp_path / "cache", watch)
    near = pulled(f"oci:{KITS}/everything:v1", tmp_path / "near")
    assert (kit.verified, kit.root) == ("receipt", unpacked_folder)
    assert (kit.digest, kit.kitfile, kit.layers) == (near.digest, near.kitfile, near.layers)
    assert (kit.reference.name, str(kit.reference)) == ("name", str(near.reference))
    assert watch.events == ["resolved", "kitfile", "resolve", "progress", "fetch"]
    assert {path: data for path, data in tree(kit.root).items() if path in tree(near.root)} == tree(near.root)
    assert not (tmp_path / "cache").exists()


def test_the_check_of_a_folder_can_be_cancelled_and_others_may_not_write_into_it(
    unpacked_folder: Path, tmp_path: Path
) -> None:
    with pytest.raises(Cancelled, match=r"^the pull was cancelled$"):
        pulled(str(unpacked_folder), tmp_path / "cache", Recorder(stop=lambda: True))
    unpacked_folder.chmod(0o777)
    with pytest.raises(StorageFailed, match=r"can be written by everybody \(mode 0777\): chmod go-w"):
        pulled(str(unpacked_folder), tmp_path / "cache")


def test_what_is_odd_about_a_plain_folder_is_said(tmp_path: Path) -> None:
    (tmp_path / "kit").mkdir()
    (tmp_path / "kit" / "Kitfile").write_text("model: {path: m.onnx}\n")
    (tmp_path / "kit" / "m.onnx").write_bytes(b"model")
    (tmp_path / "kit" / "link").symlink_to("m.onnx")
    (tmp_path / "kit").chmod(0o777)
    watch = Recorder()
    assert pulled(str(tmp_path / "kit"), tmp_path / "cache", watch).verified == "false"
    assert watch.warned == ["folder.left_out", "folder.exposed"]


def test_a_folder_without_a_model_is_refused(tmp_path: Path) -> None:
    (tmp_path / "Kitfile").write_text("manifestVersion: 1.0.0\npackage:\n  name: nothing\n")
    with pytest.raises(NoModel):
        pulled(str(tmp_path), tmp_path / "cache")


@pytest.mark.parametrize("name", ["everything", "iris-onnx", "wine-sklearn"])
def test_only_model_parts_and_code_are_fetched(lying: Lying, tmp_path: Path, name: str) -> None:
    registry = lying(name)
    pulled(f"{registry.host}/kits/{name}:v1", tmp_path)
    layout = KITS / name
    manifest = json.loads((layout / "blobs/sha256" / digest_of(layout, "v1")[7:]).read_bytes())
    kinds = {layer["digest"]: layer["mediaType"].split(".")[3] for layer in manifest["layers"]}
    asked = [seen.path.rpartition("/")[2] for seen in registry.seen("/blobs/")]
    assert sorted(asked) == sorted(
        {manifest["config"]["digest"]}
        | {digest for digest, kind in kinds.items() if kind in ("model", "modelpart", "code")}
    )
    assert len(registry.seen("/manifests/")) == 1


def test_05_a_pull_by_tag_costs_one_request_when_all_is_cached(lying: Lying, tmp_path: Path) -> None:
    registry = lying("iris-onnx")
    first = pulled(f"{registry.host}/kits/iris-onnx:v1", tmp_path)
    before = len(registry.requests)
    watch = Recorder()
    again = pulled(f"{registry.host}/kits/iris-onnx:v1", tmp_path, watch)
    assert again == first
    assert watch.warnings == []
    assert [seen.method for seen in registry.requests[before:]] == ["GET"]
    assert registry.requests[-1].path == "/v2/kits/iris-onnx/manifests/v1"
    assert "application/vnd.oci.image.manifest.v1+json" in registry.requests[-1].headers["accept"]


def test_04_a_pinned_digest_that_is_cached_makes_no_request_and_imports_no_http(lying: Lying, tmp_path: Path) -> None:
    registry = lying("iris-onnx")
    pinned = f"{registry.host}/kits/iris-onnx@{digest_of(KITS / 'iris-onnx', 'v1')}"
    kit = pulled(pinned, tmp_path)
    registry.close()
    script = (
        "import sys; from pathlib import Path; from tests.kit.pulling import Recorder, pulled;"
        f"kit = pulled({pinned!r}, Path({str(tmp_path)!r})); print(kit.root);"
        "print(sorted({'oras', 'requests', 'urllib3', 'http.client', 'asyncio', 'yaml', 'numpy'} & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, cwd=KITS.parent.parent, check=True
    )
    assert done.stdout.splitlines() == [str(kit.root), "[]"]


def test_02_03_of_tag_and_digest_the_digest_counts(lying: Lying, tmp_path: Path) -> None:
    registry = lying("iris-onnx")
    digest = digest_of(KITS / "iris-onnx", "gzip")
    kit = pulled(f"{registry.host}/kits/iris-onnx:v1@{digest}", tmp_path)
    assert str(kit.digest) == digest
    assert str(kit.reference) == f"{registry.host}/kits/iris-onnx:v1@{digest}"
    assert registry.seen("/manifests/")[0].path.endswith(digest)


def test_a_missing_tag_is_latest_and_said_aloud_with_the_digest_to_pin(tmp_path: Path) -> None:
    layout = made_kit(tmp_path / "layout", {"m.onnx": b"model"}, tag="latest")
    watch = Recorder()
    with LyingRegistry(layout) as registry:
        kit = pulled(f"{registry.host}/kits/m", tmp_path / "cache", watch)
        ((event, fields),) = watch.warnings
    assert event == "tag.defaulted"
    assert fields["reason"] == "no tag given: latest"
    assert fields["reference"] == f"{registry.host}/kits/m:latest"
    assert fields["digest"] == str(kit.digest)
    assert fields["pin"] == f"{registry.host}/kits/m:latest@{kit.digest}"


def test_the_only_tag_of_a_layout_need_not_be_given_and_is_said(tmp_path: Path) -> None:
    layout = made_kit(tmp_path / "layout", {"m.onnx": b"model"})
    watch = Recorder()
    kit = pulled(f"oci:{layout}", tmp_path / "cache", watch)
    assert str(kit.reference) == f"oci:{layout}:v1@{kit.digest}"
    ((event, fields),) = watch.warnings
    assert (event, fields["reason"]) == ("tag.defaulted", "no tag given: v1, the only one")
    assert (fields["reference"], fields["pin"]) == (f"oci:{layout}:v1", str(kit.reference))


def test_a_name_that_is_no_tag_is_left_to_the_digest(tmp_path: Path) -> None:
    layout = made_kit(tmp_path / "layout", {"m.onnx": b"model"}, tag="127.0.0.1:5000/kits/m:v1")  # as in the cache
    kit = pulled(f"oci:{layout}", tmp_path / "cache", watch := Recorder())
    assert str(kit.reference) == f"oci:{layout}@{kit.digest}"
    ((_, fields),) = watch.warnings
    assert fields["pin"] == str(kit.reference)
    assert pulled(str(kit.reference), tmp_path / "cache") == kit


def test_16_the_watch_hears_of_things_in_their_order(lying: Lying, tmp_path: Path) -> None:
    watch = Recorder()
    registry = lying("everything")
    kit = pulled(f"{registry.host}/kits/everything:v1", tmp_path, watch)
    assert watch.events == ["resolved", "kitfile", "resolve", "progress", "fetch"]
    assert watch.reference == kit.reference
    assert watch.phases.keys() == {"resolve", "fetch"}
    done = [done for _, done, _ in watch.marks]
    assert done == sorted(done)
    assert done[-1] == watch.marks[-1][2] == watch.marks[0][2]
    assert watch.marks[0][:2] == ("", 0)
    assert {layer for layer, _, _ in watch.marks[1:]} == {
        "models/main/iris.onnx", "models/main/labels.txt", "models/naïve ünïcode.txt", "src", "src/nested/deep"
    }  # fmt: skip
    assert watch.warnings == []


def test_what_serving_does_not_need_is_left_out_aloud(tmp_path: Path) -> None:
    pulled(f"oci:{KITS}/iris-onnx:v1", tmp_path, watch := Recorder())
    assert watch.left == ["dataset", "docs"]


def test_resolving_fetches_manifest_and_config_alone(lying: Lying, tmp_path: Path) -> None:
    registry = lying("iris-onnx")
    resolved = resolve(Reference.parse(f"{registry.host}/kits/iris-onnx:v1"), PullOptions(tmp_path), Recorder())
    assert len(registry.requests) == 2
    assert resolved.manifest is not None
    assert [each.section for each in resolved.placed] == ["model", "part", "dataset", "docs"]
    assert not (tmp_path / "index.json").exists()


def test_07_a_layer_that_stands_at_two_entries_is_fetched_once(tmp_path: Path) -> None:
    layout = made_kit(tmp_path / "layout", {"m.onnx": b"model"})
    manifest = json.loads((layout / "blobs/sha256" / digest_of(layout, "v1")[7:]).read_bytes())
    config = {"manifestVersion": "1.0.0", "model": {"path": ".", "digest": manifest["layers"][0]["digest"]}}
    manifest["config"] = put(layout, json.dumps(config).encode(), manifest["config"]["mediaType"])
    manifest["layers"] *= 2
    named(layout, put(layout, json.dumps(manifest).encode(), manifest["mediaType"]), "v2")
    with LyingRegistry(layout) as registry:
        kit = pulled(f"{registry.host}/kits/m:v2", tmp_path / "cache")
        assert len(registry.seen("/blobs/")) == 2
    assert tree(kit.root) == {"m.onnx": b"model"}


def test_06_a_layer_of_another_kit_is_not_fetched_again(tmp_path: Path) -> None:
    layout = made_kit(tmp_path / "layout", {"m.onnx": b"model", "a.txt": b"one"})
    made_kit(layout, {"m.onnx": b"model", "a.txt": b"two"}, tag="v2")
    with LyingRegistry(layout) as registry:
        pulled(f"{registry.host}/kits/m:v1", tmp_path / "cache")
        before = len(registry.seen("/blobs/"))
        pulled(f"{registry.host}/kits/m:v2", tmp_path / "cache")
        assert len(registry.seen("/blobs/")) == before + 2  # config and the other part


def test_four_layers_are_on_their_way_at_once(tmp_path: Path) -> None:
    layout, gate = made_kit(tmp_path / "layout", {f"{n}.onnx": bytes([n]) * 100 for n in range(6)}), Gate()
    with LyingRegistry(layout) as registry:
        registry.lie("/blobs/", truth(), times=1)
        registry.lie("/blobs/", held(gate))

        def all_there() -> bool:
            if len(registry.seen("/blobs/")) == 1 + 4:
                gate.open.set()
            return False

        kit = pulled(f"{registry.host}/kits/m:v1", tmp_path / "cache", Recorder(stop=all_there))
        assert len(registry.seen("/blobs/")) == 1 + 6
    assert len(tree(kit.root)) == 6


def test_more_layers_than_may_stay_open_are_opened_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("runtime.kit.fetch.MOST_OPEN", 2)
    files = {f"{n}.onnx": bytes([n]) * 100 for n in range(9)}
    layout = made_kit(tmp_path / "layout", files)
    with LyingRegistry(layout) as registry:
        kit = pulled(f"{registry.host}/kits/m:v1", tmp_path / "cache")
        assert len(registry.seen("/blobs/")) == 1 + 9
    assert tree(kit.root) == tree(pulled(f"oci:{layout}:v1", tmp_path / "near").root) == files


def test_a_tag_that_moves_during_the_pull_gives_one_kit_and_its_digest(tmp_path: Path) -> None:
    layout = made_kit(tmp_path / "layout", {"m.onnx": b"old model", "a.txt": b"old"})
    old = digest_of(layout, "v1")
    gate = Gate()
    with LyingRegistry(layout) as registry:
        registry.lie("/blobs/", stalled(1, gate), times=1)

        def moved() -> bool:
            if gate.reached.is_set() and not gate.open.is_set():
                made_kit(layout, {"m.onnx": b"new model", "a.txt": b"new"})
                gate.open.set()
            return False

        kit = pulled(f"{registry.host}/kits/m:v1", tmp_path / "cache", Recorder(stop=moved))
    assert str(kit.digest) == old != digest_of(layout, "v1")
    assert tree(kit.root) == {"m.onnx": b"old model", "a.txt": b"old"}


def test_a_registry_that_is_a_cache_gives_a_kit_that_it_does_not_have_yet(registry: Registry, tmp_path: Path) -> None:
    _, _, name = registry.push(KITS / "iris-bare", "v1").partition("/")
    with Registry(tmp_path, upstream=registry.host) as cache:
        kit = pulled(f"{cache.host}/{name}", tmp_path / "cache", watch := Recorder())
    assert tree(kit.root) == tree(pulled(f"oci:{KITS}/iris-bare:v1", tmp_path / "near").root)
    assert watch.warnings == []


# --- the cache as others see it


def test_17_skopeo_reads_a_kit_back_from_the_cache(registry: Registry, tmp_path: Path) -> None:
    reference = registry.push(KITS / "iris-bare", "v1")
    pulled(reference, tmp_path / "cache")
    raw = skopeo("inspect", "--raw", f"oci:{tmp_path}/cache:{reference}")
    assert sha256(raw.encode()) == digest_of(KITS / "iris-bare", "v1")
    skopeo("copy", "--preserve-digests", f"oci:{tmp_path}/cache:{reference}", f"oci:{tmp_path}/copy:v1")
    assert tree(tmp_path / "copy" / "blobs") == tree(KITS / "iris-bare" / "blobs")


@pytest.mark.slow
def test_skopeo_reads_the_manifest_of_a_kit_whose_datasets_were_left_out(registry: Registry, tmp_path: Path) -> None:
    reference = registry.push(KITS / "everything", "v1")
    pulled(reference, tmp_path)
    assert sha256(skopeo("inspect", "--raw", f"oci:{tmp_path}:{reference}").encode()) == digest_of(
        KITS / "everything", "v1"
    )


def test_the_index_names_complete_kits_once_each(lying: Lying, tmp_path: Path) -> None:
    registry = lying("iris-onnx")
    digest = digest_of(KITS / "iris-onnx", "gzip")
    for reference in ("iris-onnx:v1", "iris-onnx:v1", f"iris-onnx@{digest}"):
        pulled(f"{registry.host}/kits/{reference}", tmp_path)
    registry.lie("/blobs/", refusal(404, "BLOB_UNKNOWN"))
    with pytest.raises(NotFound):
        pulled(f"{registry.host}/kits/iris-onnx:gzip-fastest", tmp_path)
    assert tags_of(tmp_path) == [f"{registry.host}/kits/iris-onnx:v1", f"{registry.host}/kits/iris-onnx@{digest}"]


def test_a_tag_that_moved_is_renamed_in_the_index(tmp_path: Path) -> None:
    layout = made_kit(tmp_path / "layout", {"m.onnx": b"one"})
    with LyingRegistry(layout) as registry:
        for data in (b"one", b"two"):
            made_kit(layout, {"m.onnx": data})
            kit = pulled(f"{registry.host}/kits/m:v1", tmp_path / "cache")
        assert tags_of(tmp_path / "cache") == [f"{registry.host}/kits/m:v1"]
        assert digest_of(tmp_path / "cache", f"{registry.host}/kits/m:v1") == str(kit.digest)


def test_the_cache_is_made_for_its_owner_only(lying: Lying, tmp_path: Path) -> None:
    registry = lying("iris-bare")
    pulled(f"{registry.host}/kits/iris-bare:v1", tmp_path / "a" / "cache")
    assert (tmp_path / "a" / "cache").stat().st_mode & 0o777 == 0o700
    blobs = [path for path in (tmp_path / "a" / "cache" / "blobs").rglob("*") if path.is_file()]
    assert {path.stat().st_mode & 0o777 for path in blobs} == {0o444}


# --- stopping


@pytest.mark.slow
def test_35_a_cancelled_pull_stops_at_once_in_the_middle_of_a_blob(lying: Lying, tmp_path: Path) -> None:
    registry, gate = lying("iris-onnx"), Gate()
    registry.lie("/blobs/", stalled(10, gate))
    with pytest.raises(Cancelled):
        pulled(f"{registry.host}/kits/iris-onnx:v1", tmp_path, Recorder(stop=gate.reached.is_set))
    assert unverified(tmp_path) == []


def test_a_cancelled_pull_stops_at_once_while_it_waits_to_try_again(lying: Lying, tmp_path: Path) -> None:
    registry = lying("iris-onnx")
    registry.lie("/manifests/", refusal(503, Retry_After="3600"))
    watch = Recorder(stop=lambda: len(registry.requests) > 0)
    with pytest.raises(Cancelled):
        pulled(f"{registry.host}/kits/iris-onnx:v1", tmp_path, watch, retry_budget_seconds=3600.0)


def test_what_the_watch_raises_ends_the_pull(lying: Lying, tmp_path: Path) -> None:
    def fail() -> bool:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        pulled(f"{lying('iris-bare').host}/kits/iris-bare:v1", tmp_path, Recorder(stop=fail))


# --- room


def test_32_a_kit_that_cannot_fit_is_refused_before_it_is_tried(tmp_path: Path) -> None:
    layout = made_kit(tmp_path / "layout", {"m.onnx": b"model"}, size=10**17)
    with LyingRegistry(layout) as registry, pytest.raises(StorageFailed, match=r"has \d+ bytes free, .* needs 2000+;"):
        pulled(f"{registry.host}/kits/m:v1", tmp_path / "cache")
    assert len(registry.seen("/blobs/")) == 1


def test_a_redirected_pull_gets_the_same_bytes(lying: Lying, tmp_path: Path) -> None:
    registry, storage = lying("iris-onnx"), lying("iris-onnx")
    registry.lie("/blobs/", redirect(lambda exchange: storage.url + exchange.seen.path + "?signature=secret"))
    kit = pulled(f"{registry.host}/kits/iris-onnx:v1", tmp_path / "far")
    assert tree(kit.root) == tree(pulled(f"oci:{KITS}/iris-onnx:v1", tmp_path / "near").root)
    assert {seen.path.partition("?")[2] for seen in storage.requests} == {"signature=secret"}


def test_a_kitfile_in_a_layer_is_a_file_like_any_other(tmp_path: Path) -> None:
    files = {"m.onnx": b"model", "Kitfile": b"model: {path: other}", "kitfile.d/x": b"x"}
    kit = pulled(f"oci:{made_kit(tmp_path / 'kit', files)}:v1", tmp_path / "cache")
    assert tree(kit.root) == files
    assert kit.kitfile.model is not None
    assert kit.kitfile.model.path == "m.onnx"


def test_names_as_long_as_a_disk_takes_are_unpacked(tmp_path: Path) -> None:
    files = {"m.onnx": b"model", "/".join(["n" * 255] * 3 + ["n" * 200]): b"deep"}
    assert tree(pulled(f"oci:{made_kit(tmp_path / 'kit', files)}:v1", tmp_path / "cache").root) == files
