"""Runs a program as process 1 of a pid namespace of its own, as a container does."""

from __future__ import annotations

import subprocess

import pytest

UNSHARE = ("unshare", "--pid", "--fork", "--mount-proc", "--kill-child")


def require_unshare() -> None:
    """Skips the test where such a namespace cannot be made."""
    done = subprocess.run([*UNSHARE, "true"], capture_output=True, text=True, check=False, timeout=60)
    if done.returncode:
        pytest.skip(f"this sandbox makes no pid namespaces: {done.stderr.strip()}")
