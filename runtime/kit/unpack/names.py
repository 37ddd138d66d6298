"""The names in a kit's folder: no two of them can mean the same file on any disk.

Names that differ only in case or in Unicode form are one file on some disks and two on others, so they are refused.
"""

import unicodedata

from runtime.kit.format.limits import UnpackLimits
from runtime.kit.format.paths import Parts


class Names:
    """The tree of names of one kit, over all of its layers."""

    def __init__(self, limits: UnpackLimits) -> None:
        self._limits = limits
        self._root: dict[str, _Name] = {}
        self._count = 0

    def add_folder(self, parts: Parts) -> list[Parts]:
        """Adds a folder and those above it. Returns the new ones, outermost first. Raises ValueError."""
        new: list[Parts] = []
        level = self._root
        for depth, part in enumerate(parts, 1):
            found = level.get(_folded(part))
            if found is None:
                found = self._add(level, part, {})
                new.append(parts[:depth])
            _check_same(found, part)
            if found.inside is None:
                raise ValueError(f"{'/'.join(parts[:depth])!r} is a file already")
            level = found.inside
        return new

    def add_file(self, parts: Parts) -> list[Parts]:
        """Adds a file, which must be new. Returns the folders above it that are new. Raises ValueError."""
        new = self.add_folder(parts[:-1])
        level = self._level(parts[:-1])
        if found := level.get(_folded(parts[-1])):
            _check_same(found, parts[-1])
            raise ValueError("it is a folder already" if found.inside is not None else "it is there already")
        self._add(level, parts[-1], None)
        return new

    def inside(self, parts: Parts) -> dict[str, bool]:
        """Returns the names directly inside a folder that was added, and whether each is a folder."""
        return {name.text: name.inside is not None for name in self._level(parts).values()}

    def _level(self, parts: Parts) -> "dict[str, _Name]":
        level = self._root
        for part in parts:
            inside = level[_folded(part)].inside
            level = {} if inside is None else inside
        return level

    def _add(self, level: "dict[str, _Name]", part: str, inside: "dict[str, _Name] | None") -> "_Name":
        self._count += 1
        if self._count > self._limits.members:
            raise ValueError(f"the kit has more than {self._limits.members} files and folders")
        level[_folded(part)] = name = _Name(part, inside)
        return name


class _Name:
    """One component as written, and what is inside it; None for a file."""

    __slots__ = ("inside", "text")

    def __init__(self, text: str, inside: "dict[str, _Name] | None") -> None:
        self.text = text
        self.inside = inside


def _check_same(found: _Name, part: str) -> None:
    if found.text != part:
        raise ValueError(f"{part!r} and {found.text!r} are the same name on some disks")


def _folded(part: str) -> str:
    """Returns a form in which names that some disk takes for the same are equal: Unicode's canonical caseless matching.

    https://www.unicode.org/versions/Unicode15.0.0/ch03.pdf, definition 145
    """
    if part.isascii():
        return part.lower()
    return unicodedata.normalize("NFC", unicodedata.normalize("NFD", part).casefold())
