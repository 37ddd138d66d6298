"""A proxy in front of a real registry, which passes its answers on, or lies about them as `LyingRegistry` does.

with FaultyProxy(registry.host) as proxy:
    proxy.lie("/blobs/", cut(1000), times=1)
    pull(f"{proxy.host}/kits/iris-onnx:v1")
"""

from __future__ import annotations

from contextlib import closing
from http.client import HTTPConnection, IncompleteRead

from tests.lying_registry import Headers, LyingRegistry, Seen

_OWN = {"connection", "content-length", "date", "transfer-encoding"}
"""Headers of an answer that the proxy writes itself, so that they fit what it sends."""


class FaultyProxy(LyingRegistry):
    """Asks the registry at `upstream`, HOST:PORT without TLS, for the truth about each request."""

    def __init__(self, upstream: str) -> None:
        self._upstream = upstream
        super().__init__()

    def _truth(self, seen: Seen) -> tuple[int, Headers, bytes]:
        asked = {name: value for name, value in seen.headers.items() if name not in ("host", "connection")}
        with closing(HTTPConnection(self._upstream, timeout=20)) as upstream:
            upstream.request(seen.method, seen.path, seen.body or None, asked)
            answer = upstream.getresponse()
            try:
                body = answer.read()
            except IncompleteRead as short:  # docker-registry's 416 has the length of the whole blob
                body = short.partial
            own = _OWN - {"content-length"} if seen.method == "HEAD" else _OWN
            return answer.status, {name: text for name, text in answer.getheaders() if name.lower() not in own}, body
