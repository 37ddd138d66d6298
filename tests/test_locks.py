"""The pins of constraints.txt and the locks of the image are one set of versions, and they cover pyproject.toml."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest

from tests.places import ROOT

LOCKS = sorted((ROOT / "requirements").glob("*.txt"))
EXTRAS = (
    "sklearn",
    "pytorch",
    "xgboost",
    "lightgbm",
    "catboost",
    "transformers",
    "images",
    "arrow",
    "zstd",
    "signatures",
    "grpc",
    "otel",
)


def pins(file: Path) -> dict[str, str]:
    return dict(re.findall(r"^([\w.-]+)==([\w.]+)", file.read_text(), re.MULTILINE))


def wanted(requirements: list[str]) -> set[str]:
    """Returns their names as pip writes them (PEP 503)."""
    return {re.sub(r"[._]", "-", re.split(r"[\[<>=~! ;]", requirement)[0].lower()) for requirement in requirements}


@pytest.mark.parametrize("lock", LOCKS, ids=lambda lock: lock.stem)
def test_a_lock_has_the_versions_of_the_constraints_and_a_hash_for_each(lock: Path) -> None:
    constraints = pins(ROOT / "constraints.txt")
    assert {name: version for name, version in pins(lock).items() if constraints.get(name) != version} == {}
    assert len(
        re.findall(r"^[\w.-]+==[\w.]+(?: ; [^\n]+)? \\\n    --hash=sha256:", lock.read_text(), re.MULTILINE)
    ) == len(pins(lock))


@pytest.mark.parametrize("extra", ["core", *EXTRAS])
def test_a_lock_covers_what_the_project_asks_for(extra: str) -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    asked = project["dependencies"] + project["optional-dependencies"].get(extra, [])
    missing = wanted(asked) - set(pins(ROOT / f"requirements/{extra}.txt"))
    assert missing == (
        {"torch"} if extra in ("pytorch", "transformers") else set()
    )  # from a wheel folder: docs/deploy.md


def test_the_constraints_pin_every_direct_dependency() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    asked = wanted(
        [one for extra in project["optional-dependencies"].values() for one in extra] + project["dependencies"]
    )
    assert asked - {"modelkit-runtime"} - set(pins(ROOT / "constraints.txt")) == set()
    assert pins(ROOT / "constraints.txt")["torch"] == "2.13.0"


def test_no_lock_names_an_index() -> None:
    for file in (ROOT / "constraints.txt", *LOCKS):
        assert re.search(r"https?://|--(extra-)?index-url|--find-links", file.read_text()) is None
