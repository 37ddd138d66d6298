"""Which operators of torch a file may call at `restricted`, and a reader of TorchScript that finds those it calls.

The list is torch's own, without what opens files, takes addresses, or makes tensors of memory that nobody has written.
TorchScript is read before torch compiles it: `torch.jit.load` runs `__setstate__` of modules that define it. Language:
https://docs.pytorch.org/docs/stable/jit_language_reference.html.
"""

import ast
import pickletools
import re
from collections.abc import Iterable
from functools import cache
from typing import Any, Final

import torch

from adapters.checks import Damaged, need

NAMESPACES: Final = frozenset({"aten", "prims", "quantized", "quantized_decomposed"})
_REFUSED: Final = re.compile(
    r"""
    .*file.* | save | .*pickle.*                     # files
    | .*data_ptr.* | .*storage.* | set_?(_data)?     # memory by address
    | _?(new_)?empty(_.*)? | _?resize.*              # memory that nobody has written
    | as_strided.* | _reshape_alias.* | _nested_view.* | .*_unsafe | _unsafe_(index_put|masked).*  # strides, indices
    | _?sparse_(coo|csr|csc|bsr|bsc|compressed)_tensor.* | _coalesced_? | _?sparse_(resize|semi_structured).* | _cslt.*
    | _convert_indices.* | .*segment_reduce.* | .*ctc_loss.* | _efficientzerotensor.*  # indices, which are not checked
    | _?indices | (col|row|ccol|crow)_indices | _nested_get_.*                      # and may be written to
    | fbgemm_.* | _wrapped_.* | .*_legacy            # objects of C++ as bytes of a tensor
    | _fused_(adam|adamw|adagrad|sgd)_? | .*fused_moving_avg.* | batch_norm_update_stats  # training
    | _cum(max|min)_helper | _stack | _foreach.* | _(add|remove)_batch_dim | _new_zeros_with_same.* | _sobol_engine.*
    | _batch_norm_(no|with)_update.* | quantized_(lstm|gru|rnn)_.*cell | _nnpack.* | _cholesky_solve_.* # inner parts
    | _cufft.* | _cudnn.* | _print | .*backward.*    # state of the process, training
    """,
    re.VERBOSE,
)
"""Reviewed for torch 2.13: names of operators without their overloads."""
_PRIMS: Final = frozenset({
    "AutogradZero", "EnumName", "EnumValue", "IfThenElse", "NumToTensor", "RaiseException", "TupleIndex", "TupleUnpack",
    "Uninitialized", "abs", "data", "device", "dtype", "index", "is_cpu", "is_cuda", "is_meta", "is_mkldnn", "is_mps",
    "is_nested", "is_quantized", "is_sparse", "is_sparse_csr", "is_xpu", "itemsize", "layout", "max", "min", "name",
    "nbytes", "rangelist", "requires_grad", "tolist", "type", "unchecked_cast", "unchecked_unwrap_optional",
})  # fmt: skip
"""Operators of TorchScript itself, which compute with values."""
DATATYPES: Final = frozenset(range(45)) - frozenset(range(18, 23))
"""Numbers of torch 2.13's datatypes, without those of bits, which it cannot convert."""
_MODULES: Final = frozenset({"torch", "ops", "aten", "prim"})
_CUSTOM: Final = "torch.classes"
_AT_LOAD: Final = "__setstate__"
"""torch runs it before there is a graph in which datatypes could be followed."""


def is_refused(operator: str) -> bool:
    """True if `operator`, without namespace and overload, reaches files or memory that are not a tensor's."""
    return _REFUSED.fullmatch(operator) is not None


@cache
def _known() -> frozenset[str]:
    """Returns the names of the operators that TorchScript may call."""
    parts = (schema.name.split("::") for schema in torch._C._jit_get_all_schemas())  # noqa: SLF001 - it has no public name
    return _PRIMS | {name for namespace, name in parts if namespace in NAMESPACES and not is_refused(name)}


