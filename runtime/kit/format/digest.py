"""The digest of some bytes: checked once, at the border, so that nothing behind it checks again."""

import hashlib
from dataclasses import dataclass
from typing import Protocol

_HEX_DIGITS = {"sha256": 64, "sha512": 128}
_HEX = frozenset("0123456789abcdef")


class Hasher(Protocol):
    """What `hashlib` gives: bytes in, digits out."""

    def update(self, data: bytes, /) -> None:
        """Take more bytes."""

    def hexdigest(self) -> str:
        """Give the lower-case digits for all bytes taken so far."""


@dataclass(frozen=True, slots=True)
class Digest:
    """An algorithm and its lower-case hexadecimal digits; safe as a file name, since it cannot be built unchecked.

    Raises ValueError with a one-line reason. Source: OCI image-spec 1.1, descriptor.md, "Digests".
    """

    algorithm: str
    hex: str

    def __post_init__(self) -> None:
        digits = _HEX_DIGITS.get(self.algorithm)
        if digits is None:
            raise ValueError(f"the algorithm {_shown(self.algorithm)} is not supported, sha256 and sha512 are")
        if len(self.hex) != digits:
            raise ValueError(f"{self.algorithm} has {digits} hexadecimal digits, this one {len(self.hex)}")
        if not _HEX.issuperset(self.hex):
            raise ValueError(f"{self.algorithm} is written in the digits 0-9 and a-f, lower case")

    @classmethod
    def parse(cls, text: str) -> "Digest":
        """Read `sha256:…` or `sha512:…`; raises ValueError with a one-line reason."""
        algorithm, colon, digits = text.partition(":")
        if not colon:
            raise ValueError("a digest is written sha256: and 64 hexadecimal digits")
        return cls(algorithm, digits)

    @classmethod
    def of(cls, data: bytes) -> "Digest":
        """Give the sha256 of `data`."""
        return cls("sha256", hashlib.sha256(data).hexdigest())

    def hasher(self) -> Hasher:
        """Start a hash of this algorithm."""
        return hashlib.sha256() if self.algorithm == "sha256" else hashlib.sha512()

    def __str__(self) -> str:
        return f"{self.algorithm}:{self.hex}"


def _shown(text: str) -> str:
    return repr(text if len(text) <= 32 else text[:32] + "…")
