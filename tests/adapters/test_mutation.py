"""Mutated files of every format: what they hold never ends the process that loads them and predicts with them."""

from __future__ import annotations

import re
import subprocess
import sys

import pytest

from tests.adapters.mutation.formats import FORMATS
from tests.campaign import Campaign

pytestmark = pytest.mark.slow


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """All formats by one process where what they import takes longer than the files, and in CI each by its own."""
    many = metafunc.config.option.ci or metafunc.config.option.long
    metafunc.parametrize("names", [(name,) for name in FORMATS] if many else [tuple(FORMATS)], ids=" ".join)


def test_a_mutated_file_ends_no_process(names: tuple[str, ...], campaign: Campaign) -> None:
    count = campaign(20, 2_000, 1_000_000)
    command = [sys.executable, "-W", "ignore", "-m", "tests.adapters.mutation", "--only", *names, "--count", str(count)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    served = {
        name: int(number) for name, number in re.findall(r"^(\S+): \d+ files, (\d+) served", done.stdout, re.MULTILINE)
    }
    assert served.keys() == set(names)
    assert all(0 < number < count for number in served.values()), served  # else all were broken, or none was mutated
