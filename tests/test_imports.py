"""Who may import whom: each folder says so at its door, the docstring of its `__init__.py`."""

from __future__ import annotations

import graphlib
import importlib
import re

import grimp
import pytest

FREE = {"runtime", "adapters"}
"""Without a door: the entry of the program (cli, settings, log …), and the table of adapters."""


@pytest.fixture(scope="module")
def graph() -> grimp.ImportGraph:
    return grimp.build_graph("runtime", "adapters", cache_dir=None)


@pytest.fixture(scope="module")
def running() -> grimp.ImportGraph:
    return grimp.build_graph("runtime", "adapters", exclude_type_checking_imports=True, cache_dir=None)


def rooms() -> list[str]:
    whole = grimp.build_graph("runtime", "adapters", cache_dir=None)
    return sorted(module for module in whole.modules if whole.find_children(module) and module not in FREE)


def door(room: str) -> set[str]:
    """The modules and rooms that the door of `room` names."""
    said = importlib.import_module(room).__doc__ or ""
    found = re.search(r"May import: ([^.]*(?:\.\w[^.]*)*)\.$", said, re.MULTILINE)
    assert found, f"{room} does not say what it may import"
    return set(re.split(r",\s+", found[1]))


def room_of(graph: grimp.ImportGraph, module: str) -> str:
    return module if graph.find_children(module) else module.rpartition(".")[0]


@pytest.mark.parametrize("room", rooms())
def test_a_room_imports_what_its_door_says_and_nothing_else(graph: grimp.ImportGraph, room: str) -> None:
    inside = {module for module in graph.modules if room_of(graph, module) == room}
    imported = {other for module in inside for other in graph.find_modules_directly_imported_by(module)} - inside
    allowed = door(room)
    assert {other for other in imported if not {other, room_of(graph, other)} & allowed} == set()
    assert {name for name in allowed if not any(name in (other, room_of(graph, other)) for other in imported)} == set()


def test_nothing_but_the_module_entry_imports_the_command_line(graph: grimp.ImportGraph) -> None:
    importers = {module for module in graph.modules if "runtime.cli" in graph.find_modules_directly_imported_by(module)}
    assert importers <= {"runtime.__main__"}


def test_no_module_stands_on_a_cycle(running: grimp.ImportGraph) -> None:
    imports = {module: running.find_modules_directly_imported_by(module) for module in running.modules}
    graphlib.TopologicalSorter(imports).prepare()  # raises CycleError with the cycle in it
