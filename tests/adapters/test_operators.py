"""Which operators TorchScript and exported programs may call."""

from __future__ import annotations

import zipfile
from pathlib import Path

import pytest
import torch

from adapters import load
from adapters.base import LoadFailed, Model, Options, Refused, TensorSpec
from adapters.checks import Damaged
from adapters.pytorch.export import _check_program, _dispatched
from adapters.pytorch.operators import check_sources

from .kits import files_in

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")]

REFUSED = [
    "torch.from_file('/etc/passwd', False, 4)",
    "torch.save(x, 'f')",
    "torch.as_strided(x, [1000], [1])",
    "x.as_strided([1000], [1])",
    "torch.empty([1000])",
    "torch.new_empty(x, [1000])",
    "torch.set_(x, x)",
    "torch.resize_(x, [1000])",
    "torch.sparse_coo_tensor(x, x, [2, 2])",
    "torch.sparse_csr_tensor(x, x, x, [2, 2])",
    "torch._convert_indices_from_csr_to_coo(x, x)",
    "torch._indices(torch.to_sparse(x))",
    "torch.crow_indices(torch.to_sparse_csr(x))",
    "torch.fbgemm_pack_gemm_matrix_fp16(x)",
    "torch._wrapped_linear_prepack(x, x, x, x)",
    "ops.quantized.linear_prepack_fp16_legacy(x)",
    "torch.segment_reduce(x, 'sum', offsets=x)",
    "torch._ctc_loss(x, x, [5], [2])",
    "torch._fused_sgd_([x], [x], [])",
    "torch._cummax_helper(x, x, x, 0)",
    "torch._foreach_copy([x], [x])",
    "ops.aten.from_file('/etc/passwd', False, 4)",
    "ops.prim.rpc_sync('a', 'b', ())",
    "ops.c10d.barrier(x)",
    "__torch__.torch.classes.rnn.CellParamsBase()",
    "torch.classes.a.B()",
]


@pytest.mark.parametrize("expression", REFUSED)
def test_operators_on_files_addresses_and_unwritten_memory_are_refused(expression: str) -> None:
    with pytest.raises(Damaged, match=r"it (calls|uses)"):
        check_sources([f"def forward(self, x: Tensor) -> Tensor:\n    return {expression}\n"])


SOURCE = """
class M(Module):
    __parameters__ = []
    def forward(self: __torch__.M, x: Tensor) -> Tensor:
        c = self.c
        z = __torch__.Pair.__new__(__torch__.Pair)
        y = torch.relu((c).forward(x, ))
        if bool(torch.gt(y, 0)):
            ops.prim.RaiseException("no", "builtins.ValueError")
        return torch.to(torch.contiguous(y), ops.prim.dtype(x), layout=torch.strided)
"""


@pytest.mark.parametrize("datatype", ["45", "2 ** 40", "-1"])
def test_datatypes_that_there_are_not_are_refused(datatype: str) -> None:
    for call in (f"torch.to(x, {datatype})", f"torch.zeros([1], dtype={datatype})"):
        with pytest.raises(Damaged, match="datatype"):
            check_sources([f"def forward(self, x: Tensor) -> Tensor:\n    return {call}\n"])
    check_sources(["def forward(self, x: Tensor) -> Tensor:\n    return torch.to(x, 4)\n"])


@pytest.mark.parametrize("call", ["torch.to(x, n)", "torch.zeros([1], dtype=n)", "(self).other(x, n)"])
def test_what_torch_runs_while_it_loads_takes_no_datatype_from_a_variable(call: str) -> None:
    source = "class M(Module):\n  def {}(self, x: Tensor, n: int) -> Tensor:\n    return {}\n  def other(self): pass\n"
    with pytest.raises(Damaged, match=r"datatype that it computes|__setstate__ calls other"):
        check_sources([source.format("__setstate__", call)])
    check_sources([source.format("forward", call), source.format("__setstate__", "torch.to(x, ops.prim.dtype(x))")])


