"""Ratios to the floor: as bars in an SVG picture that reads on light and dark pages, and as a table in Markdown."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import groupby
from typing import Final, NamedTuple
from xml.sax.saxutils import escape

_WIDTH, _LEFT, _LABEL, _BAR, _GAP = 720, 110, 160, 14, 10
_COLOURS: Final = {"runtime": "#2f81f7", "runtime, no batches": "#8cb8f5"}
_OTHER: Final = "#9a9a9a"
_MOST: Final = 6.0
"""A longer bar is cut here; its number says how long it is."""


class Bar(NamedTuple):
    """One server's ratio to the floor."""

    workload: str
    clients: int
    server: str
    ratio: float
    """Of requests a second."""
    cpu: float = 1.0
    """Of the processor time of a request."""


def plotted(bars: Sequence[Bar]) -> str:
    """Returns the picture: a bar for each ratio, and a line at 1, where the floor is."""
    most = min(max([1.5, *(bar.ratio for bar in bars)]), _MOST)
    scale = (_WIDTH - _LEFT - _LABEL) / most
    parts, y = list[str](), 26
    for workload, clients, group in _groups(bars):
        parts.append(_text(8, y + 11, f"{workload}, {clients} client{'s' if clients > 1 else ''}", "start"))
        for bar in group:
            width = min(bar.ratio, most) * scale
            colour = _COLOURS.get(bar.server, _OTHER)
            parts.append(f'<rect x="{_LEFT}" y="{y}" width="{width:.0f}" height="{_BAR}" fill="{colour}"/>')
            name = "" if bar.server == "runtime" else f" {bar.server}"
            parts.append(_text(_LEFT + width + 5, y + 11, f"{bar.ratio:.2f}{name}", "start"))
            y += _BAR + 2
        y += _GAP
    one = _LEFT + scale
    floor = f'<line x1="{one:.0f}" y1="18" x2="{one:.0f}" y2="{y}" stroke="#d1242f" stroke-dasharray="4 3"/>'
    title = _text(one, 13, "1 = the least Starlette app with the same model", "middle")
    size = f'viewBox="0 0 {_WIDTH} {y}" width="{_WIDTH}" height="{y}"'
    style = 'font-family="sans-serif" font-size="12" fill="#808080"'
    return "\n".join([f'<svg xmlns="http://www.w3.org/2000/svg" {size} {style}>', title, *parts, floor, "</svg>", ""])


def table(bars: Sequence[Bar]) -> str:
    """Returns a row for each server of each workload, with a column for each number of clients."""
    numbers = sorted({bar.clients for bar in bars})
    lines = [
        "| | | " + " | ".join(f"{n} client{'s' if n > 1 else ''}" for n in numbers) + " |",
        "|---" * (2 + len(numbers)) + "|",
    ]
    for workload, server in dict.fromkeys((bar.workload, bar.server) for bar in bars):
        found = {bar.clients: bar for bar in bars if (bar.workload, bar.server) == (workload, server)}
        cells = (f"{found[n].ratio:.2f} ({found[n].cpu:.2f})" if n in found else "" for n in numbers)
        lines.append(f"| {workload} | {server} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _groups(bars: Iterable[Bar]) -> Iterable[tuple[str, int, Iterable[Bar]]]:
    for (workload, clients), group in groupby(bars, lambda bar: (bar.workload, bar.clients)):
        yield workload, clients, group


def _text(x: float, y: int, text: str, anchor: str) -> str:
    return f'<text x="{x:.0f}" y="{y}" text-anchor="{anchor}">{escape(text)}</text>'
