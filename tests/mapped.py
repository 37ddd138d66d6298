"""How much of a file a process has in memory."""

from __future__ import annotations

import re
from pathlib import Path


def of_file(path: Path, process: int | str = "self") -> tuple[int, int]:
    """KiB of the file that a process has mapped and in RAM, and those of them that are its own copies."""
    resident = copied = 0
    for mapping in re.split(
        r"^(?=[0-9a-f]+-[0-9a-f]+ )", Path(f"/proc/{process}/smaps").read_text(), flags=re.MULTILINE
    ):
        if mapping.partition("\n")[0].endswith(f" {path}"):
            sizes = {name: int(kib) for name, kib in re.findall(r"^(Rss|Anonymous): +(\d+)", mapping, re.MULTILINE)}
            resident, copied = resident + sizes["Rss"], copied + sizes["Anonymous"]
    return resident, copied
