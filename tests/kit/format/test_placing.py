import json
import time

import pytest

from runtime.errors import InvalidKitfile
from runtime.kit.format.kitfile import Kitfile
from runtime.kit.format.manifest import Manifest
from runtime.kit.format.placing import Placed, needed, place, unplaced
from tests.kit.golden import EVERY_KIT, IDS, Golden, golden

KIT = "application/vnd.kitops.modelkit."
A, B, C = (f"sha256:{letter * 64}" for letter in "abc")


def manifest(*layers: tuple[str, str, str | None]) -> Manifest:
    """Make a manifest of (kind, digest, noted path)."""
    listed = [
        {
            "mediaType": f"{KIT}{kind}.v1.tar",
            "digest": digest,
            "size": 1,
            "annotations": {"org.cncf.model.filepath": path} if path else None,
        }
        for kind, digest, path in layers
    ]
    config = {"mediaType": KIT + "config.v1+json", "digest": C, "size": 2}
    return Manifest.parse(json.dumps({"schemaVersion": 2, "config": config, "layers": listed}).encode(), expected=None)


def placed(document: dict[str, object], *layers: tuple[str, str, str | None]) -> tuple[Placed, ...]:
    listed = manifest(*layers)
    return place(Kitfile.parse_json(json.dumps(document).encode(), listed.layers), listed)


def read(kit: Golden) -> tuple[Kitfile, Manifest]:
    found = Manifest.parse(kit.blob(kit.digest).read_bytes(), expected=None)
    return Kitfile.parse_json(kit.blob(str(found.config.digest)).read_bytes(), found.layers), found


@pytest.mark.parametrize("kit", EVERY_KIT, ids=IDS)
def test_every_layer_of_a_golden_kit_belongs_to_the_entry_whose_files_it_holds(kit: Golden) -> None:
    kitfile, found = read(kit)
    result = place(kitfile, found)
    assert len(result) == len(kit.manifest["layers"] or [])
    assert unplaced(result, found) == ()
    for item in result:
        names = kit.tar_files(str(item.layer.descriptor.digest))
        paths = [f"{item.prefix}/{name}" if item.prefix else name for name in names]
        assert paths
        assert all(item.entry.path == "." or f"{path}/".startswith(f"{item.entry.path}/") for path in paths)


@pytest.mark.parametrize("tag", ["era-0.2", "era-0.4"])
def test_old_kits_unpack_beside_the_entrys_path(tag: str) -> None:
    assert [(p.section, p.entry.path, p.prefix) for p in place(*read(golden("iris-onnx", tag)))][:3] == [
        ("model", "model/iris.onnx", "model"),
        ("part", "model/samples.json", "model"),
        ("dataset", "data/iris.csv", "data"),
    ]
    assert [(p.entry.path, p.prefix) for p in place(*read(golden("digits-external", tag)))] == [("model", "")]


def test_serving_needs_neither_datasets_nor_docs() -> None:
    assert [p.section for p in needed(place(*read(golden("everything"))))] == ["model", "part", "part", "code", "code"]
    assert needed(place(*read(golden("dataset-only")))) == ()


def test_digests_place_layers_in_any_order() -> None:
    document = {"model": {"path": "m", "digest": A}, "code": [{"path": "c", "digest": B}]}
    result = placed(document, ("code", B, None), ("model", A, None))
    assert [(p.section, str(p.layer.descriptor.digest), p.prefix) for p in result] == [
        ("model", A, ""),
        ("code", B, ""),
    ]


def test_twins_of_one_digest_are_told_apart_by_path() -> None:
    document = {"code": [{"path": "a", "digest": A}, {"path": "b", "digest": A}]}
    result = placed(document, ("code", A, "b"), ("code", A, "a"))
    assert [(p.entry.path, p.layer.path) for p in result] == [("a", "a"), ("b", "b")]


def test_twins_of_one_digest_without_a_path_are_told_apart_by_kind() -> None:
    document = {"model": {"path": "a", "digest": A}, "docs": [{"path": "b", "digest": A}]}
    assert [p.layer.kind for p in placed(document, ("docs", A, None), ("model", A, None))] == ["model", "docs"]


def test_one_layer_may_stand_at_two_entries() -> None:
    document = {"docs": [{"path": "a", "digest": A}, {"path": "b", "digest": A}]}
    assert [p.entry.path for p in placed(document, ("docs", A, None))] == ["a", "b"]


def test_a_digest_that_the_manifest_lacks_is_an_error() -> None:
    with pytest.raises(InvalidKitfile) as caught:
        placed({"model": {"path": "m.onnx", "digest": A}}, ("model", B, None))
    assert str(caught.value) == (
        f"the manifest has no layer {A}, which the Kitfile gives for model 'm.onnx'; pack the kit again"
    )


def test_layers_of_old_kits_are_matched_by_order_within_a_kind() -> None:
    document = {"code": [{"path": "x/a"}, {"path": "b"}], "model": {"path": "m/n/o", "parts": [{"path": "p"}]}}
    layers = (("code", A, None), ("model", B, None), ("modelpart", C, None), ("code", C, None))
    assert [(p.section, str(p.layer.descriptor.digest)[7], p.prefix) for p in placed(document, *layers)] == [
        ("model", "b", "m/n"),
        ("part", "c", ""),
        ("code", "a", "x"),
        ("code", "c", ""),
    ]


@pytest.mark.parametrize(
    ("layers", "counts"),
    [((), (1, 0)), ((("code", A, None), ("code", B, None)), (1, 2))],
    ids=["missing", "too-many"],
)
def test_old_kits_need_as_many_layers_as_entries(
    layers: tuple[tuple[str, str, None], ...], counts: tuple[int, int]
) -> None:
    with pytest.raises(InvalidKitfile) as caught:
        placed({"code": [{"path": "a"}]}, *layers)
    assert str(caught.value) == (
        f"the Kitfile has {counts[0]} entries of section 'code' and no digests, the manifest {counts[1]} layers of "
        "that kind, so they cannot be matched by order; pack the kit again"
    )


def test_layers_that_nobody_names_are_told() -> None:
    found = manifest(("model", A, None), ("skill", B, None))
    kitfile = Kitfile.parse_json(json.dumps({"model": {"path": "m", "digest": A}}).encode())
    assert [layer.kind for layer in unplaced(place(kitfile, found), found)] == ["skill"]


@pytest.mark.slow
def test_many_entries_of_one_digest_are_matched_in_a_moment() -> None:
    count = 10_000  # one after another in all twins would take a hundred million comparisons
    layers = [("dataset", A, f"d/{number}") for number in range(count)]
    document = {"datasets": [{"path": path, "digest": A} for _, _, path in layers]}
    started = time.process_time()
    result = placed(document, *layers)
    assert [item.layer.path for item in result] == [item.entry.path for item in result]
    assert time.process_time() - started < 10
