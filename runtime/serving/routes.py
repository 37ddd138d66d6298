"""Which resource a path names. No redirects, no trailing-slash magic but `/v2/`, which clients differ about."""

from __future__ import annotations

from typing import Final, NamedTuple

READING: Final = ("GET", "HEAD")
POSTING: Final = ("POST",)


class Route(NamedTuple):
    """A resource: its kind, the methods it answers and, where it belongs to a model, which."""

    kind: str
    methods: tuple[str, ...]
    model: str = ""
    version: str | None = None


_FIXED: Final = {
    "/": Route("alive", READING),
    "/v2": Route("server", READING),
    "/v2/": Route("server", READING),
    "/v2/health/live": Route("live", READING),
    "/v2/health/ready": Route("ready", READING),
    "/v2/models": Route("models", READING),
    "/metrics": Route("metrics", READING),
}
_OF_A_MODEL: Final = {(): ("model", READING), ("ready",): ("model_ready", READING), ("infer",): ("infer", POSTING)}
UNLOGGED: Final = frozenset({"alive", "live", "ready", "model_ready", "metrics"})
"""Asked every few seconds by machines; an answer of any kind is no news."""


def route(path: str) -> Route | None:
    """The resource that `path` (decoded, without query) names, None if there is none."""
    fixed = _FIXED.get(path)
    if fixed is not None or not path.startswith("/v2/models/"):
        return fixed
    model, *rest = path.removeprefix("/v2/models/").split("/")
    version = None
    if len(rest) > 1 and rest[0] == "versions":
        version, rest = rest[1], rest[2:]
    found = _OF_A_MODEL.get(tuple(rest)) if model and version != "" else None
    return None if found is None else Route(*found, model, version)
