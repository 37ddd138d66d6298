"""Mutated files of every format: what they hold never ends the process that loads them and predicts with them."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tests.adapters.mutation.formats import FORMATS
from tests.campaign import Campaign

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("name", FORMATS)
def test_a_mutated_file_ends_no_process(name: str, campaign: Campaign) -> None:
    count = campaign(20, 2_000, 1_000_000)
    command = [sys.executable, "-W", "ignore", "-m", "tests.adapters.mutation", "--only", name, "--count", str(count)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    served = int(done.stdout.split("files, ")[1].split()[0])
    assert 0 < served < count  # else it would mutate nothing, or break everything
