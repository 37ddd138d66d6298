"""How a framework that is not installed is asked for."""

import re
import sys

import pytest

from adapters.imports import how_to_install
from tests.places import ROOT


def test_the_way_to_a_missing_framework_fits_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    assert how_to_install("no-such-extra") == "pip install '.[no-such-extra]' in the folder of the runtime"
    assert re.fullmatch(r"\S+python\S* -m pip install ('[\w-]+[>=<.,\d]+' ?)+", how_to_install("sklearn"))
    assert how_to_install("one", "two") == "pip install '.[one,two]' in the folder of the runtime"
    both = how_to_install("xgboost", "lightgbm")
    assert "xgboost-cpu" in both
    assert "lightgbm" in both
    monkeypatch.setattr(sys, "prefix", "/opt/venv")
    assert how_to_install("xgboost", "lightgbm") == "build the image with --build-arg EXTRAS=xgboost,lightgbm"
    assert how_to_install("sklearn") == "build the image with --build-arg EXTRAS=sklearn"
    assert "python3 -m venv --without-pip /opt/venv" in (ROOT / "Dockerfile").read_text()
