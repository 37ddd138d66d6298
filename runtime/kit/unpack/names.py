"""The names in a kit's folder: no two of them can mean the same file on any disk.

Names that differ only in case or in Unicode form are one file on some disks and two on others, so they are refused.
"""

import unicodedata

from runtime.kit.format.limits import UnpackLimits
from runtime.kit.format.paths import Parts


class Names:
    """The files and folders of one kit, over all of its layers. `folders` tells of each whether it is a folder."""

    def __init__(self, limits: UnpackLimits) -> None:
        self.folders: dict[Parts, bool] = {}
        self._limits, self._left_folders = limits, limits.folders
        self._written: dict[Parts, Parts] = {}  # as they were written, by their folded form

    def add(self, parts: Parts, *, is_folder: bool) -> list[Parts]:
        """Adds a folder, or a file, which must be new. Returns the new folders, outermost first. Raises ValueError."""
        new: list[Parts] = []
        folded = tuple(map(_folded, parts))
        folded = parts if folded == parts else folded  # one object for both: there may be 100,000
        for depth, part in enumerate(parts, 1):
            wanted = is_folder or depth < len(parts)
            found = self._written.get(folded[:depth])
            if found is None:
                if len(self.folders) == self._limits.members:
                    raise ValueError(f"the kit has more than {self._limits.members} files and folders")
                self._written[folded[:depth]] = found = parts[:depth]
                self.folders[found] = wanted
                if wanted:
                    new.append(found)
                    self._left_folders -= 1
                    if self._left_folders < 0:
                        raise ValueError(f"the kit has more than {self._limits.folders} folders")
            elif found[-1] != part:
                raise ValueError(f"{part!r} and {found[-1]!r} are the same name on some disks")
            elif not wanted:
                raise ValueError("it is a folder already" if self.folders[found] else "it is there already")
            elif not self.folders[found]:
                raise ValueError(f"{'/'.join(found)!r} is a file already")
        return new


def _folded(part: str) -> str:
    # Unicode's canonical caseless matching: https://www.unicode.org/versions/Unicode15.0.0/ch03.pdf, definition 145
    if part.isascii():
        return part.lower()
    return unicodedata.normalize("NFC", unicodedata.normalize("NFD", part).casefold())
