import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runtime.errors import BadContent, InvalidKitfile, NoModel
from runtime.kit.format.digest import Digest
from runtime.kit.format.kitfile import Entry, Kitfile, ModelEntry, check_servable
from runtime.kit.format.manifest import Manifest
from tests.kit.golden import EVERY_KIT, IDS, Golden, golden

PIN = "sha256:" + "0f" * 32
OTHER = "sha256:" + "1e" * 32


def parse(**document: object) -> Kitfile:
    return Kitfile.parse_json(json.dumps(document).encode())


@pytest.mark.parametrize("kit", EVERY_KIT, ids=IDS)
def test_every_golden_kitfile_is_read(kit: Golden) -> None:
    kitfile = Kitfile.parse_json(kit.blob(kit.manifest["config"]["digest"]).read_bytes())
    assert kitfile.name == kit.config["package"].get("name", "")
    assert [entry.path for section, entry in kitfile.entries if section == "docs"] == [
        item["path"] for item in kit.config.get("docs", [])
    ]
    model = kit.config.get("model", {})
    assert (kitfile.model.framework if kitfile.model else "") == model.get("framework", "")
    assert (kitfile.model.parameters if kitfile.model else None) == model.get("parameters")


def test_texts_that_are_shown_have_a_bound() -> None:
    long = 5000 * "x"
    package = {"name": long, "version": long, "description": long, "license": long, "authors": 101 * [long]}
    kitfile = parse(package=package, model={"path": "m", "framework": long, "format": long})
    short = 255 * "x" + "…"
    assert (kitfile.name, kitfile.version, kitfile.license, kitfile.authors) == (short, short, short, 100 * (short,))
    assert kitfile.description == 4095 * "x" + "…"
    assert kitfile.model is not None
    assert (kitfile.model.framework, kitfile.model.format) == (short, short)


def test_every_field_is_read() -> None:
    kitfile = parse(
        manifestVersion="1.0.0",
        package={"name": "n", "version": "2.0", "description": "d", "license": "MIT", "authors": ["A", "B"]},
        model={
            "name": "m",
            "path": "./model/",
            "framework": "ONNX",
            "format": "onnx",
            "version": "1",
            "description": "x",
            "parts": [{"name": "labels", "path": "./labels.txt", "type": "labels", "digest": OTHER, "diffId": PIN}],
            "parameters": {"serving": {"labels": ["a"]}},
            "digest": PIN,
            "diffId": OTHER,
        },
    )
    part = Entry("labels.txt", Digest.parse(OTHER), Digest.parse(PIN))
    assert kitfile.model == ModelEntry(
        path="model",
        framework="ONNX",
        format="onnx",
        parts=(part,),
        parameters={"serving": {"labels": ["a"]}},
        digest=Digest.parse(PIN),
        diff_id=Digest.parse(OTHER),
    )
    assert (kitfile.name, kitfile.version, kitfile.description) == ("n", "2.0", "d")
    assert kitfile.about == {"package": "n 2.0", "description": "d", "authors": "A, B", "license": "MIT"}


def test_the_model_may_say_licence_and_description_and_nothing_has_to() -> None:
    said = {"license": "MIT", "description": "d"}
    assert parse(model={"path": "m", **said}).about == said
    assert parse(package={"authors": "nobody"}).about == {}


@pytest.mark.parametrize("where", ["serving", "model.serving", "parameters.serving", "package.serving"])
def test_a_block_that_nothing_reads_is_found(where: str) -> None:
    *outer, last = where.split(".")
    assert parse(**({outer[0]: {last: {}}} if outer else {last: {}})).misplaced == where
    assert parse(model={"path": "m", "parameters": {"serving": {}}}).misplaced == ""


def test_unknown_keys_are_left_alone() -> None:
    kitfile = parse(runtime={"a": 1}, package={"x": []}, model={"path": "m.onnx", "entrypoint": "f"})
    assert kitfile.model == ModelEntry(path="m.onnx")


@pytest.mark.parametrize("document", [{}, {"package": None, "model": None, "docs": None}, {"model": {}}])
def test_everything_may_be_missing(document: dict[str, object]) -> None:
    kitfile = parse(**document)
    assert (kitfile.name, kitfile.model, kitfile.layered) == ("", None, ())


def test_an_entry_without_a_path_is_the_folder_itself() -> None:
    assert parse(code=[{}]).code == (Entry("."),)


def test_a_remote_dataset_has_no_layer() -> None:
    kitfile = parse(datasets=[{"path": "data", "remotePath": "s3://b/k"}, {"path": "d.csv", "digest": PIN}])
    assert [entry.remote for _, entry in kitfile.entries] == [True, False]
    assert [entry.path for entry in kitfile.layered] == ["d.csv"]


