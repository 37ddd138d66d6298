"""Requests to an `App` over ASGI, without a server."""

from __future__ import annotations

import asyncio
from typing import Any

import httpx

from tests.serving.support import Served


def call(served: Served, method: str, path: str, **options: Any) -> httpx.Response:
    """Sends one request; `options` are httpx's."""

    async def exchange() -> httpx.Response:
        transport = httpx.ASGITransport(served.app)
        async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
            return await client.request(method, path, **options)

    return asyncio.run(exchange())
