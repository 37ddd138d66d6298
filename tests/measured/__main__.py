"""What the measured processes ran: a report, and an error where it is less than the rooms below promise.

python -m tests.measured.probes
PYTHONPATH=tests/measured python -m pytest --numprocesses 2
python -m tests.measured
"""

from __future__ import annotations

import io
import sys

import coverage

from tests.measured.probes import seen
from tests.places import ROOT

PROMISED = {
    "runtime/kit/format/*": 100.0,
    "runtime/link/*": 100.0,
    "runtime/serving/protocol/*": 100.0,
    "*": 95.0,
}
"""The least share of lines, in percent, that tests run."""


def combined() -> coverage.Coverage:
    """Returns what all processes ran, with the files that none of them imported."""
    measured = coverage.Coverage(data_file=None, config_file=str(ROOT / "pyproject.toml"))
    measured.get_data().add_lines(lines := seen())
    measured.get_data().touch_files(lines)
    return measured


def main() -> int:
    """Prints lines that no test runs, and the share of each promise. Returns 1 where one is not kept."""
    measured = combined()
    measured.report(show_missing=True, skip_covered=True, file=sys.stdout)
    kept = True
    for files, least in PROMISED.items():
        share = measured.report(include=[str(ROOT / files)], file=io.StringIO())
        kept = kept and share >= least
        sys.stdout.write(f"{files}: {share:.2f} % of lines, wanted {least:.0f} %\n")
    return 0 if kept else 1


if __name__ == "__main__":
    sys.exit(main())