INVALID = {
    "list": (b"[]", "the Kitfile in the kit's config is not a JSON object"),
    "text": (b"x", "the Kitfile in the kit's config is not JSON: Expecting value: line 1 column 1 (char 0)"),
    "big": (
        b" " * (4 << 20) + b"{}",
        "the Kitfile in the kit's config has more than the 4194304 bytes that are read",
    ),
    "package": (b'{"package":[]}', "the Kitfile's package is not a map"),
    "model": (b'{"model":"m.onnx"}', "the Kitfile's model is not a map"),
    "name": (b'{"package":{"name":["a"]}}', "the Kitfile's package.name is not text"),
    "boolean": (b'{"model":{"framework":true}}', "the Kitfile's model.framework is not text"),
    "code": (b'{"code":{"path":"a"}}', "the Kitfile's code is not a list"),
    "code-item": (b'{"code":["a"]}', "the Kitfile's code[0] is not a map with a path"),
    "part-path": (
        b'{"model":{"parts":[{"path":"/a"}]}}',
        "the Kitfile's model.parts[0].path is absolute, '/a'; wanted a path inside the kit",
    ),
    "model-path": (b'{"model":{"path":"../a"}}', "the Kitfile's model.path leaves the kit's folder: '../a'"),
    "model-address": (
        b'{"model":{"path":"s3://b/k"}}',
        "the Kitfile's model.path is an address, 's3://b/k'; wanted a path inside the kit",
    ),
    "docs-path": (
        b'{"docs":[{"path":"a"},{"path":"b/../.."}]}',
        "the Kitfile's docs[1].path leaves the kit's folder: 'b/../..'",
    ),
    "digest": (
        b'{"code":[{"path":"a","digest":"sha256:0f"}]}',
        "the Kitfile's code[0].digest is bad: sha256 has 64 hexadecimal digits, this one 2",
    ),
    "diff-id": (
        b'{"model":{"path":"a","diffId":"x"}}',
        "the Kitfile's model.diffId is bad: a digest is written sha256: and 64 hexadecimal digits",
    ),
}


@pytest.mark.parametrize(("raw", "message"), INVALID.values(), ids=INVALID.keys())
def test_an_invalid_kitfile_says_where(raw: bytes, message: str) -> None:
    with pytest.raises(InvalidKitfile) as caught:
        Kitfile.parse_json(raw)
    assert str(caught.value) == message


def test_digests_for_some_entries_only_are_refused() -> None:
    with pytest.raises(InvalidKitfile) as caught:
        parse(model={"path": "m.onnx", "digest": PIN}, code=[{"path": "src"}])
    assert str(caught.value) == (
        "the Kitfile gives a digest for some entries and none for 'src', so its layers cannot be told apart; "
        "pack the kit again"
    )


@pytest.mark.parametrize(
    "document",
    [
        {"model": {"path": "h.x/base:1"}, "docs": [{"path": "a", "digest": PIN}]},
        {"model": {"name": "no path"}, "docs": [{"path": "a", "digest": PIN}]},
        {"datasets": [{"path": "a", "remotePath": "s3://b/k"}, {"path": "b", "digest": PIN}]},
    ],
    ids=["parent", "no-path", "remote"],
)
def test_entries_without_a_layer_need_no_digest(document: dict[str, object]) -> None:
    assert len(parse(**document).layered) == 1


def test_a_model_path_is_a_parent_unless_it_has_a_layer() -> None:
    path = "./models/film_slm:champion"
    layers = Manifest.parse(golden("base").blob(golden("base").digest).read_bytes(), expected=None).layers
    raw = json.dumps({"model": {"path": path}}).encode()
    assert Kitfile.parse_json(raw).model == ModelEntry(parent=path)
    assert Kitfile.parse_json(raw, layers).model == ModelEntry(path="models/film_slm:champion")
    pinned = parse(model={"path": path, "digest": PIN}).model
    assert pinned == ModelEntry(path="models/film_slm:champion", digest=Digest.parse(PIN))


UNSERVABLE = {
    "empty": ({"package": {"name": "empty"}}, "kit 'empty' has no model to serve, nor anything else"),
    "nameless": ({}, "the kit has no model to serve, nor anything else"),
    "dataset": (
        {"package": {"name": "data"}, "datasets": [{"path": "data.csv"}]},
        "kit 'data' has no model to serve, only dataset 'data.csv'",
    ),
    "many": (
        {"code": [{"path": p} for p in "abcd"], "docs": [{"path": "e"}], "prompts": [{"path": "f"}, {"path": "g"}]},
        "the kit has no model to serve, only code 'a', code 'b', code 'c', code 'd', docs 'e', …",
    ),
    "no-path": (
        {"model": {"name": "m", "parts": [{"path": "p"}]}},
        "the kit has no model to serve, only part 'p'",
    ),
}


@pytest.mark.parametrize(("document", "message"), UNSERVABLE.values(), ids=UNSERVABLE.keys())
def test_a_kit_without_a_model_says_what_it_holds(document: dict[str, object], message: str) -> None:
    with pytest.raises(NoModel) as caught:
        check_servable(parse(**document))
    assert str(caught.value) == f"{message}; give model.path in the Kitfile and pack it again"


@pytest.mark.parametrize("model", [{}, {"path": f"h.x/{'a' * 9999}:v1"}, {"parts": [{"path": "a" * 9999}]}])
def test_a_refusal_is_a_line_however_long_the_names_are(model: dict[str, object]) -> None:
    with pytest.raises(BadContent) as caught:
        check_servable(parse(package={"name": "n" * 9999}, model=model))
    assert len(str(caught.value)) < 600


def test_a_kit_with_a_model_is_servable() -> None:
    check_servable(parse(model={"path": "."}))


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=3),
    max_leaves=8,
)
KEYS = st.sampled_from(["manifestVersion", "package", "model", "code", "datasets", "docs", "prompts", "path", "digest"])


@pytest.mark.slow
@given(st.dictionaries(KEYS, JSON | st.dictionaries(KEYS, JSON), max_size=4))
def test_any_json_is_read_or_refused(document: dict[str, object]) -> None:
    raw = json.dumps(document).encode()
    try:
        kitfile = Kitfile.parse_json(raw)
    except InvalidKitfile:
        return
    assert not [entry.path for _, entry in kitfile.entries if entry.path.startswith(("/", "../"))]
