"""The names in a kit's folder: which are allowed, and that no two of them can mean the same file anywhere.

Names that differ in case or in Unicode form only are one file on some disks and two on others, so they are refused.
"""

import unicodedata

from runtime.kit.unpack.expand import UnpackLimits

Parts = tuple[str, ...]

_UNFIT = ("Cc", "Cs", "Zl", "Zp")  # Unicode's controls, half surrogate pairs, line and paragraph separators


def checked_parts(name: str, limits: UnpackLimits) -> Parts:
    """Split a relative path into its components. Raises ValueError with the reason that it is none."""
    if name.startswith("/"):
        raise ValueError("it is absolute")
    if unfit := unfit_character(name):
        raise ValueError(f"it holds the character U+{ord(unfit):04X}")
    parts = tuple(name.split("/"))
    if ".." in parts:
        raise ValueError("it has a '..' component")
    if "" in parts or "." in parts:
        raise ValueError("it has a component that is empty or '.'")
    if len(parts) > limits.depth:
        raise ValueError(f"it is {len(parts)} levels deep, at most {limits.depth} are allowed")
    longest = max(len(part.encode()) for part in parts)
    if longest > limits.component_bytes or len(name.encode()) > limits.path_bytes:
        raise ValueError(
            f"it is longer than {limits.path_bytes} bytes, or than {limits.component_bytes} in one component"
        )
    return parts


def unfit_character(name: str) -> str | None:
    """Give the first character that no path of a kit may have: a backslash, or one that is no text."""
    if name.isprintable() and "\\" not in name:
        return None
    return next((letter for letter in name if letter == "\\" or unicodedata.category(letter) in _UNFIT), None)


def lies_under(parts: Parts, entry: Parts, *, is_folder: bool) -> bool:
    """Tell whether a member belongs to an entry's path: it, something below it, or a folder above it."""
    return parts[: len(entry)] == entry or (is_folder and entry[: len(parts)] == parts)


class Names:
    """The tree of names of one kit, over all of its layers."""

    def __init__(self, limits: UnpackLimits) -> None:
        self._limits = limits
        self._root: dict[str, _Name] = {}
        self._count = 0

    def add_folder(self, parts: Parts) -> list[Parts]:
        """Note a folder and those above it; gives the ones that are new, outermost first. Raises ValueError."""
        new: list[Parts] = []
        level = self._root
        for depth, part in enumerate(parts, 1):
            found = level.get(_folded(part))
            if found is None:
                found = self._noted(level, part, {})
                new.append(parts[:depth])
            _check_same(found, part)
            if found.inside is None:
                raise ValueError(f"{'/'.join(parts[:depth])!r} is a file already")
            level = found.inside
        return new

    def add_file(self, parts: Parts) -> list[Parts]:
        """Note a file, which must be new; gives the folders above it that are. Raises ValueError."""
        new = self.add_folder(parts[:-1])
        level = self._level(parts[:-1])
        if found := level.get(_folded(parts[-1])):
            _check_same(found, parts[-1])
            raise ValueError("it is a folder already" if found.inside is not None else "it is there already")
        self._noted(level, parts[-1], None)
        return new

    def inside(self, parts: Parts) -> dict[str, bool]:
        """Give what is directly inside a folder that has been noted: names, and whether each is a folder."""
        return {name.text: name.inside is not None for name in self._level(parts).values()}

    def _level(self, parts: Parts) -> "dict[str, _Name]":
        level = self._root
        for part in parts:
            inside = level[_folded(part)].inside
            level = {} if inside is None else inside
        return level

    def _noted(self, level: "dict[str, _Name]", part: str, inside: "dict[str, _Name] | None") -> "_Name":
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
    """Give the form in which names that some disk takes for the same are equal (Unicode 15, canonical caseless)."""
    if part.isascii():
        return part.lower()
    return unicodedata.normalize("NFC", unicodedata.normalize("NFD", part).casefold())
