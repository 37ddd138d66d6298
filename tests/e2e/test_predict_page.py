"""Every form of docs/predict.md, word for word in a shell, against the golden kit that its block names, with the extras that
the page names and no others."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.doc_commands import extras
from tests.e2e.server import Server
from tests.extras import MISSING
from tests.installed import Installed, environ
from tests.kit.made import made_kit
from tests.places import KITS, ROOT

FILE = ROOT / "docs" / "predict.md"
PAGE = FILE.read_text()
BLOCKS = re.findall(r"^```console (\S+)\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
NUMBER = r"-?\d+\.\d+(?:e-?\d+)?"

NEEDS = {"titanic-sklearn": {"sklearn", "pandas", "pyarrow"}, "spam-sklearn": {"sklearn"}, "photos": {"PIL", "onnx"}}

pytestmark = pytest.mark.slow


def photos(folder: Path) -> Path:
    """The kit that the page shows, of a model whose answer is the mean colour of an image."""
    from onnx import TensorProto, helper

    (page,) = re.findall(r"^```yaml\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
    told = yaml.safe_load(page)["model"]
    image = helper.make_tensor_value_info("image", TensorProto.FLOAT, [None, 3, None, None])
    colour = helper.make_tensor_value_info("colour", TensorProto.FLOAT, [None, 3])
    node = helper.make_node("ReduceMean", ["image"], ["colour"], axes=[2, 3], keepdims=0)
    graph = helper.make_graph([node], "g", [image], [colour])
    made = helper.make_model(graph, ir_version=8, opset_imports=[helper.make_opsetid("", 17)])
    return made_kit(folder, {told.pop("path"): made.SerializeToString()}, **told)


def said_and_shown(kit: str) -> list[tuple[str, str]]:
    """The commands for a kit, each with the answer that stands below it."""
    text = "".join(block for name, block in BLOCKS if name == kit)
    return [
        (command, answer.strip()) for command, answer in re.findall(r"^\$ (.*)\n((?:(?!\$ ).*\n)*)", text, re.MULTILINE)
    ]


@pytest.mark.parametrize("kit", sorted({name for name, _ in BLOCKS}))
def test_every_form_is_answered_as_the_page_shows(kit: str, installed: Installed, tmp_path: Path) -> None:
    if missing := NEEDS.get(kit, set()) & MISSING:
        pytest.skip(f"not installed: {missing}")
    where = photos(tmp_path / kit) if kit == "photos" else KITS / kit
    forms = said_and_shown(kit)
    assert forms
    programs = installed.bin(*extras(FILE))
    variables = environ(programs, tmp_path)
    start = {"program": (f"{programs}/runtime",), "cache": tmp_path / "cache", "PYTHONPATH": ""}
    with Server(f"oci:{where}:v1", "--drain-delay", "0", **start) as server:
        server.ready().close()
        address = server.event("server.ready")["address"].removeprefix("http://")
        for command, shown in forms:
            here = command.replace("127.0.0.1:8080", address).replace("/tmp/", f"{tmp_path}/")
            done = subprocess.run(["bash", "-c", here], env=variables, cwd=tmp_path, capture_output=True, text=True,
                                  timeout=60, check=False)  # fmt: skip
            assert _same(done.stdout.strip(), shown), f"{command}: {done.stdout}{done.stderr}"
        assert server.stop() == 0


def _same(got: str, shown: str) -> bool:
    """Whether two answers are the same but for the last digits of their numbers."""
    numbers: Any = [list(map(float, re.findall(NUMBER, text))) for text in (got, shown)]
    texts = [re.sub(NUMBER, "?", text) for text in (got, shown)]
    return texts[0] == texts[1] and numbers[0] == pytest.approx(numbers[1], rel=1e-4, abs=1e-5)


def test_the_page_has_forms_for_tables_texts_arrays_and_images() -> None:
    assert {name for name, _ in BLOCKS} == {"iris-onnx", "titanic-sklearn", "spam-sklearn", "photos"}
    assert json.loads(said_and_shown("spam-sklearn")[0][1]) == {"predict": 1}
