import pytest
from hypothesis import given
from hypothesis import strategies as st

from runtime.errors import InvalidKitfile
from runtime.kit.format.kitfile import Kitfile
from runtime.kit.format.kitfile_yaml import read_yaml


def test_scalars_are_their_literal_text() -> None:
    text = 'package: {version: 1.0, name: 0x10, license: yes, description: "1", authors: [2024-01-01, 1e3]}'
    assert read_yaml(text)["package"] == {
        "version": "1.0",
        "name": "0x10",
        "license": "yes",
        "description": "1",
        "authors": ["2024-01-01", "1e3"],
    }


def test_null_is_null_everywhere() -> None:
    assert read_yaml("a: ~\nb:\nc: null\nd: 'null'\n") == {"a": None, "b": None, "c": None, "d": "null"}


VALUES = {
    "1": 1,
    "-7": -7,
    "0xFF": 255,
    "0o17": 15,
    "017": 15,
    "0b11": 3,
    "18446744073709551615": 18446744073709551615,
    "1.0": 1.0,
    "1e3": 1000.0,
    ".5": 0.5,
    "true": True,
    "False": False,
    "yes": "yes",
    "off": "off",
    "null": None,
    "2024-01-01": "2024-01-01",
    "08": 8.0,
    ".inf": ".inf",
    "'1'": "1",
    "!!python/object:os.system x": "x",
    "!!binary aGk=": "aGk=",
}


@pytest.mark.parametrize(("text", "value"), VALUES.items(), ids=VALUES.keys())
def test_values_under_parameters_are_json(text: str, value: object) -> None:
    assert read_yaml(f"model: {{parameters: {{a: {text}}}}}")["model"] == {"parameters": {"a": value}}


def test_datasets_have_parameters_too() -> None:
    assert read_yaml("datasets: [{path: 1, parameters: [1, {x: 2}]}]")["datasets"] == [
        {"path": "1", "parameters": [1, {"x": 2}]}
    ]


def test_anchors_and_merges_work() -> None:
    text = (
        "base: &b {license: MIT, path: x}\nother: &c {path: z, type: t}\ncode: [{<<: *b, path: y}, {<<: [*c, *b]}, *b]"
    )
    assert read_yaml(text)["code"] == [
        {"license": "MIT", "path": "y"},
        {"license": "MIT", "path": "z", "type": "t"},
        {"license": "MIT", "path": "x"},
    ]


def test_json_is_yaml() -> None:
    assert read_yaml('{"model": {"path": "m.onnx", "parameters": {"a": [1, 2.5, null]}}}') == {
        "model": {"path": "m.onnx", "parameters": {"a": [1, 2.5, None]}}
    }


def test_a_kitfile_as_people_write_it() -> None:
    kitfile = Kitfile.parse_yaml(
        "manifestVersion: v1.0.0  # as in the docs\npackage: {name: flight, version: 1.0, authors: [Team]}\n"
        "model: {name: classifier, path: ./models/c.joblib, framework: sklearn:1.3.0, version: 1.0}\n"
        "code: [{path: ./notebooks, description: training}]\n"
    )
    assert kitfile.model is not None
    assert (kitfile.model.path, kitfile.model.framework) == ("models/c.joblib", "sklearn:1.3.0")
    assert kitfile.version == "1.0"
    assert [entry.path for entry in kitfile.code] == ["notebooks"]


def test_a_file_with_a_colon_is_a_path_where_it_is_there() -> None:
    text = "model: {path: './models/film_slm:champion'}"
    here, elsewhere = Kitfile.parse_yaml(text, is_file=lambda _path: True), Kitfile.parse_yaml(text)
    assert here.model is not None
    assert elsewhere.model is not None
    assert (here.model.path, here.model.parent) == ("models/film_slm:champion", None)
    assert (elsewhere.model.path, elsewhere.model.parent) == (None, "./models/film_slm:champion")


def bomb(levels: int) -> str:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, levels)]
    return "\n".join(lines)


REFUSED = {
    "syntax": ("a: [", "the Kitfile is not YAML: while parsing a flow node"),
    "list": ("[a]", "the Kitfile is not a YAML map"),
    "text": ("hello", "the Kitfile is not a YAML map"),
    "two-documents": ("a: 1\n---\nb: 2", "the Kitfile is not YAML: expected a single document"),
    "repeated-key": ("a: 1\na: 2", "the Kitfile is not YAML: the key 'a' occurs twice in one map"),
    "key-list": ("? [a]\n: 1", "the Kitfile is not YAML: a key is not text"),
    "merge-text": ("<<: x", "the Kitfile is not YAML: '<<' merges something that is not a map"),
    "control": ("a: \x07", "the Kitfile is not YAML: unacceptable character #x0007"),
    "bomb": (bomb(9), "the Kitfile is not YAML: more than 100000 values, or more than 64 levels"),
    "cycle": ("a: &a [*a]", "the Kitfile is not YAML: more than 100000 values, or more than 64 levels"),
    "deep": ("[\n" * 5000, "the Kitfile is not YAML: nested too deeply"),
    "levels": ("a: " + "[" * 70 + "]" * 70, "the Kitfile is not YAML: more than 100000 values, or more than 64 levels"),
    "huge-number": ("parameters: 1e999", "the Kitfile is not YAML: the number 1e999 is too large"),
    "huge-hexadecimal": (f"parameters: 0x{'f' * 9999}", "the Kitfile is not YAML: Exceeds the limit"),
    "unknown-alias": ("a: *b", "the Kitfile is not YAML: found undefined alias"),
}


@pytest.mark.parametrize(("text", "beginning"), REFUSED.values(), ids=REFUSED.keys())
def test_a_bad_kitfile_is_refused_in_one_line(text: str, beginning: str) -> None:
    with pytest.raises(InvalidKitfile) as caught:
        Kitfile.parse_yaml(text)
    assert str(caught.value).startswith(beginning)
    assert "\n" not in str(caught.value)


def test_an_empty_kitfile_is_empty() -> None:
    assert read_yaml("") == {}
    assert read_yaml("# nothing\n") == {}


@given(st.text(max_size=60) | st.text(alphabet="ab:-[]{}&*<!'\"#|> \n,?", max_size=60))
def test_any_text_is_read_or_refused(text: str) -> None:
    try:
        Kitfile.parse_yaml(text)
    except InvalidKitfile as refusal:
        message = str(refusal)
    else:
        message = ""
    assert "\n" not in message
