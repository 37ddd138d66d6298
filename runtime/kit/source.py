"""Where the manifest and the blobs of a kit come from: a registry, an OCI layout, an archive."""

from collections.abc import Callable
from typing import BinaryIO, Protocol

from runtime.kit.format.manifest import Descriptor
from runtime.kit.format.reference import Reference


class Source(Protocol):
    """Two questions, whoever answers them. Nothing comes out of `blob` that has not been verified."""

    def resolve(self, reference: Reference) -> tuple[Reference, bytes]:
        """Give the reference with its digest filled in, and the manifest's bytes as they were stored.

        Raises NotFound, naming tags that exist, and whatever reaching the source can raise.
        """

    def blob(self, descriptor: Descriptor, progress: Callable[[int], None]) -> BinaryIO:
        """Give an open, seekable file at its beginning, whose bytes have been verified: size and digest.

        `progress` gets the number of bytes that have just come: a difference, not a sum; 0 at no time, all of them
        together `descriptor.size`, also where they were read from a disk. The caller closes the file.
        Raises SizeMismatch, DigestMismatch, NotFound, and whatever `progress` raises (so a pull can be cancelled).
        """