@cache
def _dtypes() -> dict[str, frozenset[int | str]]:
    """Returns the operators that take a datatype, and which of their arguments it is, by place and name."""
    found: dict[str, frozenset[int | str]] = {}
    for schema in torch._C._jit_get_all_schemas():  # noqa: SLF001 - it has no public name
        taken = {
            place
            for i, argument in enumerate(schema.arguments)
            if "ScalarType" in str(argument.real_type)
            for place in ((argument.name,) if argument.kwarg_only else (argument.name, i))
        }
        name = schema.name.partition("::")[2]
        found[name] = found.get(name, frozenset()) | taken
    return found


def _check_dtypes(call: ast.Call, *, plain: bool) -> None:
    """Torch looks datatypes up by their numbers, in tables whose ends it does not check. `plain`: no datatype may come
    from a variable."""
    name = call.func.attr if isinstance(call.func, ast.Attribute) else ""
    places = _dtypes().get(name, frozenset())
    given: dict[int | str | None, ast.expr] = {**dict(enumerate(call.args)), **{k.arg: k.value for k in call.keywords}}
    for place in places & given.keys():
        match given[place]:
            case ast.Constant(value=int(number)) if number not in DATATYPES:
                raise Damaged(f"it calls {name} for the datatype {number}, which does not exist")
            case ast.Constant() | ast.Call(func=ast.Attribute(attr="dtype")):
                pass
            case ast.expr() as other if plain or isinstance(other, ast.UnaryOp | ast.BinOp):
                raise Damaged(f"it calls {name} for a datatype that it computes")


def check_sources(sources: Iterable[str]) -> None:
    """Raises Damaged if TorchScript in `sources`, all of an archive, calls what is no operator of the list."""
    trees = [_parsed(source) for source in sources]
    nodes = [node for tree in trees for node in ast.walk(tree)]
    own = {"__new__", *(node.name for node in nodes if isinstance(node, ast.FunctionDef | ast.ClassDef))}
    at_load = {
        node for each in nodes if isinstance(each, ast.FunctionDef) and each.name == _AT_LOAD for node in ast.walk(each)
    }
    for node in nodes:
        if isinstance(node, ast.Call):
            _check_dtypes(node, plain=node in at_load)
    called = {node.func for node in nodes if isinstance(node, ast.Call)}
    for node in nodes:
        if isinstance(node, ast.Attribute):
            root, *names = _path(node)
            need(_CUSTOM not in ".".join((root, *names)), f"it uses the custom class {names[-1]!r}")
            if root in _MODULES:
                need(
                    not _is_operator(node, called) or names[-1] in _known(), f"it calls {'.'.join((root, *names))[:80]}"
                )
            elif node in called:
                need(node.attr not in own or node not in at_load, f"{_AT_LOAD} calls {node.attr[:80]}")
                need(node.attr in own or node.attr in _known(), f"it calls {node.attr[:80]}")


def check_globals(pickled: bytes) -> None:
    """Raises Damaged if a pickle of an archive names a class that is written in C++."""
    for opcode, argument, _ in pickletools.genops(pickled):
        need(not isinstance(argument, str) or _CUSTOM not in argument, f"{opcode.name} wants {str(argument)[:80]!r}")


def _is_operator(node: ast.Attribute, called: set[ast.expr]) -> bool:
    """True for the whole path of an operator; `torch.strided` is a constant, `ops.aten` a part of a path."""
    return node in called or is_refused(node.attr)


def _path(node: ast.Attribute) -> tuple[str, ...]:
    names: list[str] = []
    inner: Any = node
    while isinstance(inner, ast.Attribute):
        names.append(inner.attr)
        inner = inner.value
    return (inner.id if isinstance(inner, ast.Name) else "", *reversed(names))


def _parsed(source: str) -> ast.Module:
    try:
        return ast.parse(source)
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        raise Damaged("its code is not TorchScript") from error
