"""Content codings (https://www.rfc-editor.org/rfc/rfc9110#section-8.4): gzip and deflate, in requests and in answers.

No other: tritonclient's asyncio client offers `br` and cannot read it.
"""

import zlib
from typing import Final

from runtime.errors import InvalidInput, TooLarge
from runtime.serving.media import CODINGS, Body, Head, content_coding, too_large
from runtime.serving.statuses import Response

SHORT_BYTES: Final = 4096
"""An answer up to this length goes as it is: packed, it would take as many packets, and more time."""
_GZIP: Final = 31
_FORMATS: Final = {b"gzip": (_GZIP,), b"deflate": (15, -15)}
"""What zlib calls them; deflate is zlib's format, and some clients leave out its frame."""
_MEMBER: Final = b"\x1f\x8b"
_STEP_BYTES: Final = 16_384
"""Each member's end copies what is left of a step."""
_MOST_MEMBERS: Final = 4096
_MOST_TIMES: Final = 100
_ALWAYS_BYTES: Final = 2**20
"""Up to this length a body may be packed as well as can be; a longer one was made to fill memory."""
_FASTEST: Final = 1
_PACKED_TYPES: Final = (b"application/json", b"text/")
_VARY: Final = (b"vary", b"accept-encoding")


def inflated(head: Head, body: Body, most: int, whose: str = "--max-body-bytes") -> Body:
    """Returns the body as it was before its Content-Encoding, of at most `most` bytes.
    Raises UnsupportedMedia; InvalidInput if it is not what it says; TooLarge, before more memory is taken."""
    coding = content_coding(head)
    if not coding:
        return body
    allowed = min(most, max(_ALWAYS_BYTES, _MOST_TIMES * len(body)))
    for bits in _FORMATS[coding]:
        try:
            whole = _inflated(body, bits, allowed)
        except zlib.error:
            continue
        if len(whole) <= allowed:
            return whole
        if allowed == most:
            raise too_large(most, whose, "inflated body")
        packed_bytes = f"{_MOST_TIMES} times its {len(body)} bytes"
        raise TooLarge(f"inflated body too large: more than {packed_bytes}, and than {_ALWAYS_BYTES}")
    raise InvalidInput(f"body is not {coding.decode()}, as Content-Encoding says")


def _inflated(body: Body, bits: int, allowed: int) -> bytes:
    """Returns what `body` holds, or one byte more than `allowed`: of gzip, all members one after another
    (https://www.rfc-editor.org/rfc/rfc1952#page-5). Raises zlib.error, InvalidInput."""
    view, at, pieces, members = memoryview(body), 0, [b""], 0
    while not members or (bits == _GZIP and bytes(view[at : at + 2]) == _MEMBER):
        stream, members = zlib.decompressobj(bits), members + 1
        if members > _MOST_MEMBERS:
            raise InvalidInput(f"body has more than {_MOST_MEMBERS} gzip members")
        while not stream.eof:
            if at == len(view):
                raise InvalidInput("body is cut off: Content-Encoding promises more")
            piece = view[at : at + _STEP_BYTES]
            pieces.append(stream.decompress(piece, allowed + 1))
            at, allowed = at + len(piece), allowed - len(pieces[-1])
            if allowed < 0:
                return b"".join(pieces)
        at -= len(stream.unused_data)
    if at < len(view):
        raise InvalidInput("body is followed by other bytes, of no Content-Encoding")
    return b"".join(pieces)


def packed(response: Response, head: Head) -> Response:
    """Returns a long answer in the coding that its client would rather have, as it is if that is none of ours."""
    if not any(name == b"content-type" and value.startswith(_PACKED_TYPES) for name, value in response.headers):
        return response  # tensors hardly get shorter
    coding = _preferred(head.get(b"accept-encoding", b""))
    if not coding:
        return response._replace(variable=(*response.variable, _VARY))
    stream = zlib.compressobj(_FASTEST, wbits=_FORMATS[coding][0])
    coded = (*response.variable, (b"content-encoding", coding), _VARY)
    return response._replace(body=stream.compress(response.body) + stream.flush(), variable=coded)


def _preferred(accepted: bytes) -> bytes:
    """Returns `gzip`, `deflate`, or nothing: of those that are named, the one wanted most, and of several the first."""
    best, most = b"", 0.0
    for entry in accepted.lower().split(b","):
        name, _, parameter = (part.strip() for part in entry.partition(b";"))
        try:
            wish = float(parameter.removeprefix(b"q=")) if parameter else 1.0
        except ValueError:
            wish = 0.0
        if name in CODINGS and wish > most:
            best, most = CODINGS[name], wish
    return best
