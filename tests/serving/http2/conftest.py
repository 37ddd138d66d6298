from __future__ import annotations

from collections.abc import Iterator

import pytest

from runtime.link.limits import Limits
from tests.serving.grpc.client import serving
from tests.serving.support import Served, model


@pytest.fixture(scope="module")
def served() -> Iterator[Served]:
    """A server whose model is cheap, so that calls are answered on the event loop."""
    with serving(model(), limits=Limits(inline_seconds=1.0, body_bytes=8 * 2**20)) as (served, _):
        yield served