def test_a_tensor_without_its_memory_is_refused_before_torch_reads_past_it(tmp_path: Path) -> None:
    torch.jit.save(torch.jit.trace(torch.nn.Linear(2, 2), torch.ones(1, 2)), tmp_path / "whole.pt")
    with zipfile.ZipFile(tmp_path / "whole.pt") as whole, zipfile.ZipFile(tmp_path / "m.pt", "w") as made:
        for name in whole.namelist():
            made.writestr(name, b"" if name.endswith("/data/0") else whole.read(name))
    options = Options(inputs=(TensorSpec("x", "FP32", (-1, 2)),), confined=True)
    with pytest.raises(LoadFailed, match=r"data/0 has 0 bytes and should have 4 elements of torch\.FloatStorage"):
        load(files_in(tmp_path, "m.pt"), options, framework=None, format=None, warn=print)


class Converts(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.held, self.number = torch.float16, 4

    def chosen(self, x: torch.Tensor, dtype: int | None = None) -> torch.Tensor:
        return x.to(x.dtype if dtype is None else dtype)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = torch.nn.functional.softmax(x.to(self.held), dim=-1, dtype=torch.float32)
        return self.chosen(y, torch.float64) + self.chosen(y).to(self.number)


class Wrong(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.number = 4

    def chosen(self, x: torch.Tensor, dtype: int) -> torch.Tensor:
        return x.to(dtype)


class Computes(Wrong):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.chosen(x, x.size(0) + 98)


class Picks(Wrong):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.chosen(x, int(x.sum().item()))


class Stores(Wrong):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.number = x.size(0)
        return x.to(self.number)


class Holds(Wrong):
    def __init__(self) -> None:
        super().__init__()
        self.number = 1 << 30

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.to(self.number)


class Asks(Wrong):
    def forward(self, x: torch.Tensor, dtype: int) -> torch.Tensor:
        return x.to(dtype)


def scripted(folder: Path, module: torch.nn.Module) -> Model:
    torch.jit.save(torch.jit.script(module.eval()), folder / "m.pt")
    options = Options(inputs=(TensorSpec("x", "FP32", (-1, 2)),), confined=True)
    return load(files_in(folder, "m.pt"), options, framework="pytorch", format=None, warn=print)[1]


@pytest.mark.parametrize("module", [Computes, Picks, Stores, Holds, Asks])
def test_a_script_that_may_compute_a_datatype_is_refused(module: type[torch.nn.Module], tmp_path: Path) -> None:
    with pytest.raises(Refused, match=r"it calls aten::to for (a datatype that it computes|the datatype 1073741824)"):
        scripted(tmp_path, module())


def test_datatypes_that_a_script_holds_or_takes_from_tensors_are_allowed(tmp_path: Path) -> None:
    assert scripted(tmp_path, Converts()).outputs[0].datatype == "FP64"


def test_what_models_are_written_with_is_allowed() -> None:
    check_sources([SOURCE])


class Reads(torch.nn.Module):
    def __init__(self, path: str) -> None:
        super().__init__()
        self.path = path

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.from_file(self.path, False, 4, dtype=torch.uint8) + x.to(torch.uint8)


def test_a_script_that_reads_a_file_is_refused_before_torch_sees_it(tmp_path: Path) -> None:
    torch.jit.save(torch.jit.script(Reads("/etc/passwd")), tmp_path / "m.pt")
    options = Options(confined=True)
    with pytest.raises(Refused, match=r"it calls torch\.from_file"):
        load(files_in(tmp_path, "m.pt"), options, framework="pytorch", format=None, warn=print)


@pytest.mark.parametrize(
    "argument", [{"as_int": -9999}, {"as_name": "n"}, {"as_sym_int": {"as_name": "n"}}, {"as_ints": [6]}]
)
def test_a_program_may_not_say_a_datatype_as_a_number(argument: dict[str, object]) -> None:
    def call(dtype: dict[str, object]) -> dict[str, object]:
        inputs = [{"name": "self", "arg": {"as_name": "x"}}, {"name": "dtype", "arg": dtype}]
        return {"target": "torch.ops.aten.to.dtype", "inputs": inputs, "outputs": []}

    _check_program({"nodes": [call({"as_scalar_type": 7})]})
    with pytest.raises(Damaged, match=r"it calls torch\.ops\.aten\.to\.dtype with"):
        _check_program({"nodes": [call(argument)]})


def test_exported_programs_have_the_same_list() -> None:
    assert not {name for name in _dispatched() if name.startswith(("torch.ops.aten.from_file", "torch.ops.aten.set_"))}
    assert {"torch.ops.aten.linear.default", "torch.ops.aten._unsafe_view.default"} <= _dispatched()
