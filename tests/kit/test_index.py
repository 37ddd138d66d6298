"""ModelKit indexes: one of several kits, by its labels, from a real registry and from a layout."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from runtime.errors import InvalidManifest, InvalidSetting, NotAModelKit, NotFound
from runtime.kit.format.digest import Digest
from runtime.kit.format.index import selected
from tests.kit.made import made_kit, named, put
from tests.kit.pulling import Recorder, pulled, tree
from tests.registries import Registry, digest_of, skopeo

OCI_INDEX = "application/vnd.oci.image.index.v1+json"
KIT_INDEX = "application/vnd.kitops.modelkit.index.v1+json"
LABELS = [{"quantization": "int8", "gpu": False}, {"quantization": "fp16", "gpu": True}]


@pytest.fixture
def layout(tmp_path: Path) -> Path:
    """A layout with the index `all` of the kits `k0` and `k1`, the index `one` of k0, and the plain index `plain`."""
    folder = tmp_path / "layout"
    for number in range(2):
        made_kit(folder, {"m.bin": b"model %d" % number}, f"k{number}")
    manifests = json.loads((folder / "index.json").read_bytes())["manifests"]
    listed = [
        {**each, "annotations": {}, "modelMetadata": labels} for each, labels in zip(manifests, LABELS, strict=True)
    ]
    for tag, count, kind in (("all", 2, KIT_INDEX), ("one", 1, KIT_INDEX), ("plain", 2, None)):
        document = {"schemaVersion": 2, "mediaType": OCI_INDEX, "artifactType": kind, "manifests": listed[:count]}
        named(folder, put(folder, json.dumps(document).encode(), OCI_INDEX), tag)
    return folder


@pytest.mark.parametrize(
    ("tag", "select", "number"),
    [
        ("all", (("quantization", "int8"),), 0),
        ("all", (("gpu", "true"), ("quantization", "fp16")), 1),
        ("one", (), 0),
    ],
)
def test_14_the_one_kit_with_all_labels_is_pulled(
    tag: str, select: tuple[tuple[str, str], ...], number: int, layout: Path, registry: Registry, tmp_path: Path
) -> None:
    target = f"{registry.host}/kits/{tmp_path.name.lower().replace('_', '-')}:{tag}"
    skopeo(
        "copy", "--all", "--preserve-digests", "--dest-tls-verify=false", f"oci:{layout}:{tag}", f"docker://{target}"
    )
    for reference in (target, f"oci:{layout}:{tag}"):
        kit = pulled(reference, tmp_path / "cache", select=select)
        assert tree(kit.root) == {"m.bin": b"model %d" % number}
        assert str(kit.digest) == digest_of(layout, f"k{number}")


@pytest.mark.parametrize(
    ("select", "message"),
    [
        (
            (),
            "has 2 kits, select one by --select KEY=VALUE: {0} (quantization=int8, gpu=false), {1} (quantization=fp16, gpu=true)",
        ),
        (
            (("gpu", "yes"),),
            "has no kit with gpu=yes; it has {0} (quantization=int8, gpu=false), {1} (quantization=fp16, gpu=true)",
        ),
    ],
)
def test_14_none_or_several_are_listed(
    select: tuple[tuple[str, str], ...], message: str, layout: Path, tmp_path: Path
) -> None:
    with pytest.raises(NotFound) as caught:
        pulled(f"oci:{layout}:all", tmp_path / "cache", select=select)
    index, *kits = (digest_of(layout, tag) for tag in ("all", "k0", "k1"))
    assert str(caught.value) == f"oci:{layout}:all@{index} {message.format(*kits)}"


def test_an_index_that_is_none_of_kits_is_named(layout: Path, tmp_path: Path) -> None:
    with pytest.raises(NotAModelKit, match="an OCI index, several manifests under one name"):
        pulled(f"oci:{layout}:plain", tmp_path / "cache")


def test_labels_for_a_single_kit_are_a_mistake(layout: Path, tmp_path: Path) -> None:
    with pytest.raises(InvalidSetting, match=r"--select is for an index of several kits, but .*:k0@.* is one kit"):
        pulled(f"oci:{layout}:k0", tmp_path / "cache", select=(("gpu", "true"),))


def test_a_missing_tag_of_an_index_is_said(layout: Path, tmp_path: Path) -> None:
    index = json.loads((layout / "index.json").read_bytes())
    index["manifests"] = [each for each in index["manifests"] if "one" in each["annotations"].values()]
    (layout / "index.json").write_text(json.dumps(index))
    watch = Recorder()
    pulled(f"oci:{layout}", tmp_path / "cache", watch)
    assert watch.warned == ["tag.defaulted"]


@pytest.mark.parametrize("manifests", [{}, [{}] * 1001, [1]])
def test_a_bad_index_is_refused(manifests: object) -> None:
    raw = json.dumps({"artifactType": KIT_INDEX, "manifests": manifests}).encode()
    with pytest.raises(InvalidManifest):
        selected(raw, "it", ())


def test_an_empty_index_and_entries_without_labels_are_said() -> None:
    with pytest.raises(NotFound, match="it has no kit with any labels; it has none"):
        selected(json.dumps({"artifactType": KIT_INDEX, "manifests": []}).encode(), "it", ())
    kits = [{"mediaType": "x", "digest": str(Digest.of(b"%d" % n)), "size": 1} for n in range(11)]
    with pytest.raises(NotFound, match=r"it has 11 kits, .* \(no labels\), .* and others"):
        selected(json.dumps({"artifactType": KIT_INDEX, "manifests": kits}).encode(), "it", ())
