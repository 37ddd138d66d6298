"""Draws the picture of who imports whom in architecture.md, from the imports themselves.

    python docs/draw_imports.py

A box is a room. A room with rooms inside has a box for each floor: its modules that build on nothing but one another,
those that build on the first floor by way of other rooms, and so on. An arrow that follows from others is left out:
where A imports B and B imports C, A may import C as well.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from pathlib import Path

import grimp

PAGE = Path(__file__).parent / "architecture.md"
_BEGIN, _END = "<!-- imports: drawn by docs/draw_imports.py -->\n```mermaid\n", "```\n<!-- /imports -->"
_WINGS = ("runtime.kit", "runtime.serving", "adapters")

Arrows = Mapping[str, set[str]]


def read_imports() -> grimp.ImportGraph:
    """Returns the import graph of the whole project, imports for types included."""
    return grimp.build_graph("runtime", "adapters", cache_dir=None)


def room_of(graph: grimp.ImportGraph, module: str) -> str:
    """Returns the package that a module lies in; a package is its own `__init__.py`."""
    return module if graph.find_children(module) else module.rpartition(".")[0]


def picture(graph: grimp.ImportGraph) -> str:
    """Returns the graph in Mermaid's language."""
    box_of = boxes(graph)
    arrows = arrows_between(graph, box_of)
    labels = {box: _label(box, [module for module in box_of if box_of[module] == box]) for box in arrows}
    outside = [box for box in arrows if not box.startswith(_WINGS)]
    lines = ["flowchart TD", *(f"  {_id(box)}[{labels[box]}]" for box in outside)]
    for wing in _WINGS:
        inside = (f"    {_id(box)}[{labels[box]}]" for box in arrows if box.startswith(wing))
        lines += [f'  subgraph {_id(wing)}_wing["{wing.replace(".", "/")}"]', *inside, "  end"]
    lines += [f"  {_id(box)} --> {_id(other)}" for box in arrows for other in sorted(_needed(arrows, box))]
    return "\n".join(lines) + "\n"


def boxes(graph: grimp.ImportGraph) -> dict[str, str]:
    """Returns the box of each module."""
    rooms = {module: room_of(graph, module) for module in sorted(graph.modules)}
    outer = {room for room in rooms.values() if any(rooms[each] != room for each in graph.find_descendants(room))}
    arrows = arrows_between(graph, {module: module if room in outer else room for module, room in rooms.items()})
    reached = {point: _reached(arrows, point) for point in arrows}

    @cache
    def floor(module: str) -> int:
        room = rooms[module]
        beside = (floor(other) for other in arrows[module] if rooms[other] == room and module not in reached[other])
        below = (1 + floor(far) for other in arrows[module] if rooms[other] != room
                 for far in reached[other] if rooms[far] == room and module not in reached[far])  # fmt: skip
        return max((0, *beside, *below))

    needed = {far for point in arrows for far in reached[point] if rooms.get(point, point) != rooms.get(far)}
    top = {room: max(floor(module) for module in arrows if rooms.get(module) == room) for room in outer}
    floors = {
        module: floor(module) if module in needed else top[room] for module, room in rooms.items() if room in outer
    }
    return {module: f"{room} {floors[module]}" if room in outer else room for module, room in rooms.items()}


def arrows_between(graph: grimp.ImportGraph, box_of: Mapping[str, str]) -> Arrows:
    """Returns which boxes each box imports."""
    arrows: dict[str, set[str]] = {box: set() for box in sorted(set(box_of.values()))}
    for module, box in box_of.items():
        arrows[box] |= {box_of[other] for other in graph.find_modules_directly_imported_by(module)} - {box}
    return arrows


def _label(box: str, modules: list[str]) -> str:
    room, _, floor = box.partition(" ")
    names = [module.removeprefix(f"{room}.") for module in modules if module != room]
    return f'"{room.replace(".", "/")}{"<br>" + ", ".join(names) if floor and names else ""}"'


def _id(box: str) -> str:
    return box.replace(".", "_").replace(" ", "_")


def _needed(arrows: Arrows, box: str) -> set[str]:
    """Returns those arrows of a box that do not follow from its others."""
    reached = {other: _reached(arrows, other) for other in arrows[box]}
    return {to for to in reached if not any(to in there and via not in reached[to] for via, there in reached.items())}


def _reached(arrows: Arrows, start: str) -> set[str]:
    seen, left = set[str](), [start]
    while left:
        found = arrows[left.pop()] - seen
        seen |= found
        left += found
    return seen


def drawn() -> str:
    """Returns the picture that the page has."""
    return PAGE.read_text().partition(_BEGIN)[2].partition(_END)[0]


if __name__ == "__main__":
    before, begin, rest = PAGE.read_text().partition(_BEGIN)
    _, end, after = rest.partition(_END)
    assert end, f"{PAGE} has no place for the picture"
    PAGE.write_text(before + begin + picture(read_imports()) + end + after)
