import pytest

from runtime.errors import InvalidKitfile
from runtime.kit.format.paths import clean_path, is_kit_reference

HEX = "0f" * 32

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

# the table of KitOps' rules: `pkg/lib/repo/util/kitfile.go`
REFERENCES = {
    "jozu.ml/jozu/llama3-8b:8B-instruct-q5_0": True,
    "test-ref:model-1": True,
    f"org/base@sha256:{HEX}": True,
    f"h.x/base:v1@sha256:{HEX}": True,
    "localhost:5050/kits/base:1.0": True,
    "./models/film_slm:champion": True,
    "weights:final.bin": True,
    "a:b.onnx": True,
    "Models/a:b": False,
    "model@2.onnx": False,
    "C:\\m": False,
    "s3://b/k": False,
    "model/iris.onnx": False,
    "a:b:c": False,
    "a:b/c": False,
    "h.x/a:": False,
    "": False,
}


@pytest.mark.parametrize(("text", "cleaned"), CLEANED.values(), ids=CLEANED.keys())
def test_a_path_is_cleaned(text: str, cleaned: str) -> None:
    assert clean_path(text, "x") == cleaned


@pytest.mark.parametrize(("text", "message"), REFUSED.values(), ids=REFUSED.keys())
def test_a_path_that_is_not_inside_the_kit_is_refused(text: str, message: str) -> None:
    with pytest.raises(InvalidKitfile) as caught:
        clean_path(text, "x")
    assert str(caught.value) == message


@pytest.mark.parametrize(("text", "expected"), REFERENCES.items(), ids=REFERENCES.keys())
def test_a_reference_to_another_kit_is_told_from_a_path_as_kit_does(text: str, expected: bool) -> None:
    assert is_kit_reference(text) is expected
