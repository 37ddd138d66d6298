import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runtime.kit.format.limits import UnpackLimits
from runtime.kit.unpack.names import Names

LIMITS = UnpackLimits()


def add(names: Names, path: str) -> list[str]:
    """Add a folder if the path ends with a slash, else a file; gives the new folders."""
    parts = tuple(path.rstrip("/").split("/"))
    return ["/".join(new) for new in names.add(parts, is_folder=path.endswith("/"))]


def test_folders_are_new_once() -> None:
    names = Names(LIMITS)
    assert add(names, "a/b/c.txt") == ["a", "a/b"]
    assert add(names, "a/") == []
    assert add(names, "a/b/") == []
    assert add(names, "a/d/") == ["a/d"]
    assert names.folders == {("a",): True, ("a", "b"): True, ("a", "b", "c.txt"): False, ("a", "d"): True}


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
    names.add((name,), is_folder=False)
    for form in ("NFC", "NFD"):
        for other in (unicodedata.normalize(form, name), unicodedata.normalize(form, name.casefold())):
            with pytest.raises(ValueError, match=r"."):
                names.add((other,), is_folder=False)
