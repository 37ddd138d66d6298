"""Inference below HTTP: bytes in, bytes out. Both doors (the ASGI route, later the connection itself) end here.

The straight path is the body of `infer`; everything a client can be told, and the one log line and the metrics of a
request, are written here and nowhere else.
"""

from __future__ import annotations

import itertools
import os
from asyncio import CancelledError
from collections.abc import Awaitable
from functools import partial
from time import perf_counter
from typing import TYPE_CHECKING, Any, Final

from runtime.errors import PredictFailed, RequestFailed
from runtime.link.metrics import OUTCOME_RUNS
from runtime.serving.media import Head, check_head
from runtime.serving.protocol.v2.decode import Request, decode
from runtime.serving.protocol.v2.document import InputAtFault
from runtime.serving.protocol.v2.encode import encode
from runtime.serving.statuses import Response, error_response, status_of

if TYPE_CHECKING:
    from runtime.serving.engine.predictor import Predictor

PROTOCOL: Final = "v2_json"
_OK: Final = OUTCOME_RUNS["ok"]
_ID_BYTES: Final = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz._:@/+=-"
_LONGEST_ID: Final = 128
_PREFIX: Final = os.urandom(4).hex()
_numbers: Final = itertools.count(1)


def request_id(head: Head) -> str:
    """The client's own `X-Request-Id` if it is one a log can hold, else a new one."""
    given = head.get(b"x-request-id")
    if given and len(given) <= _LONGEST_ID and not given.translate(None, _ID_BYTES):
        return given.decode()
    return f"{_PREFIX}-{next(_numbers):x}"


def infer(predictor: Predictor, head: Head, body: bytes) -> Response | Awaitable[Response]:
    """The answer to one inference request, at once where the model is cheap. Never raises a RequestFailed."""
    started = perf_counter()
    predictor.meter.begun()
    call = Call(predictor, started, len(body), request_id(head))
    try:
        check_head(head)
        if len(body) > predictor.limits.inline_body_bytes:
            return _in_steps(call, body)
        return _run(call, decode(body, predictor.signature, predictor.limits))
    except Exception as error:  # noqa: BLE001 - logged with its cause, and answered without it
        return call.refused(error)


def refuse(predictor: Predictor, head: Head, failure: RequestFailed) -> Response:
    """The answer to an inference request whose body was not read to its end."""
    predictor.meter.begun()
    return Call(predictor, perf_counter(), 0, request_id(head)).refused(failure)


class Call:
    """One request between its arrival and its log line."""

    __slots__ = ("bytes_in", "id", "predictor", "rows", "started")

    def __init__(self, predictor: Predictor, started: float, bytes_in: int, id: str) -> None:  # noqa: A002 - its name
        self.predictor, self.started, self.bytes_in, self.id = predictor, started, bytes_in, id
        self.rows = 0

    def answered(self, body: bytes) -> Response:
        """The answer with the outputs in it."""
        seconds = perf_counter() - self.started
        predictor = self.predictor
        predictor.meter.finished(_OK, seconds, self.rows, self.bytes_in, len(body))
        predictor.log.info("request.answered", id=self.id[:64], model=predictor.provenance.name, protocol=PROTOCOL,
                           rows=self.rows, milliseconds=int(seconds * 1e6) / 1000)  # fmt: skip
        return Response(200, predictor.ok_headers, body)

    def abandoned(self) -> None:
        """The client has left: there is no answer."""
        predictor, seconds = self.predictor, perf_counter() - self.started
        predictor.meter.abandoned()
        predictor.log.info("request.abandoned", id=self.id[:64], model=predictor.provenance.name, protocol=PROTOCOL,
                           milliseconds=round(seconds * 1000, 3))  # fmt: skip

    def refused(self, error: Exception) -> Response:
        """The answer that says why there is none."""
        predictor = self.predictor
        failure, told, more = _told(error)
        response = error_response(told, advice=predictor.advice if isinstance(failure, InputAtFault) else "",
                                  headers=predictor.headers)  # fmt: skip
        status, outcome = status_of(failure)
        seconds = perf_counter() - self.started
        predictor.meter.finished(OUTCOME_RUNS[outcome], seconds, 0, self.bytes_in, len(response.body))
        write = predictor.log.info if status < 500 else predictor.log.warning if status != 500 else predictor.log.error
        write("request.refused", id=self.id[:64], model=predictor.provenance.name, protocol=PROTOCOL, status=status,
              reason=str(failure), milliseconds=round(seconds * 1000, 3), **more)  # fmt: skip
        return response


def _told(error: Exception) -> tuple[RequestFailed, RequestFailed, dict[str, Any]]:
    """The failure as we know it, as a client gets to know it, and what only the log gets."""
    if isinstance(error, RequestFailed) and not isinstance(error, PredictFailed):
        return error, error, {}
    import traceback  # 1 ms, and only for what is nobody's plan

    failure = error if isinstance(error, PredictFailed) else PredictFailed("the runtime failed")
    cause = error.__cause__ or error
    error_id = f"{_PREFIX}-e{next(_numbers):x}"
    told = PredictFailed(f"inference failed (error id {error_id})")
    more = {"error_id": error_id, "cause": f"{type(cause).__name__}: {cause}",
            "trace": "".join(traceback.format_exception(cause))}  # fmt: skip
    return failure, told, more


def _run(call: Call, request: Request) -> Response | Awaitable[Response]:
    predictor = call.predictor
    if request.id is not None:
        call.id = request.id
    call.rows = request.rows
    answer = predictor.predict(request, partial(encode, predictor.form, call.id, request.wanted))
    return call.answered(answer) if type(answer) is bytes else _awaited(call, answer)  # type: ignore[arg-type]  # narrowed by type()


async def _awaited(call: Call, answer: Awaitable[bytes]) -> Response:
    try:
        return call.answered(await answer)
    except CancelledError:
        call.abandoned()
        raise
    except Exception as error:  # noqa: BLE001 - as in infer
        return call.refused(error)


async def _in_steps(call: Call, body: bytes) -> Response:
    """A body that takes long to parse: in a thread, as the model then is."""
    predictor = call.predictor
    try:
        request = await predictor.parse(partial(decode, body, predictor.signature, predictor.limits))
        response = _run(call, request)
    except CancelledError:
        call.abandoned()
        raise
    except Exception as error:  # noqa: BLE001 - as in infer
        return call.refused(error)
    return response if isinstance(response, Response) else await response
