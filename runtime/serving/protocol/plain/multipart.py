"""multipart/form-data → its parts: what `curl -F` and a page's form send, of a body that is whole already.

https://www.rfc-editor.org/rfc/rfc7578, https://www.rfc-editor.org/rfc/rfc2046#section-5.1.1
"""

import re
from typing import Final, NamedTuple

from runtime.errors import InvalidInput

_MOST_PARTS: Final = 1000
_LONGEST_HEAD: Final = 4096
_BOUNDARY: Final = rb""";\s*boundary=(?:"([^"]{1,70})"|([^\s;"]{1,70}))"""
_PARAMETER: Final = rb""";\s*(name|filename)="((?:[^"\\]|\\.)*)\""""
_PLAIN: Final = (b"", b"7bit", b"8bit", b"binary")


class Part(NamedTuple):
    """One field or file of a form."""

    name: str
    file: str | None
    """The file's name, None for a field that is typed in."""
    content_type: bytes
    content: bytes


def parts_of(content_type: bytes, body: bytes) -> list[Part]:
    """Returns the parts of `body`, at least one. Raises InvalidInput."""
    found = re.search(_BOUNDARY, content_type, re.IGNORECASE)
    if found is None:
        raise InvalidInput("multipart/form-data needs a boundary in its Content-Type")
    _, *pieces = (b"\r\n" + body).split(b"\r\n--" + (found[1] or found[2]), _MOST_PARTS + 2)
    if len(pieces) > _MOST_PARTS + 1:
        raise InvalidInput(f"the form has too many parts: at most {_MOST_PARTS}")
    if not pieces or not pieces[-1].startswith(b"--"):
        raise InvalidInput("the form is cut off: its closing boundary is missing")
    if len(pieces) == 1:
        raise InvalidInput("the form is empty")
    return [_part(piece) for piece in pieces[:-1]]


def _part(piece: bytes) -> Part:
    head, found, content = piece.lstrip(b" \t").removeprefix(b"\r\n").partition(b"\r\n\r\n")
    if not found or len(head) > _LONGEST_HEAD:
        raise InvalidInput(f"a part of the form has no head, or one of more than {_LONGEST_HEAD} bytes")
    lines = (line.partition(b":") for line in head.split(b"\r\n"))
    headers = {name.strip().lower(): value.strip() for name, _, value in lines}
    if headers.get(b"content-transfer-encoding", b"").lower() not in _PLAIN:
        raise InvalidInput("a part of the form has a transfer encoding; send its bytes as they are")
    given = re.findall(_PARAMETER, headers.get(b"content-disposition", b""), re.IGNORECASE)
    texts = {name.lower(): value.decode(errors="replace").replace('\\"', '"') for name, value in given}
    if b"name" not in texts:
        raise InvalidInput("a part of the form has no name")
    return Part(texts[b"name"], texts.get(b"filename"), headers.get(b"content-type", b""), content)
