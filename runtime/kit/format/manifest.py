"""The manifest of a ModelKit or a ModelPack artifact: which config and which layers, each by digest.

Bytes in, a trusted value or an error out.

Manifest: https://github.com/opencontainers/image-spec/blob/v1.1.0/manifest.md
Media types: https://github.com/kitops-ml/kitops/blob/main/pkg/lib/constants/mediaType.go (KitOps 1.7), for `raw` and
zstd https://github.com/kitops-ml/kitops/blob/main/pkg/lib/constants/mediatype/kitops.go of later versions; ModelPack:
https://github.com/modelpack/model-spec/blob/main/docs/spec.md, and the older names (`cnai`) of modctl till 2026.
"""

import base64
import re
from collections.abc import Mapping
from contextlib import suppress
from typing import NamedTuple

from runtime.errors import InvalidManifest, NotAModelKit
from runtime.kit.format.digest import Digest, DigestCheck
from runtime.kit.format.json_text import read_object
from runtime.kit.format.limits import MAX_DOCUMENT_BYTES
from runtime.kit.format.media_types import CONFIG_TYPE, KIT_TYPE, OCI_MANIFEST, PACK_LAYER_TYPE, PACK_TYPE, describe

FILE_PATH = "org.cncf.model.filepath"
FILE_METADATA = "org.cncf.model.file.metadata+json"
_SUBTYPE = "ml.kitops.modelkit.layer-subtype"
_LAYER_TYPE = r"(?a)application/vnd\.kitops\.modelkit\.(\w+)\.v1\.(\w+)(?:\+(\w+))?"
_KITFILE = "ml.kitops.modelkit.kitfile"
_PACK_KINDS = {"weight": "modelpart", "weight.config": "modelpart", "doc": "docs", "code": "code", "dataset": "dataset"}
_MAX_SIZE = 2**63 - 1
_MAX_TYPE = 255  # 127 and 127 and the slash: https://www.rfc-editor.org/rfc/rfc6838#section-4.2


class Descriptor(NamedTuple):
    """What a blob has to be (https://github.com/opencontainers/image-spec/blob/v1.1.0/descriptor.md).

    `data`: its bytes, unchecked, if they are in the descriptor.
    """

    media_type: str
    digest: Digest
    size: int  # bytes
    annotations: Mapping[str, str]
    data: bytes = b""


class Layer(NamedTuple):
    """A descriptor and what KitOps says it holds.

    `kind`: model, modelpart, code, dataset, docs or mcpb, or else as written; of a foreign media type, all of that.
    `format`: tar or raw. `compression`: "", gzip or zstd. `prompt`: whether it is a code layer that holds a prompt.
    """

    descriptor: Descriptor
    kind: str
    format: str
    compression: str
    prompt: bool

    @property
    def path(self) -> str | None:
        """The entry's path as the packer wrote it, or None (KitOps up to 1.7 writes none)."""
        return self.descriptor.annotations.get(FILE_PATH)


class Manifest(NamedTuple):
    """A ModelKit's manifest. `raw` is the document, byte for byte; `digest`, over `raw`, is the kit's identity.

    `is_pack`: it is a ModelPack artifact, whose config is no Kitfile; Kit adds the `kitfile` to it as an annotation.
    """

    digest: Digest
    raw: bytes
    config: Descriptor
    layers: tuple[Layer, ...]
    is_pack: bool = False
    kitfile: str = ""

    @classmethod
    def parse(cls, raw: bytes, *, expected: Digest | None, subject: str | None = None) -> "Manifest":
        """Checks and reads a manifest; `subject` stands for it in messages (its digest does otherwise).

        Raises DigestMismatch if it is not what was expected, NotAModelKit with what it is, InvalidManifest.
        """
        digest = verified_digest(raw, expected, None)
        subject = subject or f"manifest {digest}"
        document = read_object(raw, subject, InvalidManifest)
        if "layers" in document and "manifests" in document:
            raise InvalidManifest(f"{subject} has both layers and manifests, so that two readers could see two things")
        is_pack = _is_pack(document, subject)
        if document.get("schemaVersion") != 2:
            raise InvalidManifest(f"{subject} has another schemaVersion than 2")
        config = parse_descriptor(document.get("config"), f"{subject}: config")
        listed = document.get("layers")
        if not isinstance(listed, list | None):  # KitOps 1.7 writes null for a kit without layers
            raise InvalidManifest(f"{subject}: layers is not a list")
        found = [parse_descriptor(item, f"{subject}: layer {number}") for number, item in enumerate(listed or (), 1)]
        kitfile = _annotations(document.get("annotations"), subject).get(_KITFILE, "")
        layers = _pack_layers(found, subject) if is_pack else tuple(map(_layer, found))
        return cls(digest, raw, config, layers, is_pack, kitfile)


