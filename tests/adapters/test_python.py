from __future__ import annotations

import signal
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from adapters import load
from adapters.base import LoadFailed, Model, Options, Refused, TensorSpec

from .kits import files_in

CODE = """
import json
import helper_of_the_kit
from adapters.base import Model, TensorSpec

def plain(path, options):
    factor = json.loads(path.read_text())["factor"] + options.get("more", 0)
    return lambda arrays: {"y": arrays["x"] * factor, "n": len(arrays["x"])}

def several(path, options):
    return lambda arrays: (arrays["x"], [str(v) for v in arrays["x"][:, 0]])

def own(path, options):
    spec = TensorSpec("x", "FP32", (-1,))
    return Model("mine", (spec,), (spec,), lambda arrays, wanted: {"x": arrays["x"]})

def fails(path, options):
    raise OSError("no\\nway")

def huge(path, options):
    return bytearray(1 << 62)

def leaves(path, options):
    raise SystemExit(0)

def cancels(path, options):
    import asyncio
    raise asyncio.CancelledError

def closes(path, options):
    raise GeneratorExit

def interrupts(path, options):
    raise KeyboardInterrupt

def nothing(path, options):
    return 3

def stumbles(path, options):
    return lambda arrays: {"y": arrays["x"] * (1 / int(arrays["x"].max() > 1))}

def mistaken(path, options):
    return lambda arrays: undefined

number = 3
"""
X = (TensorSpec("x", "FP32", (-1, 2)),)


@pytest.fixture
def kit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    (tmp_path / "src").mkdir()
    (tmp_path / "src" / "code_of_the_kit.py").write_text(CODE)
    (tmp_path / "helper_of_the_kit.py").write_text("")
    (tmp_path / "model.json").write_text('{"factor": 2}')
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.delitem(sys.modules, "code_of_the_kit", raising=False)
    return files_in(tmp_path, "model.json", code=("src/code_of_the_kit.py",))


def served(kit: Any, name: str | None, trust: str = "unsafe", inputs: Any = X, **own: Any) -> Model:
    options = Options(inputs=inputs, trust=trust, own={**({"entrypoint": name} if name else {}), **own})
    adapter, model = load(kit, options, framework="Python", format=None, warn=print)
    assert adapter.name == "python"
    return model


def test_plain_callable_becomes_a_model(kit: Any) -> None:
    model = served(kit, "code_of_the_kit:plain", more=1)
    assert model.outputs == (TensorSpec("y", "FP32", (-1, 2)), TensorSpec("n", "INT64", ()))
    made = model.predict({"x": np.ones((3, 2), np.float32)}, ("y",))
    assert made["y"].tolist() == [[3.0, 3.0]] * 3


def test_tuples_and_texts_get_names_and_datatypes(kit: Any) -> None:
    model = served(kit, "code_of_the_kit:several")
    assert model.outputs == (TensorSpec("output_0", "FP32", (-1, 2)), TensorSpec("output_1", "BYTES", (-1,)))
    assert model.batch
    assert model.predict({"x": np.ones((1, 2), np.float32)}, ("output_1",))["output_1"].tolist() == [b"1.0"]


def test_what_no_dry_run_suits_shows_its_outputs_with_the_first_answer(kit: Any) -> None:
    model = served(kit, "code_of_the_kit:stumbles")
    assert model.outputs == ()
    said = "unknown until the first answer: no row that could be made up is one of this model's"
    assert model.properties["outputs"].startswith(said)
    assert "division by zero" in model.properties["outputs"]
    rows = {"x": np.array([[1, 2]], np.float32)}
    assert model.learn
    learnt = model.learn(rows)
    assert learnt.outputs == (TensorSpec("y", "FP32", (-1, 2)),)
    assert learnt.predict(rows, ("y",))["y"].tolist() == [[1.0, 2.0]]
    wide = served(kit, "code_of_the_kit:stumbles", inputs=(TensorSpec("x", "FP32", (-1, -1)),))
    assert wide.learn
    assert wide.learn(rows).outputs == (TensorSpec("y", "FP32", (-1, -1)),)


def test_model_of_the_kit_is_taken_as_it_is(kit: Any) -> None:
    assert served(kit, "code_of_the_kit:own", inputs=()).platform == "mine"


@pytest.mark.parametrize("trust", ["data", "restricted"])
def test_kit_code_needs_trust(kit: Any, trust: str) -> None:
    with pytest.raises(
        Refused, match=r"'code_of_the_kit:plain' would run Python code from the kit, which --trust " + trust
    ):
        served(kit, "code_of_the_kit:plain", trust=trust)
    assert "code_of_the_kit" not in sys.modules


