"""A WebSocket client is told in plain HTTP that nobody here speaks WebSocket."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import websocket

from tests.serving.support import INFER, Served, model, serving
from tests.serving.wire import Wire, request

HANDSHAKE = {
    "Connection": "keep-alive, Upgrade",
    "Upgrade": "websocket",
    "Sec-WebSocket-Version": "13",
    "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==",
}


@pytest.fixture(scope="module")
def served() -> Iterator[Served]:
    with serving(model()) as running:
        yield running


@pytest.mark.parametrize("path", ["/", "/v2", INFER, "/metrics", "/nothing"])
def test_a_websocket_client_sees_a_refusal_on_every_path(served: Served, path: str):
    with pytest.raises(websocket.WebSocketBadStatusException) as refused:
        websocket.create_connection(f"ws://127.0.0.1:{served.port}{path}", timeout=10)
    assert refused.value.status_code == 501
    assert refused.value.resp_body == b'{"error":"WebSocket is not implemented; send plain HTTP requests"}'
    assert refused.value.resp_headers["content-type"] == "application/json"


def test_the_connection_ends_with_the_refusal(served: Served):
    with Wire(served.port) as wire:
        refusal = wire.send(request("GET", "/v2", None, HANDSHAKE)).answer()
        assert (refusal.status, refusal.headers["connection"]) == (501, "close")
        assert refusal.error == "WebSocket is not implemented; send plain HTTP requests"
        wire.socket.shutdown(1)
        assert wire.closed()


@pytest.mark.parametrize("offer", [{"Upgrade": "websocket"}, {"Connection": "Upgrade", "Upgrade": "h2c"}])
def test_what_is_no_offer_of_a_websocket_is_an_ordinary_request(served: Served, offer: dict[str, str]):
    with Wire(served.port) as wire:
        assert wire.send(request("GET", "/v2", None, offer)).answer().status == 200


def test_a_1_0_client_cannot_offer_it(served: Served):
    with Wire(served.port) as wire:
        offer = request("GET", "/v2", None, HANDSHAKE).replace(b"HTTP/1.1", b"HTTP/1.0")
        assert wire.send(offer).answer().status == 200
