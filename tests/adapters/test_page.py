"""docs/kitfile.md lists the options of each adapter."""

import re

import pytest

from adapters.choose import ADAPTERS
from adapters.onnx.session import KNOWN as ONNX
from tests.places import ROOT


def test_the_page_lists_the_adapters_options():
    pytorch = pytest.importorskip("adapters.pytorch.file", exc_type=ImportError).KNOWN
    transformers = pytest.importorskip("adapters.huggingface.loading", exc_type=ImportError).KNOWN
    table = (ROOT / "docs/kitfile.md").read_text().partition("| Adapter | Options |")[2].partition("\n\n")[0]
    rows = {
        name: set(re.findall(r"`(\w+)`", keys))
        for names, keys in re.findall(r"^\| (`.*) \| (.*) \|$", table, re.MULTILINE)
        for name in re.findall(r"`(\w+)`", names)
    }
    assert rows.keys() == {adapter.name for adapter in ADAPTERS}
    found = (rows["onnx"], rows["pytorch"], rows["transformers"])
    assert found == (ONNX.keys(), pytorch.keys(), transformers.keys())
