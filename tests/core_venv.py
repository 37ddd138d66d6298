"""A virtual environment as `pip install .` or one of its extras makes it, made of links to what is installed here."""

from __future__ import annotations

import subprocess
import sys
from importlib.metadata import distribution
from pathlib import Path

from packaging.requirements import Requirement

from tests.places import ROOT


def make(folder: Path, extra: str = "") -> Path:
    """Makes it in `folder`; gives its interpreter. What is linked lies outside: run it with `--sandbox off`."""
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(folder)], check=True)
    (site,) = folder.glob("lib/python*/site-packages")
    (site / "runtime.pth").write_text(f"{ROOT}\n")
    for name in _closure("modelkit-runtime", extra) - {"modelkit-runtime"}:
        found = distribution(name)
        tops = {path.parts[0] for path in found.files or () if path.parts[0] not in ("..", "__pycache__")}
        for top in tops:
            if not (site / top).exists():
                (site / top).symlink_to(found.locate_file(top))
    return folder / "bin" / "python"


def _closure(name: str, extra: str) -> set[str]:
    names, left = set[str](), [name]
    while left:
        name = left.pop()
        if name in names:
            continue
        names.add(name)
        wanted = map(Requirement, distribution(name).requires or ())
        left += [each.name for each in wanted if each.marker is None or each.marker.evaluate({"extra": extra})]
        extra = ""  # of the first one alone
    return names
