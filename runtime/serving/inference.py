"""Inference below HTTP: bytes in, a `Response` out. Both doors (ASGI and the connection itself) end here.

A `Call` is one request, whatever its protocol, from its arrival to its answer: one permit, one deadline, one account,
one outcome and one log line, written here and nowhere else.
"""

from asyncio import CancelledError
from collections.abc import Callable, Generator, Mapping
from contextlib import suppress
from functools import partial
from time import perf_counter
from typing import Any, Final, NamedTuple

from adapters.values import Arrays
from runtime.errors import DeadlinePassed, PredictFailed, RequestFailed, RuntimeFailed
from runtime.log import ANSWERED, fault
from runtime.serving.codings import SHORT_BYTES, inflated, packed
from runtime.serving.engine.call import too_late
from runtime.serving.engine.learning import Unread
from runtime.serving.engine.request import Request
from runtime.serving.engine.threads import Job
from runtime.serving.media import Body, Head, media_type, too_large
from runtime.serving.protocol.codec import Codec
from runtime.serving.served import Served
from runtime.serving.statuses import Response, Status, check_lines, status_of
from runtime.serving.trail import ATTRIBUTES, LOGGED_ID, NUMBERS, PREFIX, REQUEST_ID, TRACE, Trail, is_id, trail

_PATIENCE: Final = b"x-envoy-expected-rq-timeout-ms"
"""How long a gateway waits for the answer:
https://www.envoyproxy.io/docs/envoy/latest/configuration/http/http_filters/router_filter"""
_REHEARSAL_SECONDS: Final = 0.5
_ON_ITS_WAY_SECONDS: Final = 0.05
"""A gRPC client cancels a call at its deadline, which begins when it sends the request: it may be first to do so."""


class Endpoint(NamedTuple):
    """What a POST to a path means: a prediction of `served`, in one of the protocols that have this path."""

    served: Served
    codecs: tuple[Codec, ...]
    by_media: Mapping[bytes | None, Codec]
    """The same by the content types that they claim."""
    begin: "Callable[[Served, Codec, Head, Body, float | None], Call]"
    """Makes the call of a request."""

    @classmethod
    def of(cls, served: Served, codecs: tuple[Codec, ...]) -> "Endpoint":
        """Returns the endpoint where `codecs` are spoken; the first gets what none of them claims."""
        if served.model.learn is not None:
            codecs = tuple(map(_early, codecs))
        claims: dict[bytes | None, Codec] = {}
        for codec in reversed(codecs):
            aside = frozenset(codec.media_types) if codec.images and served.signature.pictures else codec.aside
            claims |= {kind: codec._replace(aside=aside & {kind}) if aside else codec for kind in codec.media_types}
        return cls(served, codecs, claims, served.begin or Call)

    def codec(self, head: Head) -> Codec:
        """Returns the protocol of a body with these headers, its `aside` empty unless this body is decoded in a thread.
        Raises UnsupportedMedia."""
        codec = self.by_media.get(head.get(b"content-type"))
        if codec is not None and b"content-encoding" not in head:
            return codec
        first = self.codecs[0]
        kind = media_type(head, self.by_media, next(filter(None, first.media_types), b""))
        codec = self.by_media.get(kind, first)
        return self._coded(codec) if b"content-encoding" in head else codec

    def _coded(self, codec: Codec) -> Codec:
        """Returns the protocol behind the inflating of a body."""
        limits = self.served.limits
        most, whose = min((limits.body_bytes, "--max-body-bytes"), (codec.longest_body, "this protocol"))
        return codec._replace(
            decode=lambda head, body, served: codec.decode(head, inflated(head, body, most, whose), served),
            aside=frozenset(codec.media_types),
        )


def _early(codec: Codec) -> Codec:
    """Returns the protocol for a model whose outputs may be unknown still, whatever a request says of them."""

    def decode(head: Head, body: Body, served: Served) -> Request:
        request = codec.decode(head, body, served)
        if served.model.learn is not None:
            request.form = Unread(partial(codec.decode, head, body, served))
        return request

    return codec._replace(decode=decode)


def infer(endpoint: Endpoint, head: Head, body: Body, seconds: float | None = None) -> "Response | Later":
    """Answers one inference request, at once where the model is cheap. Never raises a RequestFailed.

    `seconds` is the deadline if it is not the operator's; 0: none.
    """
    served, codecs, _, begin = endpoint
    call = begin(served, codecs[0], head, body, seconds)
    try:
        call.codec = codec = endpoint.codec(head)
        answer = served.engine.run(call, aside=True) if codec.aside else served.engine.run(call)
    except Exception as error:  # noqa: BLE001 - logged with its cause, and answered without it
        return call.refused(error)
    return call.answered(answer) if isinstance(answer, Response) else Later(call, answer)


