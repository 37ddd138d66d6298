"""What tests of clients share: servers, and the processes that clients run in."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.clients.drivers import Drivers
from tests.clients.servers import Servers


@pytest.fixture(scope="session")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Servers]:
    """Servers that start when somebody asks for their address."""
    with Servers(tmp_path_factory.mktemp("served")) as started:
        yield started


@pytest.fixture(scope="session")
def drivers() -> Iterator[Drivers]:
    """Processes that run the scripts of clients."""
    with Drivers() as started:
        yield started
