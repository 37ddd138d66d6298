"""What a request's headers say about where it belongs: its id, its trace, and what a platform passes along."""

import itertools
import os
import re
from typing import Final, NamedTuple

from runtime.serving.media import Head
from runtime.serving.statuses import Header, Response

REQUEST_ID: Final = b"x-request-id"
TRACE: Final = b"traceparent"
ATTRIBUTES: Final = b"x-amzn-sagemaker-custom-attributes"
PREFIX: Final = os.urandom(4).hex()
NUMBERS: Final = itertools.count(1)
_ID_BYTES: Final = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz._:@/+=-"
_LONGEST_ID: Final = 128
LOGGED_ID: Final = 64
"""Characters of an id that a log line has at most."""
_LONGEST_ATTRIBUTES: Final = 256
_PARENT: Final = re.compile(rb"([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-[!-~]*)?").fullmatch


class Trail(NamedTuple):
    """What a request's log line and its answer have, beside what all have."""

    fields: dict[str, str]
    headers: tuple[Header, ...]


def request_id(head: Head) -> str:
    """Returns the client's own `X-Request-Id` if it is one a log can hold, else a new one."""
    given = head.get(REQUEST_ID)
    if given and len(given) <= _LONGEST_ID and not given.translate(None, _ID_BYTES):
        return given.decode()
    return f"{PREFIX}-{next(NUMBERS):x}"


def named(response: Response, head: Head) -> Response:
    """Returns an answer that is not logged, with the request's own `X-Request-Id` if it has one."""
    if REQUEST_ID not in head:
        return response
    return response._replace(variable=(*response.variable, (REQUEST_ID, request_id(head).encode())))


def is_id(text: str) -> bool:
    """Returns True if a log may hold `text` as the id of a request."""
    return text.isascii() and not text.encode().translate(None, _ID_BYTES)


def trail(head: Head, *, inputs: bool) -> tuple[str, Trail]:
    """Returns a request's id, and what the three headers leave; with `inputs` the log may hold what clients sent."""
    own_id = request_id(head)
    fields: dict[str, str] = {}
    headers: tuple[Header, ...] = ((REQUEST_ID, own_id.encode()),) if REQUEST_ID in head else ()
    if parent := _parent(head.get(TRACE, b"")):
        trace, flags = parent
        fields |= {"trace": trace.decode(), "span": (span := os.urandom(8).hex())}
        headers += ((b"traceresponse", b"00-%b-%b-%b" % (trace, span.encode(), flags)),)
    if (given := head.get(ATTRIBUTES)) is not None:
        is_plain = len(given) <= _LONGEST_ATTRIBUTES and not given.translate(None, _ID_BYTES + b",; ")
        fields["custom_attributes"] = given.decode("latin-1") if inputs or is_plain else "***"
    return own_id, Trail(fields, headers)


def _parent(given: bytes) -> tuple[bytes, bytes] | None:
    """Returns the id of the trace and its flags, None for what is no traceparent.

    https://www.w3.org/TR/trace-context/#traceparent-header; a later version may add to the end, version ff is none.
    """
    if not (found := _PARENT(given)):
        return None
    version, trace, span, flags, more = found.groups()
    is_one = version != b"ff" and not (version == b"00" and more) and trace.strip(b"0") and span.strip(b"0")
    return (trace, flags) if is_one else None
