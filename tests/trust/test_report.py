from __future__ import annotations

from tests.places import ROOT
from tests.trust.__main__ import MUTATION, Outcome, Promise, mutated_lines, promises, report


def test_every_promise_of_the_page_names_what_measures_it() -> None:
    found = promises((ROOT / "docs/security.md").read_text())
    assert len(found) == (ROOT / "docs/security.md").read_text().partition("## At each")[0].count("\n| ") - 1
    assert [path for promise in found for path in promise.paths if not (ROOT / path).exists()] == []


def test_a_report_has_a_figure_for_each_promise_and_says_which_are_broken() -> None:
    held, broken, files = Promise("A", ("tests/a.py",)), Promise("B", ("tests/b",)), Promise("C", (MUTATION,))
    found = [Outcome("tests/a.py", True), Outcome("tests/a.py", None), Outcome("tests/b/c.py", False)]
    more = "9 served, 0 ended a process, 0 over 10 s, 1 s in all"
    lines = mutated_lines(f"onnx: 20 files, {more}\nnothing\npt2: 20 files, {more}\n")
    kept, page = report([held, broken, files], found, lines, 2.0)
    assert not kept
    assert "| yes | A | 1 of 1 attempts as they should be, 1 skipped |" in page
    assert "| **no** | B | 0 of 1 attempts as they should be |" in page
    assert "| yes | C | 40 files of 2 formats, 0 ended a process |" in page
    assert report([held, files], found, lines, 2.0)[0]
    ended = lines[0].replace("0 ended", "1 ended") + "\n  number 3 of seed 1, made of 'Sum': SIGSEGV\n"
    kept, page = report([files], found, mutated_lines(ended), 2.0)
    assert not kept
    assert "- number 3 of seed 1, made of 'Sum': SIGSEGV" in page
    assert not report([files], found, [], 2.0)[0]
