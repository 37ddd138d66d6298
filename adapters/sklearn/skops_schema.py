"""What a skops file makes skops do, read before skops does it: each node of its schema names a loader and a type.
Boosters in it are made here; what compiled classes get is looked at.

https://github.com/skops-dev/skops/blob/v0.16.0/skops/io/_general.py: some loaders call what the file names.
"""

import json
import zipfile
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import Any, Final

from adapters.checks import need
from adapters.pickles.foreign import is_unused
from adapters.pickles.gradient_boosting import BOOSTERS
from adapters.pickles.parts import Compiled, Distribution, Partial, check_state
from adapters.pickles.rules import CLASS, VALUE, permitted

_PLAIN: Final = frozenset({
    "BytearrayNode", "BytesNode", "CachedNode", "DTypeNode", "DefaultDictNode", "DictNode", "JsonNode", "ListNode",
    "MaskedArrayNode", "NdArrayNode", "RandomGeneratorNode", "RandomStateNode", "SetNode", "SliceNode",
    "SparseMatrixNode", "TupleNode", "TypeNode", "_DictWithDeprecatedKeysNode",
})  # fmt: skip
"""Loaders of data: skops itself checks their types. TypeNode makes no instance; `conduct` looks at what holds it."""
_INSTANCES: Final = frozenset({"ObjectNode", "TreeNode", "LossNode", "SGDNode", "ReduceNode"})
_CALLS: Final = "ConstructorFromReduceNode"
_VALUES: Final = "FunctionNode"
_LARGEST_BYTES: Final = 256 * 2**20
_DEEPEST: Final = 200


def refused_names(path: Path, allowed: frozenset[str]) -> set[str]:
    """Returns `module.name` of what the file would have made or called, and a pickle could not. Raises Damaged."""
    with zipfile.ZipFile(path) as archive:
        need(archive.getinfo("schema.json").file_size <= _LARGEST_BYTES, "its schema is too long")
        schema = json.loads(archive.read("schema.json"))
    return {name for name, may in _nodes(schema, allowed) if not may}


def _nodes(schema: Any, allowed: frozenset[str]) -> Iterator[tuple[str, bool]]:
    stack = [(schema, 0)]
    while stack:
        node, depth = stack.pop()
        need(depth < _DEEPEST, f"its schema nests deeper than {_DEEPEST}")
        if isinstance(node, dict):
            if "__loader__" in node:
                full = f"{node.get('__module__')}.{node.get('__class__')}"
                yield full, full in allowed or _may(node, str(node["__loader__"]), allowed)
            stack += ((child, depth + 1) for child in node.values() if isinstance(child, dict | list))
        else:
            stack += ((child, depth + 1) for child in node if isinstance(child, dict | list))


def _may(node: dict[str, Any], loader: str, allowed: frozenset[str]) -> bool:
    if loader in _PLAIN:
        return True
    if loader == "PartialNode":  # made by `Partial`; its function is a node of its own
        return (node.get("__module__"), node.get("__class__")) == ("functools", "partial")
    module, name = str(node.get("__module__")), str(node.get("__class__"))
    if f"{module}.{name}" in BOOSTERS or is_unused(f"{module}.{name}"):
        return loader == "ObjectNode"  # whose state `boosters_checked` sets
    try:
        found = permitted(module, name, allowed)
    except (ImportError, AttributeError):
        return True  # allowed, but not installed: skops says that
    if found is None:
        return False
    compiled = isinstance(found.thing, Compiled)
    if loader == _CALLS:
        return compiled and _are_plain(node.get("content"))
    if loader == _VALUES:
        return found.use == VALUE
    return loader in _INSTANCES and (compiled or found.use == CLASS)


def _are_plain(content: Any) -> bool:
    """True if the arguments of a call are a tuple of numbers and texts."""
    arguments = content.get("content") if isinstance(content, dict) else None
    return isinstance(arguments, list) and all(
        isinstance(argument, dict) and argument.get("__loader__") == "JsonNode" for argument in arguments
    )


@contextmanager
def states_checked(allowed: Collection[str]) -> Iterator[None]:
    """Makes skops make instances and set their state as the unpickler does: by functions that check it. What the
    operator has `allowed` is made as skops makes it."""
    # skops has no public place for it
    nodes, reduced = import_module("skops.io._general"), import_module("skops.io._sklearn").ReduceNode
    general, partial = nodes.ObjectNode, nodes.PartialNode
    own, own_reduced, own_partial = general._construct, reduced._construct, partial._construct  # noqa: SLF001

    def construct(self: Any) -> Any:
        if is_unused(f"{self.module_name}.{self.class_name}"):
            return Distribution()
        kind = getattr(import_module(self.module_name), self.class_name)
        state = self.attrs.construct() if self.attrs else {}
        set_state = BOOSTERS.get(f"{self.module_name}.{self.class_name}")
        if set_state is None:
            check_state(kind, state)
            return own(self)
        made = kind.__new__(kind)
        need(isinstance(state, dict), f"the state of a {self.class_name} is no dictionary")
        set_state(made, state)
        return made

    def construct_reduced(self: Any) -> Any:
        Compiled(getattr(import_module(self.constructor.module_name), self.constructor.class_name))(
            *self.args.construct()
        )
        return own_reduced(self)

    def construct_partial(self: Any) -> Any:
        made = Partial.of(function := self.func.construct())
        made.__setstate__((function, self.args.construct(), self.kwds.construct(), None))
        return made

    general._construct, reduced._construct = construct, construct_reduced  # noqa: SLF001
    partial._construct = own_partial if "functools.partial" in allowed else construct_partial  # noqa: SLF001
    try:
        yield
    finally:
        general._construct, reduced._construct = own, own_reduced  # noqa: SLF001
        partial._construct = own_partial  # noqa: SLF001
