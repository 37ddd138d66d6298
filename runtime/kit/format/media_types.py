"""Media types, and in words what an artifact is that is not a ModelKit."""

from collections.abc import Mapping

OCI_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
OCI_INDEX = "application/vnd.oci.image.index.v1+json"
KIT_TYPE = "application/vnd.kitops.modelkit.manifest.v1+json"
KIT_INDEX_TYPE = "application/vnd.kitops.modelkit.index.v1+json"
CONFIG_TYPE = "application/vnd.kitops.modelkit.config.v1+json"

# ModelPack, by its names and by the older ones: https://github.com/modelpack/model-spec/blob/main/docs/spec.md
PACK_TYPE = r"application/vnd\.(?:cncf|cnai)\.model\.(?:manifest|config)\.v1\+json"
PACK_LAYER_TYPE = r"(?a)application/vnd\.(?:cncf|cnai)\.model\.(\w+(?:\.\w+)?)\.v1\.(\w+)(?:\+(\w+))?"

# by which a layout's index names a manifest: https://github.com/opencontainers/image-spec/blob/v1.1.0/annotations.md
REF_NAME = "org.opencontainers.image.ref.name"

_DOCKER = "application/vnd.docker."
_INDEXES = (OCI_INDEX, _DOCKER + "distribution.manifest.list.v2+json")
MANIFESTS = (OCI_MANIFEST, _DOCKER + "distribution.manifest.v2+json", *_INDEXES)

# (beginning of a media type, what it says the artifact is); the first that fits wins, so signatures stand before
# images: cosign stores a classic signature as an image with layers of its own type
_KINDS: tuple[tuple[str | tuple[str, ...], str], ...] = (
    ("application/vnd.dev.cosign.", "a cosign signature"),
    ("application/vnd.dev.sigstore.bundle", "a cosign signature (a Sigstore bundle)"),
    ("application/vnd.cncf.notary.signature", "a Notation signature"),
    (("application/vnd.dsse.envelope", "application/vnd.in-toto"), "an attestation"),
    ("application/vnd.cncf.helm.", "a Helm chart"),
    ("application/vnd.cncf.model.", "a ModelPack artifact"),
    ("application/vnd.cnai.model.", "a ModelPack artifact of the older kind (CNAI)"),
    ("application/vnd.kitops.modelkit.model.config.", "a kit of an alpha version of Kit, older than 0.1.0"),
    ("application/vnd.jozu.model.", "a kit of an alpha version of Kit, older than 0.1.0"),
    ("application/vnd.ollama.", "an Ollama model"),
    ("application/vnd.wasm.", "a WebAssembly module"),
    (
        ("application/vnd.oci.image.config.v1", _DOCKER + "container.image.", _DOCKER + "image.rootfs."),
        "a container image",
    ),
)


def describe(document: Mapping[str, object]) -> str:
    """Says what a manifest that is not a ModelKit's is, with its media type: "a Helm chart (application/…)"."""
    media_type, artifact_type = _text(document.get("mediaType")), _text(document.get("artifactType"))
    if artifact_type == KIT_INDEX_TYPE:
        return f"a ModelKit index, several kits under one name ({artifact_type})"
    if media_type in _INDEXES or "manifests" in document:
        return f"an OCI index, several manifests under one name ({artifact_type or media_type or OCI_INDEX})"
    if document.get("schemaVersion") == 1:
        return f"a container image of Docker's first format ({media_type or 'schemaVersion 1'})"
    layers = document.get("layers")
    inside = [document.get("config"), *(layers if isinstance(layers, list) else [])]
    types = [artifact_type, *(_text(item.get("mediaType")) for item in inside if isinstance(item, dict))]
    for beginning, kind in _KINDS:
        if found := next((text for text in types if text.startswith(beginning)), ""):
            return f"{kind} ({found[:160]})"
    if CONFIG_TYPE in types or KIT_TYPE in types:
        return f"a manifest of type {media_type[:160]}"
    return f"an artifact of type {next((text for text in types if text), media_type)[:160] or 'unknown'}"


def _text(value: object) -> str:
    """Returns a media type with "?" for what a terminal must not get: a registry's text can hold escapes."""
    return "".join(letter if letter.isprintable() else "?" for letter in value) if isinstance(value, str) else ""
