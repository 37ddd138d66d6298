"""Where TorchScript takes its datatypes from: torch looks them up by their numbers, in tables whose ends it does not
check. A graph may take them from its constants, from tensors, or from numbers that the file holds."""

from collections.abc import Iterator
from functools import cache
from typing import Any, Final

import torch

from adapters.checks import need
from adapters.pytorch.operators import DATATYPES

_ALIKE: Final = ("prim::unchecked_cast", "prim::unchecked_unwrap_optional", "aten::_unwrap_optional")


def check_graph(module: Any) -> None:
    """Raises Damaged if `module`, loaded and not called yet, may compute the number of a datatype."""
    nodes = list(_nodes(module.inlined_graph))
    stored = {node.s("name") for node in nodes if node.kind() == "prim::SetAttr"}
    for node in nodes:
        followed = node.kind() not in ("prim::CallMethod", "prim::CallFunction") and not node.hasAttribute("Subgraph")
        need(followed, "it makes a call that cannot be followed")
        inputs = list(node.inputs())
        for place in _places(node.schema()):
            _check(inputs[place], module, stored, node.kind())


def _nodes(block: Any) -> Iterator[Any]:
    for node in block.nodes():
        yield node
        for inner in node.blocks():
            yield from _nodes(inner)


@cache
def _places(schema: str) -> tuple[int, ...]:
    """Returns which arguments of an operator are datatypes."""
    if "ScalarType" not in schema:
        return ()
    arguments = torch._C.parse_schema(schema).arguments  # noqa: SLF001 - it has no public name
    return tuple(place for place, argument in enumerate(arguments) if "ScalarType" in str(argument.real_type))


def _check(value: Any, module: Any, stored: set[str], operator: str) -> None:
    node = value.node()
    kind, name = node.kind(), node.s("name") if node.hasAttribute("name") else ""
    if kind in _ALIKE:
        _check(next(node.inputs()), module, stored, operator)
    elif kind == "prim::If":
        at = [output.debugName() for output in node.outputs()].index(value.debugName())
        for block in node.blocks():
            _check(list(block.outputs())[at], module, stored, operator)
    elif kind == "prim::Constant" or (kind == "prim::GetAttr" and name not in stored):
        number = value.toIValue() if kind == "prim::Constant" else _held(value, module)
        known = number is None or number in DATATYPES
        need(known, f"it calls {operator} for the datatype {number}, which does not exist")
    else:
        need(kind in ("prim::dtype", "prim::Uninitialized"), f"it calls {operator} for a datatype that it computes")


def _held(value: Any, module: Any) -> Any:
    """Returns what the module holds under the name of an attribute, or the module itself. Raises Damaged for others."""
    node = value.node()
    if node.kind() == "prim::GetAttr":
        return getattr(_held(next(node.inputs()), module), node.s("name"))
    own = value.debugName() == next(module.inlined_graph.inputs()).debugName()
    need(own, "it takes a datatype from an object that cannot be followed")
    return module