class Later:
    """The answer of a call that runs off the event loop: it is awaited; or taken once `computed` is done, which is
    cancelled if the client leaves."""

    __slots__ = ("_call", "_job", "computed")

    def __init__(self, call: "Call", job: Job[Response]) -> None:
        self._call, self._job, self.computed = call, job, job.answer

    def __await__(self) -> Generator[Any, None, Response]:
        with suppress(CancelledError, Exception):  # `computed` keeps it
            yield from self.computed
        response = self.take()
        if response is None:
            raise CancelledError
        return response

    def take(self) -> Response | None:
        """Closes the account. Returns the answer, None if the client has left."""
        call = self._call
        try:
            return call.answered(self.computed.result())
        except CancelledError:
            self._job.give_up()
            if 0 < call.deadline_seconds < perf_counter() - call.arrived + _ON_ITS_WAY_SECONDS:
                return call.refused(too_late(call.deadline_seconds))
            call.abandoned()
            return None
        except Exception as error:  # noqa: BLE001 - as in infer
            response = call.refused(error)
            _drop_frames(error)
            return response


class Call:
    """One request between its arrival and its log line; `engine.Call` is what the engine sees of it."""

    __slots__ = ("_body", "_head", "_served", "arrived", "body_bytes", "codec", "computed", "deadline_seconds",
                 "encoded", "failed", "id", "mark", "queued", "rows", "started", "trail")  # fmt: skip
    failed: Status
    started: float
    computed: float
    encoded: float

    def __init__(self, served: Served, codec: Codec, head: Head, body: Body, seconds: float | None = None) -> None:
        self.arrived = perf_counter()
        self._served, self.codec, self._head = served, codec, head
        self._body: Body = body
        self.body_bytes, self.rows, self.queued = len(body), 0, 0.0
        self.deadline_seconds = served.limits.deadline_seconds if seconds is None else seconds
        if _PATIENCE in head:
            self.deadline_seconds = sooner(_patience(head[_PATIENCE]), self.deadline_seconds)
        if REQUEST_ID in head or TRACE in head or ATTRIBUTES in head:
            self.trail: Trail | None
            self.id, self.trail = trail(head, inputs=served.limits.log_inputs)
        else:
            self.id, self.trail = f"{PREFIX}-{next(NUMBERS):x}", None
        self.mark: tuple[int, int] | None = None

    def decode(self) -> Request:
        """Returns what the body asks of the model."""
        codec, in_hand = self.codec, self._served.in_hand
        if in_hand is not None:
            self.mark = in_hand.take(self._body)
        if self.body_bytes > codec.longest_body:
            raise too_large(codec.longest_body, "this protocol")
        request = codec.decode(self._head, self._body, self._served)
        self._body = b""
        self.rows = request.rows
        if request.deadline_seconds:
            self.deadline_seconds = sooner(request.deadline_seconds, self.deadline_seconds)
        if request.id is None:
            request.id = self.id
        elif request.id and (self._served.limits.log_inputs or is_id(request.id)):
            self.id = request.id
        return request

    @property
    def light(self) -> bool:
        """Whether decoding takes microseconds, however long the body is: little text, and tensors that are views."""
        text = self.codec.text_bytes(self._head, self._body)
        numbers = all(spec.datatype != "BYTES" for spec in self._served.model.inputs)
        return text <= self._served.limits.inline_body_bytes and numbers

    def encode(self, request: Request, outputs: Arrays) -> Response:
        """Returns the answer with the model's outputs."""
        response = self.codec.encode(self._served, request, outputs)
        if len(response.body) > SHORT_BYTES:
            response = packed(response, self._head)
        if response.variable:
            check_lines(response.variable)
        return response

    def answered(self, response: Response) -> Response:
        """Closes the account of a request that has its answer."""
        seconds, served, protocol = perf_counter() - self.arrived, self._served, self.codec.name
        length = response.length if response.tail else len(response.body)
        if self.mark is not None and served.in_hand is not None:
            served.in_hand.answered(self.mark)
        queued, rows, computed = self.queued, self.rows, self.computed
        decoded = self.started - self.arrived - queued
        served.accounts[protocol].answered(
            seconds, queued, decoded, computed, self.encoded, rows, self.body_bytes, length
        )
        took = _milliseconds(seconds), queued and _milliseconds(queued), _milliseconds(computed)
        if self.trail:
            values = zip(ANSWERED, (self.id[:LOGGED_ID], rows, length, *took), strict=True)
            served.log.info("request.answered", model=served.name, protocol=protocol, status=200, **dict(values),
                            **self.trail.fields)  # fmt: skip
            response = self._told(response)
        else:
            served.answered[protocol](self.id[:LOGGED_ID], rows, length, *took)
        return served.stamp(response)

    def abandoned(self) -> None:
        """Closes the account of a request whose client has left: there is no answer."""
        served, protocol = self._served, self.codec.name
        self._left(late=True)  # a thread may still be at it
        served.log.info("request.abandoned", id=self.id[:LOGGED_ID], model=served.name, protocol=protocol,
                        milliseconds=_milliseconds(perf_counter() - self.arrived), **self._fields)  # fmt: skip

    def refused(self, error: Exception) -> Response:
        """Closes the account of a request that fails, with the answer that says why."""
        served, protocol = self._served, self.codec.name
        failure, told, line = told_of(error, inputs=served.limits.log_inputs)
        self._left(late=isinstance(error, DeadlinePassed))
        self.failed = status = status_of(failure)
        length = 0
        try:
            response = self.codec.refuse(told)
            check_lines(response.variable)
            length = len(response.body)
        finally:
            seconds = perf_counter() - self.arrived
            served.accounts[protocol].failed(status.outcome, seconds, self.body_bytes, length)
        served.log.refused(status.http, status.reason, id=self.id[:LOGGED_ID], model=served.name, protocol=protocol,
                           bytes=length, milliseconds=_milliseconds(seconds), **line, **self._fields)  # fmt: skip
        return served.stamp(self._told(response))

    def _left(self, *, late: bool) -> None:
        if self.mark is not None and self._served.in_hand is not None:
            self._served.in_hand.left(self.mark, late=late)

    @property
    def _fields(self) -> dict[str, str]:
        return self.trail.fields if self.trail else {}

    def _told(self, response: Response) -> Response:
        headers = self.trail.headers if self.trail else ()
        return response._replace(variable=response.variable + headers) if headers else response


