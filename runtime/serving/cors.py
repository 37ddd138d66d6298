"""Cross-origin requests as Starlette handles them, refusals as JSON like every other: https://fetch.spec.whatwg.org/#http-cors-protocol."""

from collections.abc import Sequence
from typing import Final

from starlette.datastructures import Headers
from starlette.middleware.cors import CORSMiddleware
from starlette.responses import Response
from starlette.types import ASGIApp

from runtime.serving.statuses import error_body

_EXPOSED: Final = ("modelkit-digest", "modelkit-reference", "modelkit-verified", "inference-header-content-length",
                   "retry-after", "traceresponse", "x-request-id")  # fmt: skip


class Cors(CORSMiddleware):
    """Lets pages of `origins` ask `app`, without credentials."""

    def __init__(self, app: ASGIApp, origins: Sequence[str]) -> None:
        super().__init__(app, origins, ("GET", "POST"), ("*",), expose_headers=_EXPOSED)

    def preflight_response(self, request_headers: Headers) -> Response:
        """Returns the answer to the question whether a request may follow."""
        answer = super().preflight_response(request_headers)
        if answer.status_code == 200:
            return answer
        headers = {name: value for name, value in answer.headers.items() if not name.startswith("content-")}
        return Response(error_body(bytes(answer.body).decode()), answer.status_code, headers, "application/json")
