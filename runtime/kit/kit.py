"""What a pull results in: a kit on disk, and what its files were compared with."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from runtime.kit.format.digest import Digest
from runtime.kit.format.kitfile import Kitfile
from runtime.kit.format.reference import Reference

Verified = Literal["true", "receipt", "false"]
"""What the files of a kit were compared with: the blobs that its manifest names; the receipt in their own folder, which
anyone who can write there could have forged; or nothing."""


@dataclass(frozen=True, slots=True)
class Kit:
    """A kit on disk, as far as serving needs it.

    `verified`: what every file below `root` was compared with; `verified_bytes` counts the blobs, manifest and config,
    or the files. `layers`: which layer each entry came from, by its path; none for a plain folder.
    """

    reference: Reference
    digest: Digest | None
    kitfile: Kitfile
    root: Path
    verified: Verified
    verified_bytes: int
    layers: Mapping[str, Digest] = field(default_factory=dict)
    signer: str | None = None  # the name of the key that signed it, None if no --verify-key was given
    use: object = field(default=None, repr=False, compare=False)  # while it lives, the cache keeps the kit
