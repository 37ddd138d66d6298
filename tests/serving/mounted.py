"""`App` inside a Starlette application, for servers that import what they serve: `uvicorn tests.serving.mounted:app`."""

from __future__ import annotations

from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Mount, Route

from tests.serving.support import app_of, model

served = app_of(model())
app = Starlette(routes=[Route("/", lambda request: PlainTextResponse("theirs")), Mount("/models", served.app)])
