"""Who may import whom, as docs/architecture.md draws it."""

from __future__ import annotations

import graphlib

import grimp
import pytest

ROOMS = {
    "adapters": {"adapters"},
    "runtime.errors": set(),
    "runtime.log": set(),
    "runtime.board": set(),
    "runtime.cgroups": set(),
    "runtime.settings": {"runtime", "runtime.options", "runtime.errors", "runtime.log"},
    "runtime.kit": {"runtime", "runtime.kit", "runtime.errors"},
    "runtime.serving": {
        "runtime",
        "runtime.serving",
        "runtime.errors",
        "runtime.log",
        "runtime.board",
        "adapters.base",
    },
}
"""Room -> all it may import of ours. The halls (cli, supervisor, worker …) come below."""

NEVER = {
    "runtime.supervisor": ("runtime.cli", "runtime.worker", "runtime.serving.app", "runtime.serving.protocol"),
    "runtime.service": (
        "runtime.cli",
        "runtime.supervisor",
        "runtime.kit.registry",
        "runtime.kit.pull",
        "runtime.kit.store",
    ),
}


@pytest.fixture(scope="module")
def graph() -> grimp.ImportGraph:
    return grimp.build_graph("runtime", "adapters", exclude_type_checking_imports=True, cache_dir=None)


def inside(module: str, room: str) -> bool:
    return module == room or module.startswith(room + ".")


@pytest.mark.parametrize("room", ROOMS)
def test_a_room_imports_only_what_its_door_says(graph: grimp.ImportGraph, room: str) -> None:
    modules = {module for module in graph.modules if inside(module, room)}
    imported = {other for module in modules for other in graph.find_modules_directly_imported_by(module)}
    strangers = {other for other in imported if not any(_is(other, allowed) for allowed in ROOMS[room])}
    assert strangers == set()


def _is(module: str, allowed: str) -> bool:
    # `runtime` itself holds the version and nothing else: allowing it does not allow the rooms in it
    return module == allowed if allowed == "runtime" else inside(module, allowed)


@pytest.mark.parametrize(("hall", "room"), [(hall, room) for hall, rooms in NEVER.items() for room in rooms])
def test_a_hall_never_reaches_into(graph: grimp.ImportGraph, hall: str, room: str) -> None:
    imported = {
        other
        for module in graph.modules
        if inside(module, hall)
        for other in graph.find_modules_directly_imported_by(module)
    }
    assert not [other for other in imported if inside(other, room)]


def test_nothing_but_the_module_entry_imports_the_command_line(graph: grimp.ImportGraph) -> None:
    importers = {module for module in graph.modules if "runtime.cli" in graph.find_modules_directly_imported_by(module)}
    assert importers <= {"runtime.__main__"}


def test_no_module_stands_on_a_cycle(graph: grimp.ImportGraph) -> None:
    imports = {module: graph.find_modules_directly_imported_by(module) for module in graph.modules}
    graphlib.TopologicalSorter(imports).prepare()  # raises CycleError with the cycle in it
