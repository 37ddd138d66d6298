"""How large a kit may be, whatever its documents and archives say. Sizes are in bytes."""

from typing import NamedTuple

MAX_DOCUMENT_BYTES = 4 << 20
"""Of a manifest or config, as registries should accept it:
https://github.com/opencontainers/distribution-spec/blob/v1.1.0/spec.md#pushing-manifests"""


class UnpackLimits(NamedTuple):
    """Limits for the unpacked files of one kit.

    `members` counts the entries of all archives, and files and folders as well; `folders`, which cost more than files,
    those alone. `expanded_bytes` is the sum over all unpacked layers. `ratio` is bytes out per byte in, checked once
    `ratio_from_bytes` bytes are out.
    """

    members: int = 100_000
    folders: int = 20_000
    expanded_bytes: int = 32 << 30
    ratio: int = 200
    ratio_from_bytes: int = 64 << 20
    component_bytes: int = 255
    path_bytes: int = 1024
    depth: int = 32
    gzip_members: int = 1_000_000


DEFAULT_LIMITS = UnpackLimits()
