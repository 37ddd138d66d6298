"""Where signatures of a manifest lie: under tags that its digest makes, and among its referrers."""

from collections.abc import Iterator
from contextlib import suppress
from itertools import islice
from typing import Final, Protocol

from runtime.errors import BadContent, InvalidManifest, NotFound
from runtime.kit.format.digest import Digest
from runtime.kit.format.json_text import read_object
from runtime.kit.format.manifest import Descriptor, parse_descriptor
from runtime.kit.signature.signed import BUNDLE, COSIGN_LAYER, COSIGN_NOTE, Signed, decoded

_MOST: Final = 64
_MOST_BYTES: Final = 1 << 20


class Attached(Protocol):
    """A source of manifests that refer to a kit."""

    def attached(self, name: str) -> bytes | None:
        """Returns the manifest with this tag or digest, a digest compared; None if there is none."""

    def referrers(self, digest: Digest, artifact_type: str) -> Iterator[bytes]:
        """Yields the pages of the index of what refers to a manifest; none where there is no index."""

    def document(self, descriptor: Descriptor) -> bytes:
        """Returns a small blob, compared with its digest."""


def signatures(source: Attached, digest: Digest) -> Iterator[Signed]:
    """Yields the signatures of a manifest, at most 64, unchecked. What cannot be read is left out.

    https://github.com/sigstore/cosign/blob/main/specs/BUNDLE_SPEC.md has bundles as referrers, found as in
    https://github.com/opencontainers/distribution-spec/blob/v1.1.0/spec.md#listing-referrers
    """
    tag = f"{digest.algorithm}-{digest.hex}"
    left = _MOST
    for layer in _listed(source.attached(f"{tag}.sig"), "layers", COSIGN_LAYER)[:left]:
        left -= 1
        with suppress(BadContent, NotFound, ValueError):
            yield Signed("cosign", _document(source, layer), decoded(layer.annotations.get(COSIGN_NOTE)))
    for carrier in islice(_bundles(source, digest, tag), left):
        with suppress(BadContent, NotFound):
            for layer in _listed(source.attached(str(carrier.digest)), "layers", BUNDLE)[:1]:
                yield Signed.of_bundle(_document(source, layer))


def _bundles(source: Attached, digest: Digest, tag: str) -> Iterator[Descriptor]:
    page = None
    for page in source.referrers(digest, BUNDLE):
        yield from _listed(page, "manifests", BUNDLE)
    if page is None:
        yield from _listed(source.attached(tag), "manifests", BUNDLE)


def _listed(raw: bytes | None, key: str, kind: str) -> list[Descriptor]:
    """Returns the readable descriptors under `key` of this artifact type, or else media type."""
    found: list[Descriptor] = []
    with suppress(BadContent):
        listed = read_object(raw or b"{}", "", InvalidManifest).get(key)
        for each in listed if isinstance(listed, list) else ():
            if isinstance(each, dict) and each.get("artifactType", each.get("mediaType")) == kind:
                with suppress(BadContent):
                    found.append(parse_descriptor(each, ""))
    return found


def _document(source: Attached, layer: Descriptor) -> bytes:
    if layer.size > _MOST_BYTES:
        raise InvalidManifest(f"a signature has {layer.size} bytes, at most {_MOST_BYTES} are read")
    return source.document(layer)
