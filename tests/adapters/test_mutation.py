"""Mutated files of every format: what they hold never ends the process that loads them and predicts with them."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tests.adapters.mutation.formats import FORMATS

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("name", FORMATS)
def test_a_mutated_file_ends_no_process(name: str) -> None:
    command = [sys.executable, "-W", "ignore", "-m", "tests.adapters.mutation", "--only", name, "--count", "60"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    served = int(done.stdout.split("files, ")[1].split()[0])
    assert 0 < served < 60  # else it would mutate nothing, or break everything
