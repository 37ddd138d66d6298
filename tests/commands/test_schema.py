"""`runtime schema`: what an editor says of a Kitfile, and what serving says of it, are the same."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from runtime.commands.schema import run
from runtime.errors import InvalidKitfile
from runtime.worker.declared import Declared

SCHEMA = json.loads("\n".join(run()[1]))
VALIDATOR = Draft202012Validator(SCHEMA)
IMAGE = {
    "layout": "NCHW",
    "mode": "RGB",
    "size": [2, 2],
    "resize": "fit",
    "scale": 0.5,
    "mean": [1, 2, 3],
    "std": [1, 2, 3],
}
WHOLE = {
    "inputs": [{"name": "x", "datatype": "FP32", "shape": [-1, 3, 2, 2], "optional": True, "image": IMAGE}],
    "outputs": ["y", "z"],
    "labels": ["a", 2],
    "samples": "samples.json",
    "batching": {"max_size": 8, "max_delay_ms": 0.5},
    "options": {"threads": 1},
}
VALUES = [None, True, 0, 1, -1, -2, 1.5, 60_000, "", "x", "/x", "../x", "a/../b", ".", "./x", "FP32", "L", "NHWC", "fill", [], [0], [1, 2], ["x"], ["y", "y"], {}, {"x": 1}]  # fmt: skip


def kitfile(serving: Any) -> dict[str, Any]:
    return {
        "manifestVersion": "1.0.0",
        "package": {"name": "x"},
        "model": {"path": "m", "parameters": {"serving": serving}},
    }


def is_taken(serving: Any) -> bool:
    try:
        Declared.parse({"serving": serving})
    except InvalidKitfile:
        return False
    return True


def places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Every place in a document, the whole first."""
    yield path
    if isinstance(value, dict | list):
        for key in value if isinstance(value, dict) else range(len(value)):
            yield from places(value[key], (*path, key))


def changed(path: tuple[Any, ...], *value: Any) -> Any:
    """The whole block with another value at a place, or without that place."""
    if not path:
        return value[0] if value else None
    block = copy.deepcopy(WHOLE)
    inner: Any = block
    for key in path[:-1]:
        inner = inner[key]
    if value:
        inner[path[-1]] = value[0]
    else:
        del inner[path[-1]]
    return block


def test_the_schema_is_one_and_takes_a_whole_block():
    Draft202012Validator.check_schema(SCHEMA)
    assert VALIDATOR.is_valid(kitfile(WHOLE))
    assert is_taken(WHOLE)


@pytest.mark.parametrize("path", list(places(WHOLE)), ids=lambda path: ".".join(map(str, path)))
def test_editor_and_server_agree_on_every_change(path: tuple[Any, ...]):
    blocks = [changed(path), *(changed(path, value) for value in VALUES)]
    assert [block for block in blocks if VALIDATOR.is_valid(kitfile(block)) != is_taken(block)] == []


@pytest.mark.parametrize(
    "path", [path for path in places(WHOLE) if path != ("options",) and "shape" not in path], ids=str
)
def test_both_refuse_a_key_that_nothing_reads(path: tuple[Any, ...]):
    block = changed((*path, "lables"), 1) if isinstance(at(path), dict) else WHOLE
    assert VALIDATOR.is_valid(kitfile(block)) == is_taken(block) == (block is WHOLE)


def at(path: tuple[Any, ...]) -> Any:
    value: Any = WHOLE
    for key in path:
        value = value[key]
    return value


@pytest.mark.parametrize("where", ["serving", "model.serving", "parameters.serving", "package.serving"])
def test_a_misplaced_block_is_no_valid_kitfile(where: str):
    document = kitfile(WHOLE)
    *outer, last = where.split(".")
    inner = document.setdefault(outer[0], {}) if outer else document
    inner[last] = WHOLE
    assert not VALIDATOR.is_valid(document)
