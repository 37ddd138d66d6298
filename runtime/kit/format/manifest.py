"""A ModelKit's manifest: which config and which layers, each by digest. Bytes in, a trusted value or an error out.

Media types: KitOps 1.7 `pkg/lib/constants/mediaType.go`; for `raw` and zstd, `mediatype/kitops.go` of later versions.
A manifest is a ModelKit's by its `artifactType` or its config's media type, as KitOps has it since PR 1000.
"""

import re
from collections.abc import Mapping
from typing import NamedTuple

from runtime.errors import DigestMismatch, InvalidManifest, NotAModelKit, SizeMismatch
from runtime.kit.format.digest import Digest
from runtime.kit.format.json_text import MAX_DOCUMENT_BYTES, read_json
from runtime.kit.format.media_types import CONFIG_TYPE, KIT_TYPE, OCI_MANIFEST, describe

FILE_PATH = "org.cncf.model.filepath"
FILE_METADATA = "org.cncf.model.file.metadata+json"
_SUBTYPE = "ml.kitops.modelkit.layer-subtype"
_LAYER_TYPE = r"(?a)application/vnd\.kitops\.modelkit\.(\w+)\.v1\.(\w+)(?:\+(\w+))?"
_MAX_SIZE = 2**63 - 1
_MAX_TYPE = 255  # RFC 6838, 4.2: 127 and 127, and the slash


class Descriptor(NamedTuple):
    """What some blob is and has to be: media type, digest, and `size` in bytes."""

    media_type: str
    digest: Digest
    size: int
    annotations: Mapping[str, str]


class Layer(NamedTuple):
    """A descriptor and what KitOps says it holds.

    `kind`: model, modelpart, code, dataset, docs or mcpb; anything else is kept as written, a foreign media
    type whole.
    `format`: tar or raw. `compression`: "", gzip or zstd. `prompt`: a code layer that holds a prompt.
    """

    descriptor: Descriptor
    kind: str
    format: str
    compression: str
    prompt: bool

    @property
    def path(self) -> str | None:
        """The entry's path as the packer noted it, or None (KitOps up to 1.7 notes none)."""
        return self.descriptor.annotations.get(FILE_PATH)


class Manifest(NamedTuple):
    """A ModelKit's manifest; `digest` is the kit's identity, `raw` the bytes it was taken over."""

    digest: Digest
    raw: bytes
    config: Descriptor
    layers: tuple[Layer, ...]
    annotations: Mapping[str, str]

    @classmethod
    def parse(
        cls, raw: bytes, *, expected: Digest | None, size: int | None = None, subject: str | None = None
    ) -> "Manifest":
        """Check and read a manifest; `subject` stands for it in messages (its digest does otherwise).

        Raises SizeMismatch and DigestMismatch where it is not what was asked for, NotAModelKit naming what it is,
        InvalidManifest where it cannot be read.
        """
        digest = verified_digest(raw, expected, size)
        subject = subject or f"manifest {digest}"
        document = read_json(raw, subject, InvalidManifest)
        if not isinstance(document, dict):
            raise InvalidManifest(f"{subject} is a JSON {_kind_of(document)}, wanted an object")
        if "layers" in document and "manifests" in document:
            raise InvalidManifest(f"{subject} has both layers and manifests, so that two readers could see two things")
        _check_kind(document, subject)
        if document.get("schemaVersion") != 2:
            raise InvalidManifest(f"{subject} has another schemaVersion than 2")
        config = parse_descriptor(document.get("config"), f"{subject}: config")
        layers = tuple(
            _layer(parse_descriptor(item, f"{subject}: layer {number}"))
            for number, item in enumerate(_list(document.get("layers"), f"{subject}: layers"), 1)
        )
        return cls(digest, raw, config, layers, _annotations(document.get("annotations"), subject))


