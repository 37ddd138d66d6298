"""What is served and where it came from: the facts behind metadata, response headers and the info metric."""

from __future__ import annotations

from typing import NamedTuple
from urllib.parse import quote


class Provenance(NamedTuple):
    """One served model's origin. Everything in it is the operator's or the kit's word, never a client's."""

    name: str
    """The served name, `[A-Za-z0-9._-]+`."""
    reference: str
    """Canonical text of the resolved reference."""
    digest: str | None
    """Manifest digest, `sha256:…`; None for an unverified folder."""
    versions: tuple[str, ...]
    """What URLs may name, at least one; answers report the first."""
    framework: str
    """As the Kitfile writes it."""
    adapter: str
    verified: str
    """What its files were compared with: `true` (the digest), `receipt` (that of `unpack`) or `false` (nothing)."""
    trust: str
    sandbox: str = "off"
    """How the worker is confined: `landlock-6`, `none: why`, `off`."""

    def headers(self) -> tuple[tuple[bytes, bytes], ...]:
        """Returns `modelkit-digest`, `-reference` and `-verified`, the headers of every answer about this model."""
        origin = ((b"modelkit-reference", _visible(self.reference)), (b"modelkit-verified", _visible(self.verified)))
        return origin if self.digest is None else ((b"modelkit-digest", _visible(self.digest)), *origin)


def _visible(text: str) -> bytes:
    # A folder's path may hold anything, line ends included: nothing but visible ASCII may reach a header.
    return quote(text, safe="".join(map(chr, range(0x21, 0x7F)))).encode()
