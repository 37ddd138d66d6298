"""Newest tags first."""

import pytest

from runtime.kit.format.tags import newest


@pytest.mark.parametrize(
    ("tags", "shown"),
    [
        ([], []),
        (["v1", "v10", "v9", "v2"], ["v10", "v9", "v2", "v1"]),
        (["1.0", "1.0-rc1", "0.9", "1.0.1"], ["1.0.1", "1.0", "1.0-rc1", "0.9"]),
        (["latest", "v1", "main", "v2.0.0"], ["v2.0.0", "v1", "main", "latest"]),
        (["v1", "v2", "v3", "v4", "v5", "v6"], ["v6", "v5", "v4", "v3", "v2"]),
        (["v1", "v" + "9" * 5000], ["v" + "9" * 5000, "v1"]),
    ],
)
def test_the_newest_five_are_shown(tags: list[str], shown: list[str]) -> None:
    assert newest(tags) == shown
