"""Runs what measures each promise, and writes a figure for each. Ends with 1 where one is not kept."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
import xml.etree.ElementTree as ElementTree
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Final, NamedTuple

from tests.adapters.mutation.formats import FORMATS
from tests.places import ROOT

MUTATION: Final = "tests/adapters/mutation"
FILES: Final = {False: 2000, True: 1_000_000}
"""Mutated files of a format: usually, and with --long."""
BUILD: Final = ROOT / "build"


class Promise(NamedTuple):
    words: str
    paths: tuple[str, ...]
    """What measures it: tests, or MUTATION."""


class Outcome(NamedTuple):
    path: str
    kept: bool | None
    """None: it was skipped."""


def promises(page: str) -> list[Promise]:
    """Returns the rows of the first table of docs/security.md."""
    table = page.partition("| Promise | Measured by |")[2].partition("\n\n")[0]
    rows = re.findall(r"^\| (.+) \| (`.+`) \|$", table, re.MULTILINE)
    return [Promise(words, tuple(re.findall(r"`([^`]+)`", by))) for words, by in rows]


def outcomes(results: Path) -> list[Outcome]:
    """Returns what became of each test, from pytest's XML."""
    found = []
    for case in ElementTree.parse(results).iter("testcase"):
        left = {inner.tag for inner in case}
        kept = None if "skipped" in left else not left & {"failure", "error"}
        found.append(Outcome(str(case.get("file")), kept))
    return found


def figure(promise: Promise, found: list[Outcome], mutated: list[str]) -> tuple[bool, str]:
    """Returns whether a promise is kept, and how that was measured, in words."""
    if promise.paths == (MUTATION,):
        counts = [re.search(r": (\d+) files, .* (\d+) ended a process", line) for line in mutated]
        files = sum(int(found[1]) for found in counts if found)
        ends = [int(found[2]) for found in counts if found]
        return bool(ends) and not sum(ends), f"{files:,} files of {len(ends)} formats, {sum(ends)} ended a process"
    own = [one.kept for one in found if one.path.startswith(promise.paths)]
    kept, skipped = own.count(True), own.count(None)
    more = f", {skipped} skipped" if skipped else ""
    return kept > 0 and False not in own, f"{kept} of {len(own) - skipped} attempts as they should be{more}"


def mutated_lines(printed: str) -> list[str]:
    """Returns the line of each format, and below it those of the files that ended a process."""
    lines = [line for line in printed.splitlines() if " ended a process" in line or line.startswith("  number ")]
    return [line.strip() for line in lines]


def tried(count: int, name: str) -> str:
    """Returns what is printed of mutated files of one format."""
    command = [sys.executable, "-W", "ignore", "-m", MUTATION.replace("/", "."), "--only", name, "--count", str(count)]
    return subprocess.run(command, cwd=ROOT, check=False, capture_output=True, text=True).stdout


def report(all_: list[Promise], found: list[Outcome], mutated: list[str], seconds: float) -> tuple[bool, str]:
    """Returns whether all promises are kept, and the page."""
    rows, whole = [], True
    for promise in all_:
        kept, said = figure(promise, found, mutated)
        whole = whole and kept
        rows.append(f"| {'yes' if kept else '**no**'} | {promise.words} | {said} |")
    head = ["# Trust report", "", f"Measured in {seconds:.0f} s.", "", "| Kept | Promise | Figure |", "|---|---|---|"]
    return whole, "\n".join((*head, *rows, "", "## Mutated files", "", *(f"- {line}" for line in mutated), ""))


def main() -> int:
    began, long = time.monotonic(), "--long" in sys.argv
    all_ = promises((ROOT / "docs/security.md").read_text())
    tests = sorted({path for promise in all_ for path in promise.paths if path != MUTATION})
    BUILD.mkdir(exist_ok=True)
    results = BUILD / "trust.xml"
    pytest = [sys.executable, "-m", "pytest", "-q", "-n", "2", "-o", "junit_family=xunit1", f"--junit-xml={results}"]
    more = ["--timeout", "0", "--long" if long else "--ci"]
    subprocess.run([*pytest, *more, *tests], cwd=ROOT, check=False)
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        printed = "".join(pool.map(partial(tried, FILES[long]), FORMATS))
    kept, page = report(all_, outcomes(results), mutated_lines(printed), time.monotonic() - began)
    (BUILD / "trust-report.md").write_text(page)
    sys.stdout.write(page)
    return 0 if kept else 1


if __name__ == "__main__":
    sys.exit(main())
