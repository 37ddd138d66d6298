"""The commands that README and docs show: fenced blocks marked `console`, lines that begin with `$ `."""

from __future__ import annotations

import re
from pathlib import Path

from tests.places import ROOT

PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md")), *sorted((ROOT / "loadtests").glob("*.md"))]
REGISTRY = "registry.example.com"
"""Stands for the reader's own registry; tests put the address of a real one in its place."""


def blocks(page: Path, mark: str) -> list[list[str]]:
    """The commands of each block that is marked exactly so."""
    found = re.findall(rf"^```{re.escape(mark)}\n(.*?)^```$", page.read_text(), re.MULTILINE | re.DOTALL)
    return [[line.removeprefix("$ ") for line in block.splitlines() if line.startswith("$ ")] for block in found]


def marks(page: Path) -> set[str]:
    """What the fenced blocks of a page are marked with."""
    return set(re.findall(r"^```(.+)$", page.read_text(), re.MULTILINE))


def extras(page: Path) -> set[str]:
    """The extras that a page tells its reader to install."""
    return {
        extra for names in re.findall(r"pip install '\.\[([\w,]+)\]'", page.read_text()) for extra in names.split(",")
    }
