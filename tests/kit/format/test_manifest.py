import json

import pytest

from runtime.errors import DigestMismatch, InvalidManifest, NotAModelKit, SizeMismatch
from runtime.kit.format.digest import Digest
from runtime.kit.format.manifest import Descriptor, Layer, Manifest, verified_digest
from tests.kit.golden import EVERY_KIT, IDS, Golden

PIN = "sha256:" + "0f" * 32
OCI = "application/vnd.oci.image.manifest.v1+json"
INDEX = "application/vnd.oci.image.index.v1+json"
KIT = "application/vnd.kitops.modelkit."
KIT_CONFIG = KIT + "config.v1+json"
KIT_TYPE = KIT + "manifest.v1+json"
IMAGE_CONFIG = "application/vnd.oci.image.config.v1+json"


def blob(media_type: str = KIT_CONFIG, **more: object) -> dict[str, object]:
    return {"mediaType": media_type, "digest": PIN, "size": 7, **more}


def document(**changes: object) -> dict[str, object]:
    whole = {"schemaVersion": 2, "config": blob(), "layers": [blob(KIT + "model.v1.tar")], **changes}
    return {key: value for key, value in whole.items() if value is not ...}


def parse(*, subject: str | None = "it", **changes: object) -> Manifest:
    return Manifest.parse(json.dumps(document(**changes)).encode(), expected=None, subject=subject)


@pytest.mark.parametrize("golden", EVERY_KIT, ids=IDS)
def test_every_golden_manifest_is_read(golden: Golden) -> None:
    raw = golden.blob(golden.digest).read_bytes()
    manifest = Manifest.parse(raw, expected=Digest.parse(golden.digest))
    assert str(manifest.digest) == golden.digest
    assert manifest.raw == raw
    assert str(manifest.config.digest) == golden.manifest["config"]["digest"]
    assert [str(layer.descriptor.digest) for layer in manifest.layers] == [
        item["digest"] for item in golden.manifest["layers"] or []
    ]


LAYERS = {
    "model": ("model.v1.tar", ("model", "tar", "")),
    "gzip": ("modelpart.v1.tar+gzip", ("modelpart", "tar", "gzip")),
    "zstd": ("code.v1.tar+zstd", ("code", "tar", "zstd")),
    "raw": ("dataset.v1.raw", ("dataset", "raw", "")),
    "raw-gzip": ("docs.v1.raw+gzip", ("docs", "raw", "gzip")),
    "mcpb": ("mcpb.v1.raw", ("mcpb", "raw", "")),
    "unknown-kind": ("skill.v1.tar", ("skill", "tar", "")),
    "unknown-format": ("model.v1.squashfs", ("model", "squashfs", "")),
    "unknown-version": ("model.v2.tar", (KIT + "model.v2.tar", "", "")),
    "more-at-the-end": ("model.v1.tar+gzip+x", (KIT + "model.v1.tar+gzip+x", "", "")),
}


@pytest.mark.parametrize(("media_type", "expected"), LAYERS.values(), ids=LAYERS.keys())
def test_a_layer_is_what_its_media_type_says(media_type: str, expected: tuple[str, str, str]) -> None:
    layer = parse(layers=[blob(KIT + media_type)]).layers[0]
    assert (layer.kind, layer.format, layer.compression) == expected
    assert not layer.prompt


def test_a_foreign_layer_is_kept_under_its_media_type() -> None:
    layer = parse(layers=[blob("application/octet-stream")]).layers[0]
    assert layer == Layer(
        Descriptor("application/octet-stream", Digest.parse(PIN), 7, {}),
        "application/octet-stream",
        "",
        "",
        prompt=False,
    )


def test_a_prompt_is_a_code_layer_with_an_annotation() -> None:
    note = {"ml.kitops.modelkit.layer-subtype": "prompt", "org.cncf.model.filepath": "system.md"}
    code, model = parse(
        layers=[blob(KIT + "code.v1.tar", annotations=note), blob(KIT + "model.v1.tar", annotations=note)]
    ).layers
    assert (code.prompt, model.prompt, code.path) == (True, False, "system.md")


@pytest.mark.parametrize("layers", [None, [], ...], ids=["null", "empty", "absent"])
def test_a_kit_may_have_no_layers(layers: object) -> None:
    assert parse(layers=layers).layers == ()


@pytest.mark.parametrize(
    "changes",
    [
        {"artifactType": KIT_TYPE, "mediaType": OCI},
        {"artifactType": KIT_TYPE, "config": blob("application/vnd.example.config")},
        {"artifactType": "application/vnd.example"},
        {"mediaType": ""},
        {"annotations": None},
    ],
    ids=["new", "by-artifact-type", "by-config-type", "empty-media-type", "null-annotations"],
)
def test_a_modelkit_is_known_by_artifact_type_or_config_type(changes: dict[str, object]) -> None:
    assert parse(**changes).config.digest == Digest.parse(PIN)


