"""What stands behind inference, as a Starlette application: pages, metrics, and every wrong path and method."""

import asyncio
from collections.abc import Callable, Sequence
from functools import partial

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.routing import Route
from starlette.types import ASGIApp, Scope

from runtime.link.metrics import CONTENT_TYPE
from runtime.serving.asgi import Bodies, ClientGone, deliver, local_path
from runtime.serving.codings import inflated
from runtime.serving.media import head_of
from runtime.serving.protocol.codec import PAGE_BYTES, Codec, Page
from runtime.serving.served import Models
from runtime.serving.statuses import MethodNotAllowed, Response, UnknownPath
from runtime.serving.trail import named
from runtime.serving.wording import shown

Refuse = Callable[..., Response]
"""`App.refused`."""


def application(infer: ASGIApp, codecs: Sequence[Codec], models: Models, scrape: Callable[[], bytes],
                refused: Refuse, bodies: Bodies) -> Starlette:  # fmt: skip
    """Returns the application of these protocols; `infer` answers a POST to one of their paths."""

    async def metrics(request: Request) -> ASGIApp:
        models.settle()
        text = await asyncio.to_thread(scrape)
        return _deliver(Response(200, ((b"content-type", CONTENT_TYPE),), text), request)

    async def home(request: Request) -> ASGIApp:
        from runtime.serving.site.home import home  # as all of the site: for people, who come later or never

        head, root = dict(request.scope["headers"]), str(request.scope.get("root_path", ""))
        return _deliver(home(models, codecs, head, root), request)

    async def openapi(request: Request) -> ASGIApp:
        from runtime.serving.site.document import openapi

        root = str(request.scope.get("root_path", ""))
        return _deliver(await asyncio.to_thread(openapi, models, codecs, root), request)

    pages = [(page, codec) for codec in codecs for page in (*codec.later_pages(), *codec.pages)]
    routes = [Route(page.path, _answer(page, codec, models, refused, bodies), methods=page.methods)
              for page, codec in pages]  # fmt: skip
    routes += [Route("/", home), Route("/openapi.json", openapi), Route("/docs", _docs), Route("/docs/{name}", _file)]
    quiet = {metrics, home, *(route.endpoint for route, (page, _) in zip(routes, pages, strict=False) if page.quiet)}

    async def wrong(request: Request, error: Exception) -> ASGIApp:
        assert isinstance(error, HTTPException)
        scope, allowed = request.scope, (error.headers or {}).get("Allow")
        failure = MethodNotAllowed(allowed) if allowed else unknown(local_path(scope), scope)
        return partial(deliver, refused(failure, scope, codecs[0], quiet=scope.get("endpoint") in quiet))

    def unknown(path: str, scope: Scope) -> UnknownPath:
        from runtime.serving.site.home import nearest

        paths, root = nearest(path, {route.path for route in routes}, models.served), scope.get("root_path", "")
        near = ", ".join(root + path for path in paths)
        return UnknownPath(
            f"not found: {shown(path)}; {f'the nearest: {near}' if near else f'{root}/ lists the paths'}"
        )

    routes.append(Route("/metrics", metrics))
    routes += [Route(path, infer, methods=["POST"]) for codec in codecs for path in codec.paths]
    starlette = Starlette(routes=routes, exception_handlers={HTTPException: wrong})  # type: ignore[dict-item]  # what it awaits is an ASGI application
    starlette.router.redirect_slashes = False
    return starlette


def _answer(page: Page, codec: Codec, models: Models, refused: Refuse, bodies: Bodies) -> Callable[[Request], object]:
    async def answer(request: Request) -> ASGIApp:
        parameters = request.path_params
        try:
            body = (await _body(request, bodies),) if page.wants_body else ()
            return _deliver(models.stamp(page.answer(models, parameters, *body), parameters), request)
        except ClientGone:
            return _silence
        except Exception as error:  # noqa: BLE001 - logged with its cause, and answered without it
            return partial(deliver, refused(error, request.scope, codec, quiet=page.quiet))

    return answer


def _deliver(response: Response, request: Request) -> ASGIApp:
    return partial(deliver, named(response, head_of(request.scope["headers"])))


async def _docs(request: Request) -> ASGIApp:
    from runtime.serving.site.document import page

    return _deliver(await asyncio.to_thread(page), request)


async def _file(request: Request) -> ASGIApp:
    from runtime.serving.site.document import file, files

    name = request.path_params["name"]
    if name not in files():
        raise HTTPException(404)
    return _deliver(await asyncio.to_thread(file, name), request)


async def _silence(*_: object) -> None:
    """Answers a client that is gone."""


async def _body(request: Request, bodies: Bodies) -> bytes:
    if request.method != "POST":
        return b""
    head = dict(request.scope["headers"])
    body = await bodies.read(head, request.receive, PAGE_BYTES)
    return bytes(inflated(head, body, PAGE_BYTES, "this path"))
