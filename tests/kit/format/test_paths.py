import pytest

from runtime.errors import InvalidKitfile
from runtime.kit.format.limits import UnpackLimits
from runtime.kit.format.paths import checked_parts, clean_path, entry_path, lies_under

LIMITS = UnpackLimits()
CLEANED = {
    "file": ("model.onnx", "model.onnx"),
    "dot-slash": ("./model/iris.onnx", "model/iris.onnx"),
    "folder-slash": ("./model/", "model"),
    "empty": ("", "."),
    "dot": (".", "."),
    "double-slash": ("a//b", "a/b"),
    "inner-climb": ("a/x/../b", "a/b"),
    "dots-in-name": ("src/v1..2.py", "src/v1..2.py"),
    "name-of-dots": ("...", "..."),
    "colon": ("./models/film_slm:champion", "models/film_slm:champion"),
    "not-ascii": ("models/naïve ünïcode.txt", "models/naïve ünïcode.txt"),
}

REFUSED = {
    "absolute": ("/etc/passwd", "the Kitfile's x is absolute, '/etc/passwd'; wanted a path inside the kit"),
    "two-slashes": ("//etc", "the Kitfile's x is absolute, '//etc'; wanted a path inside the kit"),
    "climb": ("../x", "the Kitfile's x leaves the kit's folder: '../x'"),
    "above": ("..", "the Kitfile's x leaves the kit's folder: '..'"),
    "climb-later": ("data/../../x", "the Kitfile's x leaves the kit's folder: 'data/../../x'"),
    "s3": ("s3://b/k", "the Kitfile's x is an address, 's3://b/k'; wanted a path inside the kit"),
    "https": ("https://h/x", "the Kitfile's x is an address, 'https://h/x'; wanted a path inside the kit"),
    "backslash": ("C:\\m", "the Kitfile's x has a backslash or a control character in it: 'C:\\\\m'"),
    "nul": ("a\0b", "the Kitfile's x has a backslash or a control character in it: 'a\\x00b'"),
    "line-separator": ("a\u2028b", "the Kitfile's x has a backslash or a control character in it: 'a\\u2028b'"),
    "long": ("n" * 1025, "the Kitfile's x has 1025 characters, at most 1024 are read"),
    "newline": ("a\nb", "the Kitfile's x has a backslash or a control character in it: 'a\\nb'"),
}


@pytest.mark.parametrize(("text", "cleaned"), CLEANED.values(), ids=CLEANED.keys())
def test_a_path_is_cleaned(text: str, cleaned: str) -> None:
    assert clean_path(text, "x") == cleaned


@pytest.mark.parametrize(("text", "message"), REFUSED.values(), ids=REFUSED.keys())
def test_a_path_that_is_not_inside_the_kit_is_refused(text: str, message: str) -> None:
    with pytest.raises(InvalidKitfile) as caught:
        clean_path(text, "x")
    assert str(caught.value) == message


# --- members of archives

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
    assert lies_under(tuple(name.split("/")), entry_path(entry), is_folder=is_folder) is expected
