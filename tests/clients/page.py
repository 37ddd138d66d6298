"""The tables of docs/clients.md, written from the cases: `python -m tests.clients.page`."""

from __future__ import annotations

import re

from tests.clients import environments
from tests.clients.cases import CASES, CLIENTS, ROWS
from tests.places import ROOT

PAGE = ROOT / "docs/clients.md"


def pinned(package: str, environment: str) -> str:
    """A package with its version; a program of this machine without one."""
    if not environment:
        return package
    text = (environments.REQUIREMENTS / f"{environment}.txt").read_text()
    found = re.search(rf"^{re.escape(package)}==(\S+)", text, re.MULTILINE)
    assert found, package
    return f"{package} {found[1]}"


def clients() -> str:
    """One row a client."""
    rows = ["| Client | Its first call | Passes |", "|---|---|---|"]
    for name, client in CLIENTS.items():
        tried = "; ".join(case.tried for case in CASES if case.client == name)
        rows.append(f"| {name} ({pinned(client.package, client.environment)}) | `{client.call}` | {tried} |")
    return "\n".join(rows)


def rows() -> str:
    """One row for each row of the reference's table; `test_clients` holds that each has a case."""
    lines = ["| | Client and call | |", "|---|---|---|"]
    return "\n".join((*lines, *(f"| {number} | {text} | passes |" for number, text in enumerate(ROWS, 1))))


TABLES = {"clients": clients, "rows": rows}


def block(name: str) -> re.Pattern[str]:
    """Where a table stands in the page."""
    return re.compile(rf"(?<=<!-- {name} -->\n).*?(?=\n<!-- /{name} -->)", re.DOTALL)


if __name__ == "__main__":
    text = PAGE.read_text()
    for each, table in TABLES.items():
        text = block(each).sub(lambda _, table=table: table(), text)  # type: ignore[misc]
    PAGE.write_text(text)
