"""What the first bytes of a file say: a pickle, compressed or not, or skops. Every start imports this module: what
decompresses is imported for a compressed file.
"""

from typing import Final

PROTOCOLS: Final = tuple(bytes([0x80, version]) for version in range(2, 6))
"""The opcode PROTO and a version: https://peps.python.org/pep-0307/, pep-3154 (version 4), pep-0574 (version 5)."""
TORCH_MAGIC: Final = b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19."
"""The beginning of a file of torch.save before 1.6: also a pickle, but of the pytorch adapter."""
ZLIB: Final = (b"x\x01", b"x^", b"x\x9c", b"x\xda")
GZIP: Final = b"\x1f\x8b"
BZ2: Final = b"BZh"
LZMA: Final = (b"\xfd7zXZ\x00", b"]\x00\x00")
LZ4: Final = b"\x04\x22\x4d\x18"
"""Compressed as joblib does it: https://github.com/joblib/joblib/blob/1.5.2/joblib/compressor.py"""


def looks_like_pickle(head: bytes) -> bool:
    """True if `head` begins a pickle of protocol 2 or later, compressed as joblib does it or not at all."""
    if head.startswith(TORCH_MAGIC):
        return False
    return head.startswith(PROTOCOLS) or _begins(head).startswith(PROTOCOLS)


def looks_like_skops(head: bytes) -> bool:
    """True if `head` begins a zip whose first member is one that skops writes: an array or the schema."""
    if not head.startswith(b"PK\x03\x04"):
        return False
    name = head[30 : 30 + int.from_bytes(head[26:28], "little")]
    return name == b"schema.json" or (name.endswith((b".npy", b".npz", b".bin")) and b"/" not in name)


def _begins(head: bytes) -> bytes:
    if not head.startswith((*ZLIB, GZIP, BZ2, *LZMA)):
        return b""
    import bz2
    import lzma
    import zlib

    try:
        if head.startswith(ZLIB):
            return zlib.decompressobj().decompress(head, 2)
        if head.startswith(GZIP):
            return zlib.decompressobj(31).decompress(head, 2)
        if head.startswith(BZ2):
            return bz2.BZ2Decompressor().decompress(head, 2)
        return lzma.LZMADecompressor().decompress(head, 2)
    except (zlib.error, OSError, lzma.LZMAError):
        return b""
