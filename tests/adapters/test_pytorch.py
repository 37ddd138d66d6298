from __future__ import annotations

import argparse
import dataclasses
import functools
import io
import json
import sys
import zipfile
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import safetensors.torch
import torch
from torch.utils import _pytree as pytree

from adapters import load
from adapters.base import LoadFailed, Model, Options, Refused, TensorSpec, WrongInput
from adapters.pytorch.adapter import sniff
from adapters.pytorch.file import EXPORT
from adapters.pytorch.model import named
from adapters.values import DTYPES
from runtime.kit.format.kitfile import Kitfile
from runtime.worker.declared import Declared

from .kits import check_case, expected, files_in, unpack

# the import of torch alone takes two seconds, and its own modules warn of what they deprecate in themselves
pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")]


class Net(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a = torch.nn.Linear(4, 3)

    def forward(self, x: torch.Tensor, scale: torch.Tensor) -> dict[str, torch.Tensor]:
        return {"y": self.a(x) * scale, "n": x.sum(1)}


def opened(
    root: Path, path: str = "m.pt2", *, trust: str = "restricted", code: tuple[str, ...] = (), **options: Any
) -> Model:
    files = files_in(root, path, code=code)
    return load(files, Options(trust=trust, **options), framework="pytorch", format=None, warn=print)[1]


def exported(root: Path, module: torch.nn.Module | None = None) -> torch.nn.Module:
    """Writes m.pt2: of `module`, or of one Net for all tests."""
    module, data = whole(module) if module else net()
    (root / "m.pt2").write_bytes(data)
    return module


@functools.cache
def net() -> tuple[torch.nn.Module, bytes]:
    return whole(Net())


def whole(module: torch.nn.Module) -> tuple[torch.nn.Module, bytes]:
    shapes = {"x": {0: torch.export.Dim("batch")}, "scale": {}}
    program = torch.export.export(module.eval(), (torch.zeros(2, 4), torch.ones(1)), dynamic_shapes=shapes)
    torch.export.save(program, made := io.BytesIO())
    return module, made.getvalue()


# -- golden kits


@pytest.mark.parametrize(
    ("name", "trust"),
    [
        ("mlp-pt2", "restricted"),
        ("cnn-torchscript", "unsafe"),
        ("mlp-statedict", "unsafe"),
        ("mlp-safetensors", "unsafe"),
    ],
)
def test_golden_kit_answers_right(name: str, trust: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.delitem(sys.modules, "net", raising=False)
    chosen, model, warned = unpack(name, tmp_path).load(trust=trust)
    assert (chosen, warned, model.batch) == ("pytorch", [], True)
    for case in expected(name)["cases"]:
        check_case(model, case)


@pytest.mark.parametrize("name", ["mlp-statedict", "mlp-safetensors"])
def test_kit_code_does_not_run_by_default(name: str, tmp_path: Path) -> None:
    sys.modules.pop("net", None)
    with pytest.raises(Refused, match="would run Python code from the kit, which --trust restricted does not allow"):
        unpack(name, tmp_path).load()
    assert "net" not in sys.modules


def test_torchscript_needs_confinement(tmp_path: Path) -> None:
    kit = unpack("cnn-torchscript", tmp_path)
    with pytest.raises(Refused, match="this worker is not confined by Landlock"):
        kit.load()
    with pytest.raises(Refused, match=r"which --trust data does not load.*use --trust restricted"):
        kit.load(trust="data")


# -- exported programs


@pytest.mark.slow
def test_exported_program_says_its_own_signature(tmp_path: Path) -> None:
    module = exported(tmp_path)
    model = opened(tmp_path)
    assert model.inputs == (TensorSpec("x", "FP32", (-1, 4)), TensorSpec("scale", "FP32", (1,)))
    assert model.outputs == (TensorSpec("y", "FP32", (-1, 3)), TensorSpec("n", "FP32", (-1,)))
    x = np.random.default_rng(0).normal(size=(5, 4)).astype(np.float32)
    x.flags.writeable = False
    made = model.predict({"scale": np.array([2.0], np.float32), "x": x}, ("n", "y"))
    with torch.inference_mode():
        want = module(torch.from_numpy(x.copy()), torch.tensor([2.0]))
    assert {name: array.tobytes() for name, array in made.items()} == {n: t.numpy().tobytes() for n, t in want.items()}


def rewritten(root: Path, change: Callable[[str, bytes], bytes | None], more: dict[str, bytes] | None = None) -> None:
    """Writes m.pt2 anew, each member through `change`."""
    with zipfile.ZipFile(root / "m.pt2") as archive:
        members = {info.filename: archive.read(info) for info in archive.infolist()}
    top = next(iter(members)).split("/")[0]
    with zipfile.ZipFile(root / "m.pt2", "w") as archive:
        for name, data in members.items():
            if (changed := change(name.split("/", 1)[1], data)) is not None:
                archive.writestr(name, changed)
        for name, data in (more or {}).items():
            archive.writestr(f"{top}/{name}", data)


class Evil:
    def __reduce__(self) -> Any:
        return (print, ("THIS KIT RAN CODE ON LOAD",))


def pickled(thing: Any) -> bytes:
    buffer = io.BytesIO()
    torch.save(thing, buffer)
    return buffer.getvalue()


def member(name: str, data: Callable[[bytes], bytes]) -> Callable[[str, bytes], bytes]:
    return lambda found, old: data(old) if found == name else old


def text(old: str, new: str) -> Callable[[str, bytes], bytes]:
    """Replaces text in the program, once at least."""

    def change(found: str, data: bytes) -> bytes:
        if found != "models/model.json":
            return data
        assert old.encode() in data
        return data.replace(old.encode(), new.encode())

    return change


INJECTED = "__import__('builtins').print('THIS KIT RAN CODE ON LOAD')"
HOSTILE: dict[str, tuple[Callable[[str, bytes], bytes], dict[str, bytes], str]] = {
    "sample inputs that call": (member("data/sample_inputs/model.pt", lambda _: pickled(((Evil(),), {}))), {}, "sample inputs"),
    "a pickled weight": (
        member("data/weights/model_weights_config.json", lambda d: d.replace(b'"use_pickle": false', b'"use_pickle": true')),
        {}, "pickled tensor",
    ),
    "a custom object": (lambda _, d: d, {"data/constants/custom_obj_0": b"x"}, "the member 'data/constants/custom_obj_0'"),
    "an opaque object": (lambda _, d: d, {"data/constants/opaque_obj_0": b"x"}, "opaque_obj_0"),
    "legacy weights": (lambda _, d: d, {"data/weights/model.pt": b"x"}, r"data/weights/model\.pt"),
    "a native library": (lambda _, d: d, {"data/aotinductor/model/a.so": b"x"}, "aotinductor"),
    "a second program": (lambda _, d: d, {"models/other.json": b"{}"}, r"models/other\.json"),
    "an expression": (text("Symbol('", f"{INJECTED}+Symbol('"), {}, "has the expression"),
    "an attribute in an expression": (text("Symbol('", "Symbol.__init__.__globals__('"), {}, "has the expression"),
    "a target below torch": (text("torch.ops.aten.linear.default", "torch.serialization.os.system"), {}, "calls 'torch.serial"),
    "a target of operator": (text("torch.ops.aten.linear.default", "_operator.methodcaller"), {}, "calls '_operator.methodc"),
    "an operator with a file": (text("torch.ops.aten.linear.default", "torch.ops.aten.from_file.default"), {}, "from_file"),
    "an extension": (text("torch.ops.aten.linear.default", "#x:y"), {}, "calls '#x:y'"),
    "a name that is code": (text('"name": "x"', f'"name": "x={INJECTED}"'), {}, "has the name"),
    "a weight's name that is code": (text("a.weight", f"a[{INJECTED}]"), {}, "parameter_name is"),
    "a container that imports": (text("builtins.dict", "collections.defaultdict"), {}, "collections.defaultdict"),
    "names that are looked up": (
        text(r'[\\\"y\\\", \\\"n\\\"]', r'[[{\\\"__enum__\\\": true, \\\"fqn\\\": \\\"os:system\\\"}]]'), {}, "are named",
    ),
    "a class with a name that is code": (text("builtins.dict", "a b()"), {}, "are in a 'a b"),
}  # fmt: skip


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_program_is_refused_and_runs_nothing(
    name: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    change, more, words = HOSTILE[name]
    exported(tmp_path)
    rewritten(tmp_path, change, more)
    with pytest.raises(Refused, match=words) as caught:
        opened(tmp_path)
    assert "\n" not in str(caught.value)
    assert "THIS KIT RAN" not in capfd.readouterr().out


def test_guards_in_the_file_are_not_run(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    exported(tmp_path)

    def change(found: str, data: bytes) -> bytes:
        if found != "models/model.json":
            return data
        return json.dumps(json.loads(data) | {"guards_code": [INJECTED]}).encode()

    rewritten(tmp_path, change)
    assert opened(tmp_path).outputs
    assert "THIS KIT RAN" not in capfd.readouterr().out


def test_data_level_takes_programs_without_pickled_members_only(tmp_path: Path) -> None:
    exported(tmp_path)
    with pytest.raises(Refused, match=r"its member data/sample_inputs/model\.pt is pickled"):
        opened(tmp_path, trust="data")


class Shapes(torch.nn.Module):
    def forward(self, x: torch.Tensor, scale: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        whole = torch.cat([x, x])
        return whole.reshape(whole.shape[0] * 2, -1) + scale, torch.arange(x.shape[0] * 2 + 1)


def test_arithmetic_on_shapes_passes_the_check(tmp_path: Path) -> None:
    exported(tmp_path, Shapes())
    model = opened(tmp_path)
    made = model.predict({"x": np.ones((4, 4), np.float32), "scale": np.ones(1, np.float32)}, ("output_0", "output_1"))
    assert made["output_0"].shape == (16, 2)
    assert made["output_1"].tolist() == list(range(9))


# -- weights and code

CODE = """
import torch
class Net(torch.nn.Module):
    def __init__(self, width=2):
        super().__init__()
        self.a = torch.nn.Linear(width, 1)
    def forward(self, x):
        return self.a(x)
def number(): return 3
"""
X = (TensorSpec("x", "FP32", (-1, 2)),)


@pytest.fixture
def kit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.delitem(sys.modules, "net_of_test", raising=False)
    (tmp_path / "net_of_test.py").write_text(CODE)
    torch.manual_seed(0)
    safetensors.torch.save_file(torch.nn.Linear(2, 1).state_dict(prefix="a."), tmp_path / "w.safetensors")
    return tmp_path


def weights(
    kit: Path, trust: str = "unsafe", path: str = "w.safetensors", inputs: Any = X, sampled: Any = (), **own: Any
) -> Model:
    own = {"entrypoint": "net_of_test:Net"} | own
    return opened(
        kit,
        path,
        trust=trust,
        code=("net_of_test.py",),
        inputs=inputs,
        sampled=sampled,
        own={k: v for k, v in own.items() if v},
    )


def test_samples_say_the_inputs_of_weights_alone(kit: Path) -> None:
    assert weights(kit, inputs=(), sampled=X).inputs == X
    exported(kit)
    assert opened(kit, sampled=(TensorSpec("x", "FP32", (-1, 9)),)).inputs[0] == TensorSpec("x", "FP32", (-1, 4))


def test_arguments_dtype_and_threads_are_taken(kit: Path) -> None:
    before = torch.get_num_threads()
    try:
        model = weights(kit, arguments={"width": 2}, dtype="bfloat16", threads=1, device="cpu")
        assert torch.get_num_threads() == 1
    finally:
        torch.set_num_threads(before)
    assert model.outputs == (TensorSpec("output", "FP32", (-1, 1)),)
    exact = weights(kit).predict({"x": np.ones((1, 2), np.float32)}, ("output",))["output"]
    rough = model.predict({"x": np.ones((1, 2), np.float32)}, ("output",))["output"]
    np.testing.assert_allclose(exact, rough, rtol=0.02)


@pytest.mark.parametrize(
    ("own", "words"),
    [
        (
            {"entrypoint": None},
            r"holds weights only, and needs model\.parameters\.serving\.options\.entrypoint \(module:callable, [^)]*\); or",
        ),
        ({"entrypoint": "net_of_test:number"}, "made a int, not a torch"),
        ({"arguments": {"width": 3}}, "size mismatch"),
        ({"device": "cuda"}, "the device 'cuda' was asked for and cannot be used"),
        ({"device": "nope"}, "the device 'nope' was asked for"),
        ({"dtype": "int4"}, "must be one of bfloat16, float16, float32, float64"),
        ({"colour": "red"}, "not an option of the pytorch adapter; it knows arguments, compile"),
        (
            {"inputs": ()},
            r"holds weights only, and needs model\.parameters\.serving\.inputs \(name, datatype, shape of each\); or",
        ),
    ],
    ids=lambda value: str(value)[:30],
)
def test_what_is_wrong_is_said_in_one_line(kit: Path, own: Any, words: str) -> None:
    if torch.cuda.is_available() and own.get("device") == "cuda":
        pytest.skip("this machine has the device")
    with pytest.raises(LoadFailed, match=words) as caught:
        weights(kit, **own)
    assert "\n" not in str(caught.value)


ONE_TENSOR = b'"%s":{"dtype":"F32","shape":[0],"data_offsets":[0,0]}'


@pytest.mark.parametrize(
    ("header", "says", "words"),
    [
        (b"{%s,%s}" % (ONE_TENSOR % b"a", ONE_TENSOR % b"a"), None, "a name occurs twice"),
        (b"{%s}" % b",".join(ONE_TENSOR % str(i).encode() for i in range(65_537)), None, "holds 65537 tensors"),
        (b"{}", 17 << 20, "says that its header takes 17825792 bytes"),
        (b"{}", 1 << 60, "says that its header takes"),
        (b"{}", 200, "is not a whole safetensors file"),
    ],
    ids=["twice", "too many", "too long", "huge", "cut off"],
)
def test_safetensors_header_is_held_to_its_rules(header: bytes, says: int | None, words: str, kit: Path) -> None:
    size = len(header) if says is None else says
    (kit / "w.safetensors").write_bytes(size.to_bytes(8, "little") + header + bytes(4))
    with pytest.raises(LoadFailed, match=words):
        weights(kit)


def test_pickled_module_is_not_tried_as_one(kit: Path) -> None:
    torch.save(Evil(), kit / "w.pth")
    with pytest.raises(LoadFailed, match=r"w\.pth holds more than weights \(print\); save model\.state_dict"):
        weights(kit, path="w.pth")


# -- files that are cut off, and names of outputs


@pytest.mark.parametrize("part", [0.3, 0.9, 0.99])
@pytest.mark.parametrize("name", ["mlp-pt2", "cnn-torchscript", "mlp-statedict", "mlp-safetensors"])
def test_truncated_file_fails_in_one_line(
    name: str, part: float, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "path", [*sys.path])
    kit = unpack(name, tmp_path)
    path = tmp_path / kit.files.path
    data = path.read_bytes()
    assert sniff(data[:4096])
    path.write_bytes(data[: int(len(data) * part)])
    with pytest.raises(LoadFailed, match=path.name) as caught:
        kit.load(adapter="pytorch", trust="unsafe")
    assert "\n" not in str(caught.value)


class Pair(NamedTuple):
    first: Any
    second: Any


ONE = torch.ones(1)


@pytest.mark.parametrize(
    ("made", "names"),
    [
        (ONE, ["output"]), ([ONE, ONE], ["output_0", "output_1"]), ((ONE, (ONE, ONE)), ["output_0", "output_1.0", "output_1.1"]),
        ({"a": ONE, "b": {"c": ONE}}, ["a", "b.c"]), (Pair(ONE, None), ["first"]), (OrderedDict(z=ONE, a=2.0), ["z", "a"]),
    ],
    ids=["tensor", "list", "nested", "dict", "named tuple", "order"],
)  # fmt: skip
def test_outputs_have_stable_names(made: Any, names: list[str]) -> None:
    assert [name for name, _ in named(made)] == names


def test_an_index_beyond_an_embedding_is_the_clients_mistake(tmp_path: Path) -> None:
    program = torch.export.export(torch.nn.Embedding(3, 2), (torch.zeros(2, dtype=torch.int64),))
    torch.export.save(program, tmp_path / "m.pt2")
    model = opened(tmp_path)
    with pytest.raises(WrongInput, match="index out of range"):
        model.predict({model.inputs[0].name: np.array([0, 7])}, tuple(spec.name for spec in model.outputs))


# -- as people have them


class Half(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a = torch.nn.Linear(3, 2, dtype=torch.bfloat16)

    def forward(self, x: torch.Tensor) -> Any:
        return self.a(x)


def test_a_program_of_bfloat16_takes_and_gives_fp32(tmp_path: Path) -> None:
    module, batch = Half().eval(), torch.export.Dim("batch")
    given = (torch.ones(2, 3, dtype=torch.bfloat16),)
    torch.export.save(torch.export.export(module, given, dynamic_shapes=({0: batch},)), tmp_path / "m.pt2")
    model = opened(tmp_path)
    assert [(s.datatype, s.shape) for s in (*model.inputs, *model.outputs)] == [("FP32", (-1, 3)), ("FP32", (-1, 2))]
    rows = np.array([[0.1, 2, -3]], np.float32)
    want = module(torch.from_numpy(rows).to(torch.bfloat16)).to(torch.float32)
    assert model.predict({"x": rows}, ("output",))["output"].tolist() == want.tolist()


LINEAR = "import torch\n\ndef make():\n    return torch.nn.Linear(3, 2)\n"


@pytest.mark.parametrize(
    "wrap",
    [
        lambda state: {"model_state_dict": state, "epoch": 3},
        lambda state: {"state_dict": state},
        lambda state: {f"module.{key}": value for key, value in state.items()},
        lambda state: {"model_state_dict": {f"_orig_mod.module.{key}": value for key, value in state.items()}},
        lambda state: {f"module._orig_mod.{key}": value for key, value in state.items()},
        lambda state: {f"net._orig_mod.{key}": value for key, value in state.items()},
        lambda state: {"model": state, "ema": state, "optimizer": {"param_groups": []}},
        lambda state: {
            "model": state,
            "args": argparse.Namespace(lr=0.1),
            "best": np.float64(0.5),
            "curve": np.ones(3),
        },
        lambda state: {"weights": {f"student.{key}": value for key, value in state.items()}, "epoch": 3},
        lambda state: {"state_dict": {"loss.bias": torch.ones(2), **{f"net.{k}": v for k, v in state.items()}}},
    ],
)
def test_checkpoints_are_read(wrap: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.delitem(sys.modules, "linear_of_kit", raising=False)
    (tmp_path / "linear_of_kit.py").write_text(LINEAR)
    module = torch.nn.Linear(3, 2)
    torch.save(wrap(module.state_dict()), tmp_path / "w.pth")
    inputs = (TensorSpec("x", "FP32", (-1, 3)),)
    model = opened(tmp_path, "w.pth", trust="unsafe", inputs=inputs, own={"entrypoint": "linear_of_kit:make"})
    rows = torch.ones(1, 3)
    got = model.predict({"x": rows.numpy()}, ("output",))["output"]
    assert got.tolist() == module(rows).tolist()


def test_weights_that_are_shared_may_be_there_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "path", [*sys.path])
    (tmp_path / "tied_of_kit.py").write_text(
        "import torch\n\ndef make():\n    one = torch.nn.Linear(3, 3)\n    return torch.nn.Sequential(one, one)\n"
    )
    one = torch.nn.Linear(3, 3)
    safetensors.torch.save_model(torch.nn.Sequential(one, one), str(tmp_path / "w.safetensors"))
    own, inputs = {"entrypoint": "tied_of_kit:make"}, (TensorSpec("x", "FP32", (-1, 3)),)
    for mapped in (False, True):
        model = opened(tmp_path, "w.safetensors", trust="unsafe", inputs=inputs, own=own, mapped=mapped)
        got = model.predict({"x": np.ones((1, 3), np.float32)}, ("output",))["output"]
        assert got.tolist() == one(one(torch.ones(1, 3))).tolist()


@pytest.mark.parametrize(
    ("state", "words"),
    [
        ({"a.weight": torch.ones(2, 3), "a.other": torch.ones(1)}, r"lacks bias, and has other, which 'linear_of_kit:make'"),
        ({"teacher": {"weight": torch.ones(2, 3)}, "student": {"weight": torch.ones(2, 3)}}, "has teacher, student, which"),
        ({1: {}, 2: {}}, "w.pth holds no weights, which are tensors by name"),
    ],
)  # fmt: skip
def test_weights_of_another_module_are_named(
    state: Any, words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.delitem(sys.modules, "linear_of_kit", raising=False)
    (tmp_path / "linear_of_kit.py").write_text(LINEAR)
    torch.save(state, tmp_path / "w.pth")
    inputs = (TensorSpec("x", "FP32", (-1, 3)),)
    with pytest.raises(LoadFailed, match=words):
        opened(tmp_path, "w.pth", trust="unsafe", inputs=inputs, own={"entrypoint": "linear_of_kit:make"})


def test_an_adapter_of_peft_is_called_one(tmp_path: Path) -> None:
    safetensors.torch.save_file({"base_model.a": torch.ones(1)}, tmp_path / "adapter_model.safetensors")
    (tmp_path / "adapter_config.json").write_text('{"peft_type": "LORA"}')
    with pytest.raises(LoadFailed, match=r"is an adapter of PEFT, and not a model: .*merge_and_unload\(\)"):
        opened(tmp_path, "adapter_model.safetensors")


def test_a_module_pickled_whole_is_called_one(tmp_path: Path) -> None:
    torch.save(torch.nn.Linear(3, 2), tmp_path / "w.pth")
    with pytest.raises(LoadFailed, match=r"w.pth holds a whole pickled module \(torch.nn.modules.linear.Linear\)"):
        opened(tmp_path, "w.pth", trust="unsafe")


class Groups(torch.nn.Module):
    """Takes its rows in groups of four."""

    def forward(self, x: torch.Tensor) -> Any:
        return x.reshape(-1, 4, 3).sum(1)


class Reciprocal(torch.nn.Module):
    """Takes no zeros."""

    def forward(self, x: torch.Tensor) -> Any:
        if bool((x == 0).any()):
            raise ValueError("zero")
        return 1 / x


class Chosen(torch.nn.Module):
    """Takes rows that neither zeros nor ones are."""

    def forward(self, x: torch.Tensor) -> Any:
        if int(x.sum()) != 7:
            raise ValueError("not seven")
        return x * 2


class Tokens(torch.nn.Module):
    """Takes the numbers of tokens."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = torch.nn.EmbeddingBag(9, 4)

    def forward(self, tokens: torch.Tensor) -> Any:
        return self.embedding(tokens)


class Steps(torch.nn.Module):
    """Takes rows that are steps of one sequence, where it gets a matrix."""

    def __init__(self) -> None:
        super().__init__()
        self.net = torch.nn.GRU(3, 2, batch_first=True)

    def forward(self, x: torch.Tensor) -> Any:
        return self.net(x)[0]


def picture_net(last: torch.nn.Module) -> torch.nn.Module:
    return torch.nn.Sequential(torch.nn.Conv2d(3, 2, 3), last, torch.nn.Flatten())


@pytest.mark.parametrize(
    ("module", "found"),
    [
        (torch.nn.Sequential(torch.nn.BatchNorm1d(5), torch.nn.Linear(5, 2)), TensorSpec("input", "FP32", (-1, 5))),
        (picture_net(torch.nn.AdaptiveAvgPool2d(1)), TensorSpec("input", "FP32", (-1, 3, -1, -1))),
        (picture_net(torch.nn.LayerNorm(26)), TensorSpec("input", "FP32", (-1, 3, 28, 28))),
        (Tokens(), TensorSpec("tokens", "INT64", (-1, -1))),
    ],
    ids=["matrix", "pictures of any size", "pictures of one size", "tokens"],
)
def test_torchscript_alone_is_served_where_its_weights_say_what_it_takes(
    module: Any, found: TensorSpec, tmp_path: Path
) -> None:
    torch.jit.script(module.eval()).save(tmp_path / "m.pt")
    model = opened(tmp_path, "m.pt", confined=True)
    assert model.inputs == (found,)
    assert "can be said in model.parameters.serving.inputs" in model.properties["warning"]
    rows = np.ones((3, *(28 if size < 0 else size for size in found.shape[1:])), DTYPES[found.datatype])
    (made,) = model.predict({found.name: rows}, tuple(spec.name for spec in model.outputs)).values()
    with torch.inference_mode():
        np.testing.assert_array_equal(made, module(torch.from_numpy(rows)).numpy())


def test_torchscript_alone_that_takes_none_for_certain_says_what_to_write(tmp_path: Path) -> None:
    torch.jit.script(Steps().eval()).save(tmp_path / "m.pt")
    with pytest.raises(LoadFailed, match=r"m\.pt does not say what it takes; .*and serve the folder") as error:
        opened(tmp_path, "m.pt", confined=True)
    written = str(error.value).partition("for instance ")[2].removesuffix(", and serve the folder")
    facts = Kitfile.parse_yaml(written.replace("[-1, 4]", "[-1, 5, 3]")).model
    assert facts is not None
    inputs = Declared.parse(facts.parameters).options.inputs
    assert opened(tmp_path, facts.path, confined=True, inputs=inputs).inputs == inputs


@pytest.mark.parametrize(
    ("module", "sample", "shape"),
    [(Groups(), None, (-1, 3)), (Reciprocal(), None, (-1, 3)), (Chosen(), [[1, 2, 4]], (-1, 3))],
    ids=["groups", "ones", "sample"],
)
def test_a_dry_run_is_tried_in_several_ways(module: Any, sample: Any, shape: tuple[int, ...], tmp_path: Path) -> None:
    torch.jit.script(module).save(tmp_path / "m.pt")
    inputs = (TensorSpec("x", "FP32", (-1, 3)),)
    given = {"any": np.array(sample, np.float32)} if sample else {}
    model = opened(tmp_path, "m.pt", confined=True, inputs=inputs, sample=given)
    assert [(spec.name, spec.shape) for spec in model.outputs] == [("output", shape)]
    rows = np.array([[1, 2, 4]] * 4, np.float32) if sample is None else np.array(sample, np.float32)
    assert model.predict({"x": rows}, ("output",))["output"].tolist() == module(torch.from_numpy(rows)).tolist()


def test_a_module_that_no_dry_run_suits_shows_its_outputs_with_the_first_answer(tmp_path: Path) -> None:
    torch.jit.script(Chosen()).save(tmp_path / "m.pt")
    model = opened(tmp_path, "m.pt", confined=True, inputs=(TensorSpec("x", "FP32", (-1, 3)),), labels=("a", "b", "c"))
    assert (model.outputs, model.batch) == ((), False)
    why = ": no row that could be made up is one of this model's (builtins.ValueError: not seven); "
    assert why in model.properties["outputs"]
    assert "serving.options.example" in model.properties["outputs"]
    rows = {"x": np.array([[1, 2, 4]], np.float32)}
    assert model.learn
    with pytest.raises(Exception, match="not seven"):
        model.learn({"x": 2 * rows["x"]})
    learnt = model.learn(rows)
    assert learnt.outputs == (TensorSpec("output", "FP32", (-1, 3)),)
    assert (learnt.batch, learnt.labels, learnt.learn) == (True, ("a", "b", "c"), None)
    assert "outputs" not in learnt.properties
    assert learnt.predict(rows, ("output",))["output"].tolist() == [[2.0, 4.0, 8.0]]


def test_inputs_that_the_kit_says_wrong_end_the_start(tmp_path: Path) -> None:
    modules = {"linear": torch.nn.Linear(4, 2), "conv": torch.nn.Conv2d(3, 1, 1), "norm": torch.nn.LayerNorm(4)}
    for name, module in modules.items():
        torch.jit.script(module).save(tmp_path / f"{name}.pt")
        shape = (-1, 1, 8, 8) if name == "conv" else (-1, 3)
        with pytest.raises(LoadFailed, match=r"takes other inputs than model\.parameters\.serving\.inputs says: \S"):
            opened(tmp_path, f"{name}.pt", confined=True, inputs=(TensorSpec("x", "FP32", shape),))


def test_an_exported_program_says_its_outputs_where_no_run_does(tmp_path: Path) -> None:
    class Table(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> Any:
            torch._check(x[0, 0].item() > 5)
            return {"twice": x * 2}

    program = torch.export.export(Table(), (torch.full((2, 3), 9.0),), dynamic_shapes=({0: torch.export.Dim("n")},))
    torch.export.save(program, tmp_path / "m.pt2")
    model = opened(tmp_path)
    assert [(s.name, s.datatype, s.shape) for s in model.outputs] == [("twice", "FP32", (-1, 3))]


@pytest.mark.parametrize(
    ("own", "kind", "words"),
    [
        (
            {},
            LoadFailed,
            r"needs model\.parameters\.serving\.options\.entrypoint .* and model\.parameters\.serving\.inputs .* and --trust unsafe",
        ),
        ({"entrypoint": "a:b"}, Refused, r"needs model\.parameters\.serving\.inputs .* and --trust unsafe"),
    ],
)
def test_all_that_weights_need_is_said_at_once(own: Any, kind: Any, words: str, tmp_path: Path) -> None:
    torch.save(Half().state_dict(), tmp_path / "w.pth")
    with pytest.raises(kind, match=words):
        opened(tmp_path, "w.pth", own=own)


@dataclasses.dataclass
class Answer:
    twice: torch.Tensor
    none: torch.Tensor | None
    half: torch.Tensor


class Fields(NamedTuple):
    twice: torch.Tensor
    half: torch.Tensor


class Answering(torch.nn.Module):
    """Has a constant, and returns an object of a class of its own."""

    def __init__(self, make: Any) -> None:
        super().__init__()
        self.make, self.table = make, torch.tensor([1.0, 2.0, 3.0])

    def forward(self, x: torch.Tensor) -> Any:
        return self.make(x * 2, x / self.table)


@pytest.mark.parametrize(
    ("make", "names"),
    [(lambda a, b: Answer(a, None, b), ["twice", "half"]), (Fields, ["output_0", "output_1"])],
    ids=["dataclass", "named-tuple"],
)
def test_a_program_that_returns_an_object_needs_no_code_of_it(make: Any, names: list[str], tmp_path: Path) -> None:
    def forget() -> None:
        for kind in (Answer, Fields):
            if pytree.SUPPORTED_SERIALIZED_TYPES.get(kind):
                pytree._deregister_pytree_node(kind)

    forget()
    torch.export.register_dataclass(Answer, serialized_type_name="of_kit.Answer")
    pytree._register_namedtuple(Fields, serialized_type_name="of_kit.Fields")
    try:
        exported_free(Answering(make), tmp_path)
    finally:
        forget()
    model = opened(tmp_path)
    assert [spec.name for spec in model.outputs] == names
    rows = np.array([[2.0, 4.0, 6.0]], np.float32)
    for _ in range(2):  # the second one finds the stand-in of the first
        got = opened(tmp_path).predict({"x": rows}, tuple(names))
        assert [got[name].tolist() for name in names] == [[[4, 8, 12]], [[2, 2, 2]]]


def exported_free(module: torch.nn.Module, root: Path) -> None:
    """Exports as the advice says."""
    two_rows, model = torch.ones(2, 3), module
    names = {"torch": torch, "two_rows": two_rows, "model": model}
    exec(EXPORT.replace("'model.pt2'", repr(str(root / "m.pt2"))), names)


def test_a_fixed_first_axis_is_warned_of_and_the_advice_frees_it(tmp_path: Path) -> None:
    torch.export.save(torch.export.export(torch.nn.Linear(3, 2), (torch.ones(2, 3),)), tmp_path / "m.pt2")
    said = opened(tmp_path).properties["warning"]
    assert said.startswith(
        "m.pt2 takes a fixed number of rows a request, 2; to take any number, export it with a free first axis:"
    )
    exported_free(torch.nn.Linear(3, 2), tmp_path)
    model = opened(tmp_path)
    assert (model.inputs[0].shape, model.batch, "warning" in model.properties) == ((-1, 3), True, False)


def test_constants_among_the_inputs_of_a_program_stay_as_they_were_exported(tmp_path: Path) -> None:
    class Scaled(torch.nn.Module):
        def forward(self, x: torch.Tensor, factor: int, mask: Any = None, offset: Any = None) -> torch.Tensor:
            return x * factor + offset

    given = (torch.ones(2, 3), 3, None, torch.ones(3))
    batch = torch.export.Dim("batch")
    shapes = ({0: batch}, None, None, {})
    torch.export.save(torch.export.export(Scaled(), given, dynamic_shapes=shapes), tmp_path / "m.pt2")
    model = opened(tmp_path)
    assert [spec.name for spec in model.inputs] == ["x", "offset"]
    got = model.predict({"x": np.ones((1, 3), np.float32), "offset": np.ones(3, np.float32)}, ("output",))
    assert got["output"].tolist() == [[4, 4, 4]]


class Repeated(torch.nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for _ in range(int(x[0].item())):
            x = x + 1
        return x


def test_a_script_with_a_loop_has_no_steady_time(tmp_path: Path) -> None:
    for module, steady in ((Repeated(), False), (torch.nn.ReLU(), True)):
        torch.jit.script(module).save(str(tmp_path / "m.pt"))
        model = opened(tmp_path, "m.pt", confined=True, inputs=(TensorSpec("x", "FP32", (-1,)),))
        assert model.steady is steady
