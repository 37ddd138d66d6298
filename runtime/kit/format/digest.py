"""Digests: the value, checked where it is read, and the check of bytes against it.

https://github.com/opencontainers/image-spec/blob/v1.1.0/descriptor.md#digests
"""

import hashlib
from dataclasses import dataclass
from typing import Self

from runtime.errors import DigestMismatch, SizeMismatch

_HEX_DIGITS = {"sha256": 64, "sha512": 128}
_HEX = frozenset("0123456789abcdef")


@dataclass(frozen=True, slots=True)
class Digest:
    """An algorithm and its lower-case hexadecimal digits: checked when it is built (ValueError), so safe in a path."""

    algorithm: str
    hex: str

    def __post_init__(self) -> None:
        digits = _HEX_DIGITS.get(self.algorithm)
        if digits is None:
            shown = self.algorithm if len(self.algorithm) <= 32 else self.algorithm[:32] + "…"
            raise ValueError(f"the algorithm {shown!r} is not supported, sha256 and sha512 are")
        if len(self.hex) != digits:
            raise ValueError(f"{self.algorithm} has {digits} hexadecimal digits, this one {len(self.hex)}")
        if not _HEX.issuperset(self.hex):
            raise ValueError(f"{self.algorithm} is written in the digits 0-9 and a-f, lower case")

    @classmethod
    def parse(cls, text: str) -> Self:
        """Reads `sha256:…` or `sha512:…`. Raises ValueError with a one-line reason."""
        algorithm, colon, digits = text.partition(":")
        if not colon:
            raise ValueError("a digest is written sha256: and 64 hexadecimal digits")
        return cls(algorithm, digits)

    @classmethod
    def of(cls, data: bytes, algorithm: str = "sha256") -> Self:
        """Returns the digest of `data`."""
        return cls(algorithm, hashlib.new(algorithm, data).hexdigest())

    @property
    def blob_path(self) -> str:
        """The path of its blob in an OCI layout, which the cache is, too."""
        return f"blobs/{self.algorithm}/{self.hex}"

    def __str__(self) -> str:
        return f"{self.algorithm}:{self.hex}"


class DigestCheck:
    """Compares bytes with the digest and the size that they should have, while they come.

    Messages begin with `subject` ("blob sha256:… in …") and end with `advice`. Without `size` any size is right.
    """

    def __init__(self, wanted: Digest, size: int | None, subject: str, advice: str = "") -> None:
        self._wanted, self._size, self._subject, self.advice = wanted, size, subject, advice
        self._hash = hashlib.new(wanted.algorithm)
        self.taken_bytes = 0

    def update(self, data: bytes) -> None:
        """Takes the next bytes. Raises SizeMismatch as soon as there are more than wanted."""
        self.count(len(data))
        self.hash(data)

    def count(self, size: int) -> None:
        """Does the first half of `update`, where another thread hashes: counts `size` more bytes."""
        self.taken_bytes += size
        if self._size is not None and self.taken_bytes > self._size:
            raise SizeMismatch(f"{self._subject} has more than the {self._size} bytes wanted{self.advice}")

    def hash(self, data: bytes) -> None:
        """Does the second half of `update`."""
        self._hash.update(data)

    def check_size(self, size: int) -> None:
        """Raises SizeMismatch if `size` is not the size wanted."""
        if self._size not in (None, size):
            raise SizeMismatch(f"{self._subject} has {size} bytes, wanted {self._size}{self.advice}")

    def check_whole(self, data: bytes) -> None:
        """Checks all bytes at once. Raises SizeMismatch, DigestMismatch."""
        self.check_size(len(data))
        self.update(data)
        self.finish()

    def finish(self) -> None:
        """Raises SizeMismatch if bytes are missing, DigestMismatch if they are other ones."""
        self.check_size(self.taken_bytes)
        if self._hash.hexdigest() != self._wanted.hex:
            seen = f"{self._wanted.algorithm}:{self._hash.hexdigest()}"
            raise DigestMismatch(f"{self._subject} has digest {seen}, wanted {self._wanted}{self.advice}")
