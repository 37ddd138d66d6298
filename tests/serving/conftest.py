"""What all tests of the serving wing have in common."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.serving.support import MADE


@pytest.fixture(scope="module", autouse=True)
def no_log_left_open() -> Iterator[None]:
    """Closes the logs of a module's tests: with those of all, descriptors reach what select cannot take."""
    before = len(MADE)
    yield
    for lines in MADE[before:]:
        lines.close()
    del MADE[before:]
