"""What stands behind inference, as a Starlette application: pages, metrics, and every wrong path and method."""

import asyncio
from collections.abc import Callable, Sequence
from functools import partial
from typing import Final

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.routing import Route
from starlette.types import ASGIApp

from runtime.link.metrics import CONTENT_TYPE
from runtime.serving.asgi import deliver, local_path
from runtime.serving.protocol.codec import Codec, Page
from runtime.serving.served import Models
from runtime.serving.statuses import JSON, MethodNotAllowed, Response, UnknownPath
from runtime.serving.wording import shown

_ALIVE: Final = Page("/", lambda *_: Response(200, (JSON,), b'{"status":"alive"}'), quiet=True)
Refuse = Callable[..., Response]
"""`App.refused`."""


def application(infer: ASGIApp, codecs: Sequence[Codec], models: Models, scrape: Callable[[], bytes],
                refused: Refuse) -> Starlette:  # fmt: skip
    """Returns the application of these protocols; `infer` answers a POST to one of their paths."""

    async def metrics(_: Request) -> ASGIApp:
        text = await asyncio.to_thread(scrape)
        return partial(deliver, Response(200, ((b"content-type", CONTENT_TYPE),), text))

    pages = [(_ALIVE, codecs[0]), *((page, codec) for codec in codecs for page in codec.pages)]
    routes = [Route(page.path, _answer(page, codec, models, refused), methods=page.methods) for page, codec in pages]
    quiet = {metrics, *(route.endpoint for route, (page, _) in zip(routes, pages, strict=True) if page.quiet)}

    async def wrong(request: Request, error: Exception) -> ASGIApp:
        assert isinstance(error, HTTPException)
        scope, allowed = request.scope, (error.headers or {}).get("Allow")
        failure = MethodNotAllowed(allowed) if allowed else UnknownPath(f"not found: {shown(local_path(scope))}")
        return partial(deliver, refused(failure, scope, codecs[0], quiet=scope.get("endpoint") in quiet))

    routes.append(Route("/metrics", metrics))
    routes += [Route(path, infer, methods=["POST"]) for codec in codecs for path in codec.paths]
    starlette = Starlette(routes=routes, exception_handlers={HTTPException: wrong})  # type: ignore[dict-item]  # what it awaits is an ASGI application
    starlette.router.redirect_slashes = False
    return starlette


def _answer(page: Page, codec: Codec, models: Models, refused: Refuse) -> Callable[[Request], object]:
    async def answer(request: Request) -> ASGIApp:
        parameters = request.path_params
        try:
            response = models.stamp(page.answer(models, parameters), parameters)
        except Exception as error:  # noqa: BLE001 - logged with its cause, and answered without it
            response = refused(error, request.scope, codec, quiet=page.quiet)
        return partial(deliver, response)

    return answer
