"""The tables of docs/clients.md, written from the cases: `python -m tests.clients.page`."""

from __future__ import annotations

import re

from tests.clients import environments
from tests.clients.cases import CASES, CLIENTS, MISSING, ROWS, Case
from tests.places import ROOT

PAGE = ROOT / "docs/clients.md"


def missing(case: Case) -> list[str]:
    """Why a case does not pass yet."""
    return [MISSING[need] for need in case.needs if need in MISSING]


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
    rows = ["| Client | Its first call | Passes | Not yet |", "|---|---|---|---|"]
    for name, client in CLIENTS.items():
        ours = [case for case in CASES if case.client == name]
        cells = [
            "; ".join(case.tried for case in ours if bool(missing(case)) is later) or "-" for later in (False, True)
        ]
        package = pinned(client.package, client.environment)
        rows.append(f"| {name} ({package}) | `{client.call}` | {cells[0]} | {cells[1]} |")
    return "\n".join(rows)


def rows() -> str:
    """One row for each row of the reference's table."""
    case_of = {case.row: case for case in CASES if case.row}
    lines = ["| | Client and call | |", "|---|---|---|"]
    for number, text in enumerate(ROWS, 1):
        lines.append(f"| {number} | {text} | {', '.join(missing(case_of[number])) or 'passes'} |")
    return "\n".join(lines)


TABLES = {"clients": clients, "rows": rows}


def block(name: str) -> re.Pattern[str]:
    """Where a table stands in the page."""
    return re.compile(rf"(?<=<!-- {name} -->\n).*?(?=\n<!-- /{name} -->)", re.DOTALL)


if __name__ == "__main__":
    text = PAGE.read_text()
    for each, table in TABLES.items():
        text = block(each).sub(lambda _, table=table: table(), text)  # type: ignore[misc]
    PAGE.write_text(text)