def verified_digest(raw: bytes, expected: Digest | None, size: int | None) -> Digest:
    """Give the digest of `raw` after comparing it, and its length in bytes, with what was asked for.

    Raises SizeMismatch, DigestMismatch, and InvalidManifest for more than 4 MiB.
    """
    if size is not None and len(raw) != size:
        raise SizeMismatch(f"manifest {expected or ''} has {len(raw)} bytes, wanted {size}".replace("  ", " "))
    if len(raw) > MAX_DOCUMENT_BYTES:
        raise InvalidManifest(f"the manifest has {len(raw)} bytes, more than the {MAX_DOCUMENT_BYTES} that are read")
    if expected is None:
        return Digest.of(raw)
    hasher = expected.hasher()
    hasher.update(raw)
    if hasher.hexdigest() != expected.hex:
        seen = f"{expected.algorithm}:{hasher.hexdigest()}"
        raise DigestMismatch(f"the manifest has digest {seen}, wanted {expected}: somebody changed it on the way")
    return expected


def _check_kind(document: dict[str, object], subject: str) -> None:
    """Raise NotAModelKit, saying in words what it is, unless it is a ModelKit."""
    if not is_modelkit(document):
        what = describe(document)
        raise NotAModelKit(f"{subject} is not a ModelKit but {what}; wanted a kit made by `kit pack`")


def is_modelkit(document: Mapping[str, object]) -> bool:
    """Tell whether a manifest is a ModelKit's: by artifact type or config type, in an OCI image manifest."""
    if document.get("mediaType") not in (None, "", OCI_MANIFEST) or "manifests" in document:
        return False
    config = document.get("config")
    config_type = config.get("mediaType") if isinstance(config, dict) else None
    return document.get("artifactType") == KIT_TYPE or config_type == CONFIG_TYPE


def parse_descriptor(value: object, where: str) -> Descriptor:
    """Read a descriptor out of JSON. Raises InvalidManifest, whose line begins with `where`."""
    if not isinstance(value, dict):
        raise InvalidManifest(f"{where} is {_kind_of(value)}, wanted a descriptor")
    media_type, size = value.get("mediaType"), value.get("size")
    if not isinstance(media_type, str) or not media_type or not media_type.isprintable():
        raise InvalidManifest(f"{where} has no mediaType")
    if len(media_type) > _MAX_TYPE:
        raise InvalidManifest(f"{where} has a mediaType of {len(media_type)} characters, at most {_MAX_TYPE} are read")
    if not isinstance(size, int) or isinstance(size, bool) or not 0 <= size <= _MAX_SIZE:
        raise InvalidManifest(f"{where} has size {str(size)[:40]}, wanted a number of bytes")
    digest = _digest(value.get("digest"), where)
    return Descriptor(media_type, digest, size, _annotations(value.get("annotations"), where))


def _digest(value: object, where: str) -> Digest:
    if not isinstance(value, str):
        raise InvalidManifest(f"{where} has no digest")
    try:
        return Digest.parse(value)
    except ValueError as problem:
        raise InvalidManifest(f"{where} has a bad digest: {problem}") from problem


def _layer(descriptor: Descriptor) -> Layer:
    match = re.fullmatch(_LAYER_TYPE, descriptor.media_type)
    if match is None:
        return Layer(descriptor, kind=descriptor.media_type, format="", compression="", prompt=False)
    kind, form, compression = match.groups(default="")
    prompt = kind == "code" and descriptor.annotations.get(_SUBTYPE) == "prompt"
    return Layer(descriptor, kind, form, compression, prompt)


def _list(value: object, where: str) -> list[object]:
    if value is None:  # KitOps 1.7 writes null for a kit without layers
        return []
    if not isinstance(value, list):
        raise InvalidManifest(f"{where} is {_kind_of(value)}, wanted a list")
    return value


def _annotations(value: object, where: str) -> Mapping[str, str]:
    if value is None:
        return {}
    if not isinstance(value, dict) or not all(isinstance(text, str) for text in value.values()):
        raise InvalidManifest(f"{where}: annotations is not a map of text to text")
    return value


def _kind_of(value: object) -> str:
    names = {dict: "object", list: "list", str: "text", bool: "boolean", int: "number", float: "number"}
    return names.get(type(value), "null")
