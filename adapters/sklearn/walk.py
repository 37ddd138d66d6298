"""The objects that a model is made of."""

from collections.abc import Iterator
from types import BuiltinFunctionType, FunctionType, MethodType
from typing import Any, Final

import numpy as np

NAMED: Final = (type, FunctionType, BuiltinFunctionType, MethodType, np.ufunc, type(np.mean))
"""Classes and functions: what they hold is the libraries' own."""


def walk(root: Any) -> Iterator[Any]:
    """Yields every object that can be reached from `root`, once."""
    stack, seen = [root], {id(root)}
    kept = []  # lists made here stay alive, so that no other object gets their id
    while stack:
        thing = stack.pop()
        yield thing
        children = _children(thing)
        kept.append(children)
        for child in children:
            if id(child) not in seen and not isinstance(child, str | bytes | int | float | type(None)):
                seen.add(id(child))
                stack.append(child)


def _children(thing: Any) -> list[Any]:
    if isinstance(thing, dict):
        return [*thing, *thing.values()]
    if isinstance(thing, MethodType):
        return [thing.__self__]
    if isinstance(thing, list | tuple | set | frozenset):
        return list(thing)
    if isinstance(thing, np.ndarray):
        return thing.ravel().tolist() if thing.dtype.hasobject and thing.dtype.names is None else []
    if isinstance(thing, NAMED):
        return []
    return list(vars(thing).values()) if hasattr(thing, "__dict__") else []
