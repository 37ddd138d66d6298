"""Who may import whom: each folder says so at its door, the docstring of its `__init__.py`."""

from __future__ import annotations

import graphlib
import importlib
import re
from collections import Counter
from pathlib import Path

import pytest

from docs.draw_imports import arrows_between, boxes, drawn, picture, read_imports, room_of
from tests.places import ROOT

GRAPH = read_imports()
ROOMS = sorted(module for module in GRAPH.modules if GRAPH.find_children(module))
OUTSIDE = {"trust", "", "clients", "crds", "deploy", "e2e", "image", "kits", "loadtests"}
"""Folders of tests that stand for no room: they look at the whole from outside, or are what tests read."""


def door(room: str, sentence: str) -> set[str]:
    """The rooms and modules that the door of `room` names after `sentence`."""
    found = re.search(rf"{sentence}: ([^:]*?)\.$", importlib.import_module(room).__doc__ or "", re.MULTILINE)
    assert found, f"{room} does not say '{sentence}: …'"
    return set(re.split(r",\s+", found[1])) - {"nothing"}


def imported_by(room: str) -> set[str]:
    """The modules outside a room that its modules import."""
    inside = {module for module in GRAPH.modules if room_of(GRAPH, module) == room}
    return {other for module in inside for other in GRAPH.find_modules_directly_imported_by(module)} - inside


@pytest.mark.parametrize("room", ROOMS)
def test_a_room_imports_what_its_door_says_and_nothing_else(room: str) -> None:
    imported, allowed = imported_by(room), door(room, "May import")
    assert {other for other in imported if not {other, room_of(GRAPH, other)} & allowed} == set()
    assert {name for name in allowed if not any(name in (other, room_of(GRAPH, other)) for other in imported)} == set()


@pytest.mark.parametrize("room", ROOMS)
def test_a_room_is_imported_by_those_that_its_door_names_and_nobody_else(room: str) -> None:
    importers = {other for other in ROOMS if room in {room_of(GRAPH, module) for module in imported_by(other)}}
    assert importers == door(room, "Imported by")


def test_nothing_but_the_module_entry_imports_the_command_line() -> None:
    assert GRAPH.find_modules_that_directly_import("runtime.cli") == {"runtime.__main__"}


def test_no_module_stands_on_a_cycle_not_even_for_its_types() -> None:
    imports = {module: GRAPH.find_modules_directly_imported_by(module) for module in GRAPH.modules}
    graphlib.TopologicalSorter(imports).prepare()  # raises CycleError with the cycle in it


def test_no_box_of_the_picture_stands_on_a_cycle() -> None:
    graphlib.TopologicalSorter(arrows_between(GRAPH, boxes(GRAPH))).prepare()


def test_the_picture_in_the_architecture_is_of_these_imports() -> None:
    assert drawn() == picture(GRAPH), "draw it with: make picture"


def test_no_two_names_of_files_differ_by_an_ending() -> None:
    """Commands are called as on the command line, and `Served` has no better name."""
    modules = {each for each in GRAPH.modules if each not in ROOMS and not each.startswith("runtime.commands.")}
    names = {module.rpartition(".")[2] for module in modules} - {"served"}
    stems = Counter(re.sub(r"(ings?|ers?|ors?|ions?|ed|e?s|e)$", "", name) if len(name) > 4 else name for name in names)
    assert [stem for stem, count in stems.items() if count > 1] == []


def folder_of(room: str) -> str:
    """Where the tests of a room are, below `tests`."""
    return room.removeprefix("runtime.").replace(".", "/") if room != "runtime" else ""


def test_every_folder_of_tests_is_that_of_a_room() -> None:
    tests = ROOT / "tests"
    folders = {path.parent.relative_to(tests).as_posix().removeprefix(".") for path in tests.rglob("test_*.py")}
    assert folders - OUTSIDE - {folder_of(room) for room in ROOMS} == set()


@pytest.mark.parametrize("room", ROOMS)
def test_every_room_has_its_tests(room: str) -> None:
    folder = ROOT / "tests" / folder_of(room)
    named = f"test_{Path(folder).name}*.py"
    assert list(folder.glob("test_*.py")) or list(folder.parent.glob(named)), f"none in {folder}, no {named} beside it"
