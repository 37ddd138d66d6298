"""What goes back: a status, headers and a body; and the one table from failures to statuses (docs/errors.md)."""

import re
from collections.abc import Iterable
from typing import Final, NamedTuple

import orjson

from runtime import errors
from runtime.serving.wording import one_line

Header = tuple[bytes, bytes]

JSON: Final = (b"content-type", b"application/json")
"""Without a charset: KServe's client compares the whole value and loses the message of anything else."""


GRPC_CODE: Final = b"grpc-code"
"""The header of an answer over gRPC that has the name of its code, where that is not OK; its body is the text then."""


class Response(NamedTuple):
    """A whole answer. Neither kind of header holds content-length or connection: the edge adds those."""

    status: int
    headers: tuple[Header, ...]
    """The same few tuples for every answer: each is rendered once and kept."""
    body: bytes
    variable: tuple[Header, ...] = ()
    """What differs from answer to answer, rendered each time."""
    tail: tuple[bytes | memoryview, ...] = ()
    """Long pieces of the body behind `body`, which are written from where they are: they must not change any more."""

    @property
    def length(self) -> int:
        """Returns the bytes of the whole body."""
        return len(self.body) + sum(map(len, self.tail))


_not_one_line: Final = re.compile(rb"[\r\n\0]").search


def check_lines(headers: Iterable[Header]) -> None:
    """Raises ValueError if a header is not one line: a codec may have put a client's text there."""
    for name, value in headers:
        if _not_one_line(value) or _not_one_line(name):
            raise ValueError("a header of the answer has a line end or a NUL in it")


class MethodNotAllowed(errors.RequestFailed):
    """The path is there, the method is not."""

    def __init__(self, allowed: str) -> None:
        allow = ", ".join(sorted(allowed.split(", ")))
        super().__init__(f"method not allowed; this path answers {allow}")
        self.headers = ((b"allow", allow.encode()),)


class NotImplementedHere(errors.RequestFailed):
    """Something that the protocol has and this server has not."""


class UnknownPath(errors.RequestFailed):
    """A path that does not exist."""


class Status(NamedTuple):
    """What a failure is to clients over HTTP, to clients over gRPC, and in the metrics."""

    failure: type[errors.RequestFailed]
    http: int
    grpc: str
    """Name of the code: https://grpc.github.io/grpc/core/md_doc_statuscodes.html."""
    outcome: str
    reason: str
    """The label of `runtime_errors_total`, and what the log has as `error`: one of `link.metrics.REASONS`."""


STATUSES: Final = (
    Status(errors.InvalidInput, 400, "INVALID_ARGUMENT", "invalid", "invalid_input"),
    Status(errors.UnknownModel, 404, "NOT_FOUND", "invalid", "unknown_model"),
    Status(UnknownPath, 404, "UNIMPLEMENTED", "invalid", "unknown_path"),
    Status(MethodNotAllowed, 405, "UNIMPLEMENTED", "invalid", "method"),
    Status(errors.TooLarge, 413, "RESOURCE_EXHAUSTED", "invalid", "too_large"),
    Status(errors.UnsupportedMedia, 415, "UNIMPLEMENTED", "invalid", "media_type"),
    Status(errors.Poisoned, 500, "INTERNAL", "error", "poisoned"),
    Status(errors.RuntimeFailed, 500, "INTERNAL", "error", "runtime_failed"),
    Status(errors.PredictFailed, 500, "INTERNAL", "error", "model_failed"),
    Status(NotImplementedHere, 501, "UNIMPLEMENTED", "invalid", "not_implemented"),
    Status(errors.Overloaded, 503, "RESOURCE_EXHAUSTED", "unavailable", "overloaded"),
    Status(errors.NotReady, 503, "UNAVAILABLE", "unavailable", "not_ready"),
    Status(errors.DeadlinePassed, 504, "DEADLINE_EXCEEDED", "deadline", "deadline"),
)

RETRY: Final = (b"retry-after", b"1")
_rows: Final[dict[type[errors.RequestFailed], Status]] = {}
_OTHER: Final = Status(errors.RequestFailed, 500, "INTERNAL", "error", "runtime_failed")
_CODINGS: Final = (b"accept-encoding", b"gzip, deflate")
"""Of a 415 about a content coding, and of no other: https://www.rfc-editor.org/rfc/rfc9110#section-12.5.3."""


def status_of(failure: errors.RequestFailed) -> Status:
    """Returns the row of `failure`."""
    kind = type(failure)
    if kind not in _rows:
        _rows[kind] = next((row for row in STATUSES if issubclass(kind, row.failure)), _OTHER)
    return _rows[kind]


def error_body(text: str, advice: str = "") -> bytes:
    """Returns `{"error": …}`: one line of at most 512 bytes, and what `advice` adds to it."""
    return orjson.dumps({"error": one_line(text) + advice})


def error_response(failure: errors.RequestFailed) -> Response:
    """Returns the answer that tells a client of `failure`."""
    status, extra = status_of(failure).http, list[Header]()
    if isinstance(failure, MethodNotAllowed):
        extra += failure.headers
    elif isinstance(failure, errors.UnsupportedCoding):
        extra.append(_CODINGS)
    elif status == 503:
        extra.append(RETRY)
    return Response(status, (JSON, *extra), error_body(str(failure), failure.advice))


_GRPC_CODES: Final = {status.grpc: ((GRPC_CODE, status.grpc.encode()),) for status in STATUSES}


def grpc_response(failure: errors.RequestFailed) -> Response:
    """Returns the answer that tells a client over gRPC of `failure`."""
    status = status_of(failure)
    return Response(status.http, _GRPC_CODES[status.grpc], one_line(str(failure)).encode())
