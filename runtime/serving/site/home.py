"""`GET /`: where everything is, as JSON, and as a page for a browser; and what a wrong path may have meant."""

from collections.abc import Iterable
from difflib import get_close_matches
from html import escape
from typing import Final

import orjson

from runtime.serving.media import Head
from runtime.serving.protocol.codec import Codec
from runtime.serving.served import Models
from runtime.serving.statuses import JSON, Response
from runtime.version import __version__

_VARY: Final = (b"vary", b"accept")
_POLICY: Final = (b"content-security-policy", b"default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'")
_HTML: Final = ((b"content-type", b"text/html; charset=utf-8"), _POLICY, _VARY)
_LONGEST: Final = 128
_NEAR: Final = 0.6
_MOST: Final = 3


def home(models: Models, codecs: Iterable[Codec], head: Head, root: str) -> Response:
    """Returns where everything is; to a browser, which would rather have HTML, as a page."""
    predict = [path for name in models.served for codec in codecs for path in _paths(codec, name)]
    found = {
        "status": "alive",  # KServe's client for V1 looks for it
        "name": "modelkit-runtime",
        "version": __version__,
        "ready": models.health.ready,
        "models": [f"{root}/v2/models/{name}" for name in models.served],
        "predict": [root + path for path in predict],
        "docs": f"{root}/docs",
        "openapi": f"{root}/openapi.json",
        "health": f"{root}/v2/health/ready",
        "metrics": f"{root}/metrics",
    }
    accept = head.get(b"accept", b"").lower()
    if b"text/html" in accept and b"application/json" not in accept:
        return Response(200, _HTML, _page(found).encode())
    return Response(200, (JSON, _VARY), orjson.dumps(found))


def _paths(codec: Codec, name: str) -> list[str]:
    return [path.replace("{model}", name) for path in codec.paths if "{version}" not in path]


def _page(found: dict[str, object]) -> str:
    rows = []
    for key, value in found.items():
        entries = value if isinstance(value, list) else [value]
        texts = [_link(entry) if key != "predict" else f"POST <code>{escape(str(entry))}</code>" for entry in entries]
        rows.append(f"<dt>{key}<dd>{'<br>'.join(texts) or 'none yet'}")
    return (
        "<!doctype html><html lang=en><meta charset=utf-8><title>ModelKit Runtime</title>"
        "<style>body{font:1rem/1.6 system-ui,sans-serif;margin:2rem auto;max-width:42rem;padding:0 1rem}"
        "dl{display:grid;grid-template-columns:auto 1fr;gap:.2rem 1.5rem}dt{color:#666}dd{margin:0}</style>"
        f"<h1>ModelKit Runtime</h1><dl>{''.join(rows)}</dl></html>"
    )


def _link(value: object) -> str:
    text = escape(str(value))
    return f'<a href="{text}">{text}</a>' if text.startswith("/") else text


def nearest(path: str, routes: Iterable[str], names: Iterable[str]) -> list[str]:
    """Returns the paths that are most like a wrong one, then those of the same last part; a route's `{model}` stands
    for each of the `names`."""
    if len(path) > _LONGEST:  # comparing takes the square of it
        return []
    known = list(names)
    paths = {route.replace("{model}", name) for route in routes for name in (known if "{model}" in route else [""])}
    paths = {path for path in paths if "{name}" not in path}
    known_paths, last = sorted(paths, key=lambda one: (len(one), one)), path.lower().rpartition("/")[2]
    ends = [one for one in known_paths if last and one.rpartition("/")[2] == last]
    return list(dict.fromkeys(get_close_matches(path.lower(), known_paths, _MOST, _NEAR) + ends))[:_MOST]
