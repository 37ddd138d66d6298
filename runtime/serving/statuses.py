"""What goes back: a status, headers and a body; and the one table from failures to statuses (docs/errors.md)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

import orjson

from runtime import errors
from runtime.serving.wording import one_line

if TYPE_CHECKING:
    from runtime.serving.provenance import Header

JSON: Final = (b"content-type", b"application/json")
"""Exactly so: KServe's client compares the whole value and loses the message of anything else."""


class Response(NamedTuple):
    """A whole answer. Neither kind of header holds content-length or connection: the edge adds those."""

    status: int
    headers: tuple[Header, ...]
    """The same few tuples for every answer: each is rendered once and kept."""
    body: bytes
    variable: tuple[Header, ...] = ()
    """What differs from answer to answer, rendered each time."""


class MethodNotAllowed(errors.RequestFailed):
    """The path is there, the method is not."""

    def __init__(self, allow: str) -> None:
        super().__init__(f"method not allowed; this path answers {allow}")
        self.headers = ((b"allow", allow.encode()),)


class UnknownPath(errors.RequestFailed):
    """A path that does not exist."""


STATUSES: Final[tuple[tuple[type[errors.RequestFailed], int, str], ...]] = (
    (errors.InvalidInput, 400, "invalid"),
    (errors.UnknownModel, 404, "invalid"),
    (UnknownPath, 404, "invalid"),
    (MethodNotAllowed, 405, "invalid"),
    (errors.TooLarge, 413, "invalid"),
    (errors.UnsupportedMedia, 415, "invalid"),
    (errors.PredictFailed, 500, "error"),
    (errors.Overloaded, 503, "unavailable"),
    (errors.NotReady, 503, "unavailable"),
    (errors.DeadlinePassed, 504, "deadline"),
)
"""Failure, HTTP status, outcome in the metrics. `docs/errors.md` shows it to users."""

RETRY: Final = (b"retry-after", b"1")
_ENCODINGS: Final = (b"accept-encoding", b"identity")


def status_of(failure: errors.RequestFailed) -> tuple[int, str]:
    """HTTP status and metrics outcome of `failure`."""
    for kind, status, outcome in STATUSES:
        if isinstance(failure, kind):
            return status, outcome
    return 500, "error"


def error_body(text: str, advice: str = "") -> bytes:
    """`{"error": …}`: one line of at most 512 bytes, and what `advice` adds to it."""
    return orjson.dumps({"error": one_line(text) + advice})


def error_response(failure: errors.RequestFailed, *, advice: str = "", headers: tuple[Header, ...] = ()) -> Response:
    """The answer that tells a client of `failure`."""
    status, _ = status_of(failure)
    extra: tuple[Header, ...] = getattr(failure, "headers", ())
    if status == 503:
        extra = (RETRY,)
    elif status == 415:
        extra = (_ENCODINGS,)
    return Response(status, (JSON, *extra, *headers), error_body(str(failure), advice))