OTHERS = {
    "image": ({"config": blob(IMAGE_CONFIG)}, f"a container image ({IMAGE_CONFIG})"),
    "docker-image": (
        {
            "mediaType": "application/vnd.docker.distribution.manifest.v2+json",
            "config": blob("application/vnd.docker.container.image.v1+json"),
        },
        "a container image (application/vnd.docker.container.image.v1+json)",
    ),
    "docker-1": (
        {"schemaVersion": 1, "mediaType": "application/vnd.docker.distribution.manifest.v1+json", "config": ...},
        "a container image of Docker's first format (application/vnd.docker.distribution.manifest.v1+json)",
    ),
    "kit-in-docker-manifest": (
        {"mediaType": "application/vnd.docker.distribution.manifest.v2+json"},
        "a manifest of type application/vnd.docker.distribution.manifest.v2+json",
    ),
    "index": (
        {"mediaType": INDEX, "config": ..., "layers": ..., "manifests": []},
        f"an OCI index, several manifests under one name ({INDEX})",
    ),
    "docker-list": (
        {
            "mediaType": "application/vnd.docker.distribution.manifest.list.v2+json",
            "config": ...,
            "layers": ...,
            "manifests": [],
        },
        "an OCI index, several manifests under one name (application/vnd.docker.distribution.manifest.list.v2+json)",
    ),
    "index-without-type": (
        {"config": ..., "layers": ..., "manifests": []},
        f"an OCI index, several manifests under one name ({INDEX})",
    ),
    "kit-index": (
        {
            "mediaType": INDEX,
            "artifactType": KIT + "index.v1+json",
            "config": ...,
            "layers": ...,
            "manifests": [],
        },
        f"a ModelKit index, several kits under one name ({KIT}index.v1+json)",
    ),
    "helm": (
        {"config": blob("application/vnd.cncf.helm.config.v1+json")},
        "a Helm chart (application/vnd.cncf.helm.config.v1+json)",
    ),
    "modelpack": (
        {
            "mediaType": "application/vnd.docker.distribution.manifest.v2+json",
            "artifactType": "application/vnd.cncf.model.manifest.v1+json",
            "config": blob("application/vnd.cncf.model.config.v1+json"),
        },
        "a ModelPack artifact (application/vnd.cncf.model.manifest.v1+json)",
    ),
    "cnai": (
        {
            "mediaType": "application/vnd.docker.distribution.manifest.v2+json",
            "artifactType": "application/vnd.cnai.model.manifest.v1+json",
            "config": blob("application/vnd.cnai.model.config.v1+json"),
        },
        "a ModelPack artifact of the older kind (CNAI) (application/vnd.cnai.model.manifest.v1+json)",
    ),
    "cosign": (
        {"config": blob(IMAGE_CONFIG), "layers": [blob("application/vnd.dev.cosign.simplesigning.v1+json")]},
        "a cosign signature (application/vnd.dev.cosign.simplesigning.v1+json)",
    ),
    "sigstore": (
        {
            "artifactType": "application/vnd.dev.sigstore.bundle.v0.3+json",
            "config": blob("application/vnd.oci.empty.v1+json"),
        },
        "a cosign signature (a Sigstore bundle) (application/vnd.dev.sigstore.bundle.v0.3+json)",
    ),
    "notation": (
        {"config": blob("application/vnd.cncf.notary.signature")},
        "a Notation signature (application/vnd.cncf.notary.signature)",
    ),
    "alpha": (
        {"config": blob(KIT + "model.config.v1+json")},
        f"a kit of an alpha version of Kit, older than 0.1.0 ({KIT}model.config.v1+json)",
    ),
    "unknown": ({"config": blob("application/x")}, "an artifact of type application/x"),
    "no-config": ({"config": ..., "layers": ...}, "an artifact of type unknown"),
    "escapes": ({"config": blob("\x1b[2Jx")}, "an artifact of type ?[2Jx"),
    "long": ({"config": blob("x" * 999)}, f"an artifact of type {'x' * 160}"),
}


@pytest.mark.parametrize(("changes", "what"), OTHERS.values(), ids=OTHERS.keys())
def test_another_artifact_is_named(changes: dict[str, object], what: str) -> None:
    with pytest.raises(NotAModelKit) as caught:
        parse(**changes)
    assert str(caught.value) == f"it is not a ModelKit but {what}; wanted a kit made by `kit pack`"


