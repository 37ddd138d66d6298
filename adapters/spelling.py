"""How people write the name of a framework, read."""

from __future__ import annotations

import re


def spellings(text: str) -> tuple[str, ...]:
    """What `Scikit-learn`, `sklearn:1.3.0`, `torch==2.1` may mean, most exact first: case-folded, version cut."""
    whole = re.sub(r"[\s_]+", "-", text.strip().casefold())
    cut = re.split(r"[:=<>~!@/;,(\s]", text.strip().casefold(), maxsplit=1)[0]
    bare = re.sub(r"[-_]?v?\d+(\.\d+)*$", "", cut)
    return tuple(dict.fromkeys(form.strip("-").removeprefix(".") for form in (whole, cut, bare) if form.strip("-.")))
