import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runtime.kit.unpack.expand import UnpackLimits
from runtime.kit.unpack.names import Names, checked_parts, lies_under

LIMITS = UnpackLimits()
DEEP = "/".join(["d"] * 33)
LONG = "/".join(["n" * 250] * 5)

GOOD = [
    "a",
    "a/b.txt",
    "v1..2.py",
    "...",
    "..a",
    "a..",
    " ",
    "naïve ünïcode.txt",
    "a:b",
    "n" * 255,
    "/".join(["d"] * 32),
]

BAD = {
    "empty": ("", "it has a component that is empty or '.'"),
    "absolute": ("/a", "it is absolute"),
    "two-slashes": ("//a", "it is absolute"),
    "climb": ("../a", "it has a '..' component"),
    "climb-inside": ("a/../b", "it has a '..' component"),
    "climb-at-end": ("a/..", "it has a '..' component"),
    "only-climb": ("..", "it has a '..' component"),
    "dot": (".", "it has a component that is empty or '.'"),
    "dot-leaf": ("a/.", "it has a component that is empty or '.'"),
    "dot-slash": ("./a", "it has a component that is empty or '.'"),
    "empty-component": ("a//b", "it has a component that is empty or '.'"),
    "empty-leaf": ("a/", "it has a component that is empty or '.'"),
    "nul": ("a\0b", "it holds the character U+0000"),
    "newline": ("a\nb", "it holds the character U+000A"),
    "escape": ("\x1b[2J", "it holds the character U+001B"),
    "delete": ("a\x7f", "it holds the character U+007F"),
    "c1": ("a\x9b", "it holds the character U+009B"),
    "line-separator": ("a\u2028b", "it holds the character U+2028"),
    "backslash": ("a\\b", "it holds the character U+005C"),
    "deep": (DEEP, "it is 33 levels deep, at most 32 are allowed"),
    "long": (LONG, "it is longer than 1024 bytes, or than 255 in one component"),
    "long-component": ("n" * 256, "it is longer than 1024 bytes, or than 255 in one component"),
    "long-in-bytes": ("ü" * 128, "it is longer than 1024 bytes, or than 255 in one component"),
}


@pytest.mark.parametrize("name", GOOD, ids=[name[:20] for name in GOOD])
def test_a_good_name_is_split(name: str) -> None:
    assert "/".join(checked_parts(name, LIMITS)) == name


@pytest.mark.parametrize(("name", "reason"), BAD.values(), ids=BAD.keys())
def test_a_bad_name_is_refused(name: str, reason: str) -> None:
    with pytest.raises(ValueError) as caught:  # noqa: PT011 - the whole message is compared below
        checked_parts(name, LIMITS)
    assert str(caught.value) == reason


UNDER = {
    "itself": ("a/b", "a/b", False, True),
    "inside": ("a/b/c", "a/b", False, True),
    "inside-folder": ("a/b/c", "a/b", True, True),
    "above-folder": ("a", "a/b", True, True),
    "above-file": ("a", "a/b", False, False),
    "beside": ("a/bc", "a/b", False, False),
    "elsewhere": ("x", "a/b", True, False),
    "everything": ("x/y", ".", False, True),
}


@pytest.mark.parametrize(("name", "entry", "is_folder", "expected"), UNDER.values(), ids=UNDER.keys())
def test_a_member_belongs_to_its_entry(name: str, entry: str, is_folder: bool, expected: bool) -> None:
    parts = () if entry == "." else tuple(entry.split("/"))
    assert lies_under(tuple(name.split("/")), parts, is_folder=is_folder) is expected


def add(names: Names, path: str) -> list[str]:
    """Add a folder if the path ends with a slash, else a file; gives the new folders."""
    parts = tuple(path.rstrip("/").split("/"))
    return ["/".join(new) for new in (names.add_folder(parts) if path.endswith("/") else names.add_file(parts))]


def test_folders_are_new_once() -> None:
    names = Names(LIMITS)
    assert add(names, "a/b/c.txt") == ["a", "a/b"]
    assert add(names, "a/") == []
    assert add(names, "a/b/") == []
    assert add(names, "a/d/") == ["a/d"]
    assert names.inside(()) == {"a": True}
    assert names.inside(("a", "b")) == {"c.txt": False}


CLASHES = {
    "twice": (["a"], "a", "it is there already"),
    "folder-then-file": (["a/"], "a", "it is a folder already"),
    "implied-folder-then-file": (["a/b"], "a", "it is a folder already"),
    "file-then-folder": (["a"], "a/", "'a' is a file already"),
    "file-then-inside": (["x/a"], "x/a/b", "'x/a' is a file already"),
    "case": (["Model.onnx"], "model.onnx", "'model.onnx' and 'Model.onnx' are the same name on some disks"),
    "case-of-folder": (["A/x"], "a/y", "'a' and 'A' are the same name on some disks"),
    "case-file-folder": (["A"], "a/", "'a' and 'A' are the same name on some disks"),
    "sharp-s": (["straße"], "STRASSE", "'STRASSE' and 'straße' are the same name on some disks"),
    "unicode-form": (["é"], "e\u0301", "'e\u0301' and 'é' are the same name on some disks"),
    "unicode-form-and-case": (["É"], "e\u0301", "'e\u0301' and 'É' are the same name on some disks"),
}


@pytest.mark.parametrize(("before", "name", "reason"), CLASHES.values(), ids=CLASHES.keys())
def test_names_that_some_disk_takes_for_the_same_are_refused(before: list[str], name: str, reason: str) -> None:
    names = Names(LIMITS)
    for other in before:
        add(names, other)
    with pytest.raises(ValueError) as caught:  # noqa: PT011 - the whole message is compared below
        add(names, name)
    assert str(caught.value) == reason


def test_implied_folders_count() -> None:
    names = Names(UnpackLimits(members=4))
    add(names, "a/b/c/d")
    with pytest.raises(ValueError, match="the kit has more than 4 files and folders"):
        add(names, "e")


@given(st.text(st.characters(blacklist_categories=("Cs", "Cc")), min_size=1, max_size=8))
def test_every_unicode_form_of_a_name_clashes_with_it(name: str) -> None:
    names = Names(LIMITS)
    names.add_file((name,))
    for form in ("NFC", "NFD"):
        for other in (unicodedata.normalize(form, name), unicodedata.normalize(form, name.casefold())):
            with pytest.raises(ValueError, match=r"."):
                names.add_file((other,))
