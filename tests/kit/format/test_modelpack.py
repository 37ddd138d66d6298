"""ModelPack artifacts, as modctl made them under its names of several years."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest

from runtime.errors import Failure, InvalidKitfile, InvalidManifest, NoModel
from runtime.kit.format.digest import Digest
from runtime.kit.format.head import Head
from runtime.kit.format.kitfile import Kitfile
from runtime.kit.format.manifest import Manifest
from runtime.kit.format.reference import Reference
from tests.kit.pulling import Recorder, pulled, tree
from tests.places import KITS
from tests.registries import Registry

PACKS = KITS / "modelpack"
EXPECTED = json.loads((PACKS / "expected.json").read_bytes())
SERVED = sorted(set(EXPECTED) - {"no-layers:v1"})
PACK = "application/vnd.cncf.model"
DIGEST = "sha256:" + "0f" * 32


@pytest.mark.parametrize("name", SERVED)
def test_01_an_artifact_of_modctl_is_model_parts_and_code_at_their_paths(name: str, tmp_path: Path) -> None:
    wanted = EXPECTED[name]
    kit = pulled(f"oci:{PACKS}/{name}", tmp_path)
    assert (str(kit.digest), kit.verified, kit.kitfile.name) == (wanted["digest"], "true", wanted["name"])
    model = kit.kitfile.model
    assert model
    assert (model.path, model.format, model.framework) == (wanted["model_path"], wanted["format"], "")
    parts = [path for path in dict.fromkeys(wanted["parts_in_layer_order"]) if path != model.path]
    assert [part.path for part in model.parts] == parts
    files = {path: hashlib.sha256(data).hexdigest() for path, data in tree(kit.root).items()}
    served = {wanted["model_path"], *parts, *wanted["code"]}
    assert files == {each["path"]: each["content_sha256"] for each in wanted["layers"] if each["path"] in served}


@pytest.mark.slow
def test_an_artifact_comes_from_a_registry_too_and_leaves_its_docs(registry: Registry, tmp_path: Path) -> None:
    watch = Recorder()
    far = pulled(registry.push(PACKS / "iris-raw", "v1"), tmp_path / "far", watch)
    assert tree(far.root) == tree(pulled(f"oci:{PACKS}/iris-raw:v1", tmp_path / "near").root)
    assert watch.left == ["docs"]


def test_an_artifact_without_layers_has_no_model(tmp_path: Path) -> None:
    with pytest.raises(NoModel, match="has no model to serve"):
        pulled(f"oci:{PACKS}/no-layers:v1", tmp_path)


def head(layers: list[dict[str, object]], config: bytes = b"{}", **annotations: str) -> Head:
    document = {
        "schemaVersion": 2,
        "artifactType": f"{PACK}.manifest.v1+json",
        "config": {"mediaType": f"{PACK}.config.v1+json", "digest": str(Digest.of(config)), "size": len(config)},
        "layers": layers,
        "annotations": annotations,
    }
    manifest = Manifest.parse(json.dumps(document).encode(), expected=None, subject="it")
    return Head.of(Reference.parse("h.x/m"), manifest, config)


def layer(kind: str, path: str | None, **annotations: str) -> dict[str, object]:
    named = {"org.cncf.model.filepath": path} if path else {}
    return {"mediaType": f"{PACK}.{kind}", "digest": DIGEST, "size": 1, "annotations": {**named, **annotations}}


def test_the_kitfile_that_kit_adds_counts() -> None:
    kitfile = {"package": {"name": "iris"}, "model": {"path": "m.onnx", "framework": "onnx", "digest": DIGEST}}
    found = head([layer("weight.v1.raw", "m.onnx")], **{"ml.kitops.modelkit.kitfile": json.dumps(kitfile)})
    assert found.kitfile == Kitfile.parse_json(json.dumps(kitfile).encode())


def test_prompts_are_told_from_code_and_compressed_layers_have_no_digest_of_their_content() -> None:
    prompt = {"ml.kitops.modelkit.layer-subtype": "prompt"}
    found = head([layer("code.v1.raw", "p.md", **prompt), layer("weight.v1.tar+zstd", "m.onnx")]).kitfile
    assert [section for section, _ in found.entries] == ["model", "prompt"]
    assert found.model
    assert found.model.diff_id is None


@pytest.mark.parametrize(
    ("layers", "config", "error", "message"),
    [
        ([layer("layer.v1.tar", "x")], b"{}", InvalidManifest, f"it has a layer of the type {PACK}.layer.v1.tar, unknown in ModelPack"),
        ([layer("weight.v1.raw", None)], b"{}", InvalidManifest, f"it: layer {DIGEST} has no annotation org.cncf.model.filepath, which names it"),
        ([], b'{"config": []}', InvalidKitfile, "the config of the ModelPack artifact's config is not a map"),
    ],
)  # fmt: skip
def test_an_artifact_that_cannot_be_read_says_why(
    layers: list[dict[str, object]], config: bytes, error: type[Failure], message: str
) -> None:
    with pytest.raises(error) as caught:
        head(layers, config)
    assert str(caught.value) == message