def sooner(one: float, other: float) -> float:
    """Returns the sooner of two deadlines; 0: none."""
    return min(one, other) if one and other else one or other


def _patience(milliseconds: bytes) -> float:
    """Returns the seconds that a gateway says; 0 if it says none."""
    return int(milliseconds) / 1000 if milliseconds.isdigit() and len(milliseconds) < 10 else 0.0


def told_of(error: Exception, *, inputs: bool) -> tuple[RequestFailed, RequestFailed, dict[str, str]]:
    """Returns the failure as the runtime knows it, as the client learns of it, and what the log says of it."""
    if isinstance(error, RequestFailed) and not isinstance(error, PredictFailed):
        line = {"reason": str(error) if inputs else error.logged}
        if error.__cause__ is not None:
            line["cause"] = fault(error.__cause__, texts=inputs)["cause"]
        return error, error, line
    failure = error if isinstance(error, PredictFailed) else RuntimeFailed("the runtime failed")
    error_id = f"{PREFIX}-e{next(NUMBERS):x}"
    told = PredictFailed(f"inference failed (error id {error_id})")
    line = {"reason": str(failure), "error_id": error_id, **fault(error.__cause__ or error, texts=inputs)}
    return failure, told, line


def rehearse(served: Served, codec: Codec, body: bytes, *, times: int = 1) -> Response:
    """Answers a request `times` times, fewer if that takes half a second, and notes what one takes; in no account.
    For the thread that loads the model, before the first request. Raises what the codec and the model raise."""
    request = codec.decode({}, body, served)
    request.id, request.form = "rehearsal", None
    began, least = perf_counter(), float("inf")
    while times > 0 and perf_counter() - began < _REHEARSAL_SECONDS:
        started = perf_counter()
        answer = codec.encode(served, request, served.engine.predict(request))
        times, least = times - 1, min(least, perf_counter() - started)
    served.engine.learn(request, least)
    return answer


def _drop_frames(error: BaseException) -> None:
    """Takes the frames from an error and from what it came of. They hold the request, and what holds the error: without
    this the body would live on until the garbage collector comes."""
    errors: list[BaseException | None] = [error]
    for each in errors:
        if each is not None and each.__traceback__ is not None:
            each.__traceback__ = None
            errors += (each.__cause__, each.__context__)


def _milliseconds(seconds: float) -> float:
    return int(seconds * 1e6) / 1000