INVALID = {
    "layers-and-manifests": (
        {"manifests": []},
        "it has both layers and manifests, so that two readers could see two things",
    ),
    "schema-3": ({"schemaVersion": 3}, "it has another schemaVersion than 2"),
    "schema-missing": ({"schemaVersion": ...}, "it has another schemaVersion than 2"),
    "config-missing": ({"config": None, "artifactType": KIT_TYPE}, "it: config is not a descriptor"),
    "layers-object": ({"layers": {}}, "it: layers is not a list"),
    "layer-text": ({"layers": ["x"]}, "it: layer 1 is not a descriptor"),
    "no-media-type": ({"layers": [blob(), blob("")]}, "it: layer 2 has no mediaType"),
    "media-type-long": (
        {"layers": [blob("x" * 256)]},
        "it: layer 1 has a mediaType of 256 characters, at most 255 are read",
    ),
    "media-type-escapes": ({"layers": [blob("\x1b[2Jx")]}, "it: layer 1 has no mediaType"),
    "size-negative": ({"config": blob(size=-1)}, "it: config has size -1, wanted a number of bytes"),
    "size-fraction": ({"config": blob(size=1.5)}, "it: config has size 1.5, wanted a number of bytes"),
    "size-boolean": ({"config": blob(size=True)}, "it: config has size True, wanted a number of bytes"),
    "size-text": ({"config": blob(size="7")}, "it: config has size 7, wanted a number of bytes"),
    "size-huge": ({"config": blob(size=2**63)}, "it: config has size 9223372036854775808, wanted a number of bytes"),
    "digest-missing": ({"config": blob(digest=None)}, "it: config has no digest"),
    "digest-traversal": (
        {"config": blob(digest="sha256:../../etc/passwd")},
        "it: config has a bad digest: sha256 has 64 hexadecimal digits, this one 16",
    ),
    "annotations-list": ({"annotations": []}, "it: annotations is not a map of text to text"),
    "annotations-number": (
        {"config": blob(annotations={"a": 1})},
        "it: config: annotations is not a map of text to text",
    ),
}


@pytest.mark.parametrize(("changes", "message"), INVALID.values(), ids=INVALID.keys())
def test_an_invalid_manifest_says_where(changes: dict[str, object], message: str) -> None:
    with pytest.raises(InvalidManifest) as caught:
        parse(**changes)
    assert str(caught.value) == message


RAW = {
    "empty": (b"", "it is not JSON: Expecting value: line 1 column 1 (char 0)"),
    "html": (b"<html>", "it is not JSON: Expecting value: line 1 column 1 (char 0)"),
    "list": (b"[]", "it is not a JSON object"),
    "null": (b"null", "it is not a JSON object"),
    "repeated-key": (b'{"a":1,"a":2}', "it is not JSON: the key 'a' occurs twice in one object"),
    "not-a-number": (b'{"a":NaN}', "it is not JSON: NaN is not a JSON number"),
    "huge-number": (b'{"a":-1e999}', "it is not JSON: the number -1e999 is too large"),
    "deep": (b"[" * 200_000, "it is not JSON: nested too deeply"),
    "big": (b" " * (4 << 20) + b"{}", "the manifest has more than the 4194304 bytes that are read"),
}


@pytest.mark.parametrize(("raw", "message"), RAW.values(), ids=RAW.keys())
def test_38_bytes_that_are_no_manifest_are_refused(raw: bytes, message: str) -> None:
    with pytest.raises(InvalidManifest) as caught:
        Manifest.parse(raw, expected=None, subject="it")
    assert str(caught.value) == message


@pytest.mark.parametrize("raw", [b"\xff\xfe{}", b'{"a":"\\ud800"}', b'{"a":' + b"9" * 5000 + b"}"])
def test_38_json_that_readers_take_differently_is_refused(raw: bytes) -> None:
    with pytest.raises(InvalidManifest, match=r"^it is not JSON: "):
        Manifest.parse(raw, expected=None, subject="it")


def test_other_bytes_than_the_digest_says_are_refused_before_they_are_read() -> None:
    seen = Digest.of(b"not even JSON")
    with pytest.raises(DigestMismatch) as caught:
        Manifest.parse(b"not even JSON", expected=Digest.parse(PIN))
    assert str(caught.value) == f"the manifest has digest {seen}, wanted {PIN}: it was changed on the way"


def test_another_size_than_the_descriptor_says_is_refused() -> None:
    with pytest.raises(SizeMismatch) as caught:
        verified_digest(b"{}", Digest.of(b"{}"), 3)
    assert str(caught.value) == "the manifest has 2 bytes, wanted 3: it was changed on the way"


def test_a_message_names_the_digest_where_nothing_better_is_known() -> None:
    raw = json.dumps(document(config=blob(IMAGE_CONFIG))).encode()
    with pytest.raises(NotAModelKit, match=f"^manifest {Digest.of(raw)} is not a ModelKit but a container image"):
        Manifest.parse(raw, expected=None)


def test_a_manifest_named_by_sha512_keeps_that_digest() -> None:
    raw = json.dumps(document()).encode()
    pinned = Digest.of(raw, "sha512")
    assert Manifest.parse(raw, expected=pinned).digest == pinned
