"""What README and docs say is what the code does: options, exit codes, statuses."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

from runtime.exits import EXIT_CODES, KILLED, UNHEALTHY
from runtime.options import OPTIONS, Option
from runtime.serving.statuses import STATUSES
from runtime.supervisor.process import _KEPT_VARIABLES
from tests.places import ROOT

EVENT = r"[a-z]+\.[a-z_]+"
OPTIONS_PAGE = ROOT / "docs/options.md"
PAGES = [
    ROOT / "README.md",
    ROOT / "CHANGELOG.md",
    *sorted((ROOT / "docs").rglob("*.md")),
    ROOT / "loadtests/README.md",
]


def row(option: Option) -> str:
    default = option.shown_default or ("off" if option.default is False else f"`{option.default}`")
    return f"| `--{option.name}{' ' + option.metavar if option.metavar else ''}` | {option.help.replace('|', chr(92) + '|')} | {default} |"


def options_table() -> str:
    serve = [row(option) for option in OPTIONS if "serve" in option.commands]
    return "\n".join(["| Option | What | Default |", "|---|---|---|", *serve])


def test_every_option_is_listed_as_the_settings_have_it() -> None:
    assert between("options", OPTIONS_PAGE) == options_table(), "write it with: python -m tests.test_docs"


def between(name: str, page: Path) -> str:
    found = re.search(rf"<!-- {name}[^>]*-->\n(.*?)\n?<!-- /{name} -->", page.read_text(), re.DOTALL)
    assert found, f"no <!-- {name} --> … <!-- /{name} --> in {page.name}"
    return found[1]


def rows(page: Path, heading: str) -> list[list[str]]:
    """The cells of the table below `heading`, without its header."""
    section = page.read_text().partition(f"\n## {heading}\n")[2].partition("\n## ")[0]
    lines = [line for line in section.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[2:]]


def named(cell: str) -> set[str]:
    return set(re.findall(r"`(\w+)`", cell))


def test_every_exit_code_is_documented_and_nothing_else() -> None:
    documented = {
        (int(code), name) for code, names, *_ in rows(ROOT / "docs/errors.md", "Exit codes") for name in named(names)
    }
    assert documented == {(code, kind.__name__) for kind, code in EXIT_CODES}
    codes = [int(code) for code, *_ in rows(ROOT / "docs/errors.md", "Exit codes")]
    assert codes == sorted({UNHEALTHY, *(code for _, code in EXIT_CODES)})
    assert KILLED == 128


def test_every_status_is_documented_and_nothing_else() -> None:
    documented = {
        (int(status), grpc, name, outcome, reason.strip("`"))
        for status, grpc, names, _, outcome, reason in rows(ROOT / "docs/errors.md", "Statuses")
        for name in named(names)
    }
    assert documented == {(row.http, row.grpc, row.failure.__name__, row.outcome, row.reason) for row in STATUSES}


def logged() -> set[str]:
    """The names of all events that the code writes."""
    found = set()
    for path in [*(ROOT / "runtime").rglob("*.py"), *(ROOT / "adapters").rglob("*.py")]:
        for call in ast.walk(ast.parse(path.read_text())):
            match call:
                case ast.Call(func=func, args=[ast.Constant(value=str(name)), *_]) if re.fullmatch(EVENT, name):
                    how = getattr(func, "attr", getattr(func, "id", "getattr"))
                    found |= (
                        {name}
                        if how in {"debug", "info", "warning", "error", "warn", "_warn", "say", "write", "getattr"}
                        else set()
                    )
    return found


@pytest.mark.slow
def test_every_event_is_documented_and_nothing_else() -> None:
    documented = {re.sub("`", "", name) for name, *_ in rows(ROOT / "docs/log.md", "Events")}
    assert documented == logged()


@pytest.mark.slow
def test_alerts_and_pages_name_events_that_exist() -> None:
    texts = [path.read_text() for path in (ROOT / "deploy").rglob("*.yaml")] + [page.read_text() for page in PAGES]
    named = {name for text in texts for name in re.findall(rf"`?({EVENT})`? in the log", text)}
    assert named
    assert named <= logged()


def test_every_variable_that_a_worker_inherits_is_documented() -> None:
    page = (ROOT / "docs/log.md").read_text()
    section = page.partition("## What a worker inherits")[2].partition("\n## ")[0]
    assert {
        name for name in _KEPT_VARIABLES if name not in section.replace("`", " ").replace(",", " ").split()
    } == set()


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_links_between_pages_lead_somewhere(page: Path) -> None:
    links = re.findall(r"\]\((?!https?://)([^)\s]+)\)", page.read_text())
    assert [link for link in links if not leads_somewhere(page, *link.split("#", 1))] == []


def leads_somewhere(page: Path, path: str, section: str = "") -> bool:
    """Whether there is such a file, with a heading of that name as GitHub makes an anchor of it."""
    target = page.parent / path if path else page
    if not section or not target.is_file():
        return not section and target.exists()
    headings = re.findall(r"^#+ (.*)$", target.read_text(), re.MULTILINE)
    texts = [re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading).lower() for heading in headings]
    return section in [re.sub(r"[^\w\- ]", "", text).replace(" ", "-") for text in texts]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_files_that_a_page_names_are_there(page: Path) -> None:
    folders = "runtime|adapters|tests|docs|deploy|examples|loadtests|requirements"
    named = re.findall(rf"`((?:{folders})/[^`\s*…]*)`", page.read_text())
    assert [path for path in named if not (ROOT / path).exists()] == []


def test_modules_that_the_architecture_names_are_there() -> None:
    named = set(re.findall(r"`(\w+\.py)`", (ROOT / "docs/architecture.md").read_text()))
    known = {path.name for folder in ("runtime", "adapters", "docs") for path in (ROOT / folder).rglob("*.py")}
    assert named - known == set()


def test_decisions_are_listed_and_short() -> None:
    pages = sorted((ROOT / "docs/decisions").glob("[0-9]*.md"), key=lambda page: int(page.name.partition("-")[0]))
    listed = re.findall(r"^\d+\. \[(.*)\]\((.*)\)$", (ROOT / "docs/decisions/README.md").read_text(), re.MULTILINE)
    titles = [page.read_text().partition("\n")[0].partition(". ")[2] for page in pages]
    assert listed == [(title, page.name) for title, page in zip(titles, pages, strict=True)]
    assert [page.name for page in pages if not 25 <= len(page.read_text().splitlines()) <= 60] == []


def test_any_client_of_the_readme_is_one_that_passes() -> None:
    readme, page = (ROOT / "README.md").read_text(), ROOT / "docs/clients.md"
    assert "Any client in the [table of clients](docs/clients.md) works" in readme
    table = [line.strip("| ").split(" | ") for line in between("clients", page).splitlines()[2:]]
    assert [cells[0] for cells in table if len(cells) != 3 or cells[2] in ("", "-")] == []
    assert {line.split(" | ")[-1].strip(" |") for line in between("rows", page).splitlines()[2:]} == {"passes"}
    clients = " ".join(cells[0] for cells in table)
    assert [name for name in ("triton", "kserve", "mlserver", "curl", "chromium") if name not in clients] == []


def test_the_extras_of_the_image_are_those_that_are_locked() -> None:
    listed = re.search(r"`EXTRAS` is a list with commas: (.*?)\.", (ROOT / "docs/deploy.md").read_text())
    assert listed
    locked = {path.stem for path in (ROOT / "requirements").glob("*.txt")}
    assert set(named(listed[1])) == locked - {"core", "build", "grpc"}  # onnxruntime brings what gRPC needs


def test_readme_is_short() -> None:
    assert len((ROOT / "README.md").read_text().splitlines()) <= 150


if __name__ == "__main__":
    OPTIONS_PAGE.write_text(OPTIONS_PAGE.read_text().replace(between("options", OPTIONS_PAGE), options_table()))