def verified_digest(raw: bytes, expected: Digest | None, size: int | None) -> Digest:
    """Returns the digest of `raw`. Raises SizeMismatch, DigestMismatch, and InvalidManifest for more than 4 MiB."""
    if len(raw) > MAX_DOCUMENT_BYTES:
        raise InvalidManifest(f"the manifest has more than the {MAX_DOCUMENT_BYTES} bytes that are read")
    wanted = expected or Digest.of(raw)
    DigestCheck(wanted, size, "the manifest", ": it was changed on the way").check_whole(raw)
    return wanted


def _is_pack(document: dict[str, object], subject: str) -> bool:
    """Tells a ModelPack artifact from a ModelKit. Raises NotAModelKit for what is neither."""
    # by artifact type or by config type: KitOps has both since https://github.com/kitops-ml/kitops/pull/1000
    config = document.get("config")
    types = [document.get("artifactType"), config.get("mediaType") if isinstance(config, dict) else None]
    if document.get("mediaType") in (None, "", OCI_MANIFEST) and "manifests" not in document:
        if KIT_TYPE in types or CONFIG_TYPE in types:
            return False
        if any(isinstance(each, str) and re.fullmatch(PACK_TYPE, each) for each in types):
            return True
    raise NotAModelKit(f"{subject} is not a ModelKit but {describe(document)}; wanted a kit made by `kit pack`")


def parse_descriptor(value: object, where: str) -> Descriptor:
    """Reads a descriptor. Raises InvalidManifest, whose message begins with `where`."""
    if not isinstance(value, dict):
        raise InvalidManifest(f"{where} is not a descriptor")
    media_type, size, digest = value.get("mediaType"), value.get("size"), value.get("digest")
    if not isinstance(media_type, str) or not media_type or not media_type.isprintable():
        raise InvalidManifest(f"{where} has no mediaType")
    if len(media_type) > _MAX_TYPE:
        raise InvalidManifest(f"{where} has a mediaType of {len(media_type)} characters, at most {_MAX_TYPE} are read")
    if not isinstance(size, int) or isinstance(size, bool) or not 0 <= size <= _MAX_SIZE:
        raise InvalidManifest(f"{where} has size {str(size)[:40]}, wanted a number of bytes")
    if not isinstance(digest, str):
        raise InvalidManifest(f"{where} has no digest")
    try:
        data = _data(value.get("data"), size)
        return Descriptor(media_type, Digest.parse(digest), size, _annotations(value.get("annotations"), where), data)
    except ValueError as problem:
        raise InvalidManifest(f"{where} has a bad digest: {problem}") from problem


def _data(text: object, size: int) -> bytes:
    """Returns the bytes in a descriptor; none if they are not all there: then the blob is asked for."""
    with suppress(ValueError):
        data = base64.b64decode(text, validate=True) if isinstance(text, str) else b""
        return data if len(data) == size else b""
    return b""


def _layer(descriptor: Descriptor) -> Layer:
    match = re.fullmatch(_LAYER_TYPE, descriptor.media_type)
    if match is None:
        return Layer(descriptor, kind=descriptor.media_type, format="", compression="", prompt=False)
    kind, form, compression = match.groups(default="")
    prompt = kind == "code" and descriptor.annotations.get(_SUBTYPE) == "prompt"
    return Layer(descriptor, kind, form, compression, prompt)


def _pack_layers(found: list[Descriptor], subject: str) -> tuple[Layer, ...]:
    """Returns each layer once; the first weight is the model, all others are its parts."""
    layers: dict[tuple[Digest, str | None], Layer] = {}
    has_model = False
    for descriptor in found:
        match = re.fullmatch(PACK_LAYER_TYPE, descriptor.media_type)
        base, form, compression = match.groups(default="") if match else ("", "", "")
        kind = "model" if base == "weight" and not has_model else _PACK_KINDS.get(base)
        if kind is None:
            raise InvalidManifest(f"{subject} has a layer of the type {descriptor.media_type}, unknown in ModelPack")
        has_model = has_model or kind == "model"
        annotations = {key.replace("org.cnai.", "org.cncf."): text for key, text in descriptor.annotations.items()}
        if not annotations.get(FILE_PATH):
            raise InvalidManifest(f"{subject}: layer {descriptor.digest} has no annotation {FILE_PATH}, which names it")
        prompt = kind == "code" and annotations.get(_SUBTYPE) == "prompt"
        layer = Layer(descriptor._replace(annotations=annotations), kind, form, compression, prompt)
        if kind == "model" or (descriptor.digest, layer.path) not in layers:  # modctl lists a file for each pattern
            layers[descriptor.digest, layer.path] = layer
    return tuple(layers.values())


def _annotations(value: object, where: str) -> Mapping[str, str]:
    if value is None:
        return {}
    if not isinstance(value, dict) or not all(isinstance(text, str) for text in value.values()):
        raise InvalidManifest(f"{where}: annotations is not a map of text to text")
    return value