@pytest.mark.parametrize(
    ("name", "inputs", "words"),
    [
        (None, X, r"needs model\.parameters\.serving\.options\.entrypoint"),
        ("nocolon", X, "must be module:callable"),
        ("no_such_code:load", X, "ModuleNotFoundError: No module named 'no_such_code'"),
        ("code_of_the_kit:nope", X, "AttributeError"),
        ("code_of_the_kit:number", X, "is a int, not a callable"),
        ("code_of_the_kit:nothing", X, "made a int, neither a Model nor a callable"),
        ("code_of_the_kit:fails", X, "failed: OSError: no way"),
        ("code_of_the_kit:leaves", X, "failed: SystemExit: 0"),
        ("code_of_the_kit:cancels", X, "failed: CancelledError"),
        ("code_of_the_kit:closes", X, "failed: GeneratorExit"),
        ("code_of_the_kit:mistaken", X, "cannot be run: NameError: name 'undefined' is not defined"),
        ("code_of_the_kit:plain", (), r"say its inputs in model\.parameters\.serving\.inputs"),
    ],
)
def test_what_is_wrong_is_said_in_one_line(kit: Any, name: str | None, inputs: Any, words: str) -> None:
    with pytest.raises(LoadFailed, match=words) as caught:
        served(kit, name, inputs=inputs)
    assert "\n" not in str(caught.value)


def test_ctrl_c_is_the_programs_own_in_its_main_thread_only(kit: Any) -> None:
    given = signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell ignores it for what runs behind `&`
    try:
        with pytest.raises(KeyboardInterrupt):
            served(kit, "code_of_the_kit:interrupts")
        with ThreadPoolExecutor() as threads, pytest.raises(LoadFailed, match="failed: KeyboardInterrupt"):
            threads.submit(served, kit, "code_of_the_kit:interrupts").result()
    finally:
        signal.signal(signal.SIGINT, given)


def test_memory_that_is_missing_is_not_the_models_fault(kit: Any) -> None:
    with pytest.raises(MemoryError):
        served(kit, "code_of_the_kit:huge")


def test_samples_say_the_inputs_where_the_kit_does_not(kit: Any) -> None:
    options = Options(sampled=X, trust="unsafe", own={"entrypoint": "code_of_the_kit:several"})
    assert load(kit, options, framework="python", format=None, warn=print)[1].inputs == X


@pytest.mark.parametrize("module", ["served_by_two", "helped_by_two"])
def test_a_second_kit_is_not_answered_by_the_code_of_the_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, module: str
) -> None:
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.setattr(sys, "modules", sys.modules.copy())
    entry = "served_by_two" if module == "served_by_two" else "served_by_{}"
    for number in (1, 2):
        root = tmp_path / str(number)
        root.mkdir()
        code = "import helped_by_two" if module == "helped_by_two" else ""
        (root / f"{entry.format(number)}.py").write_text(
            f"{code}\ndef load(path, options):\n    return lambda arrays: arrays['x'] * {number}"
        )
        (root / "helped_by_two.py").write_text("")
        kit = files_in(root, "helped_by_two.py", code=(f"{entry.format(number)}.py",))
        if number == 1:
            served(kit, f"{entry.format(number)}:load")
            served(kit, f"{entry.format(number)}:load")  # the same kit may be loaded again
    with pytest.raises(LoadFailed) as caught:
        served(kit, f"{entry.format(2)}:load")
    said = f"the kit's module '{module}' is already imported from {tmp_path / '1' / module}.py"
    assert f"{said}: load it in a process of its own" in str(caught.value)


def test_folders_without_an_init_are_told_apart_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.setattr(sys, "modules", sys.modules.copy())
    kits = []
    for number in (1, 2):
        root = tmp_path / str(number)
        (root / "of_two").mkdir(parents=True)
        (root / "of_two" / "serve.py").write_text(f"load = lambda path, options: lambda arrays: arrays['x'] * {number}")
        kits.append(files_in(root, "of_two/serve.py", code=("of_two",)))
    served(kits[0], "of_two.serve:load")
    with pytest.raises(LoadFailed, match=r"'of_two\.serve' is already imported from .*/1/of_two/serve\.py"):
        served(kits[1], "of_two.serve:load")


def test_an_entry_point_that_only_another_kit_has_is_not_taken_from_there(kit: Any, tmp_path: Path) -> None:
    served(kit, "code_of_the_kit:plain")
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "model.json").write_text('{"factor": 3}')
    with pytest.raises(LoadFailed, match=r"'code_of_the_kit' is already imported from"):
        served(files_in(tmp_path / "other", "model.json"), "code_of_the_kit:plain")


def test_an_entry_point_in_the_kit_is_not_taken_from_an_installed_package(kit: Any) -> None:
    (kit.root / "src" / "numpy.py").write_text("")
    with pytest.raises(LoadFailed, match=r"the kit's module 'numpy' is already imported from .*/numpy/__init__\.py"):
        served(files_in(kit.root, "model.json", code=kit.code), "numpy:load")


def test_an_entry_point_may_be_that_of_an_installed_package(kit: Any) -> None:
    with pytest.raises(LoadFailed, match="failed: ValueError"):
        served(kit, "numpy:load")
