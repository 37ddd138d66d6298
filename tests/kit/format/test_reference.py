from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from runtime.errors import InvalidReference
from runtime.kit.format.digest import Digest
from runtime.kit.format.reference import Reference, is_kit_reference, newest

HEX = "0f" * 32
PIN = f"sha256:{HEX}"
WAYS = "write HOST/REPOSITORY:TAG (reg.example.com/org/model:v1), oci:FOLDER:TAG, oci-archive:FILE.tar:TAG or ./FOLDER"
NO_REFERENCE = "is not a reference:"
TAG_RULE = "a tag has 1 to 128 letters, digits, '_', '.' and '-', the first not '.' or '-'"
NAME_RULE = "a served name has letters, digits, '.', '_' and '-' only"
REPOSITORY_RULE = "each component has letters a-z and digits, single '.', '_' or '__' and any '-' between them"
HOST_RULE = "is not a valid host name; write HOST or HOST:PORT, the port from 1 to 65535"
CREDENTIALS = (
    "the reference has an '@' in front of its first '/'; credentials do not belong into a reference, "
    "log in with a Docker config.json instead"
)

# text, kind, host, repository or path, tag, digest, served name, canonical text
GOOD = {
    "slogan": ("registry/org/model:v3", "registry", "registry", "org/model", "v3", None, "model", None),
    "dot": ("jozu.ml/m:1", "registry", "jozu.ml", "m", "1", None, "m", None),
    "port": ("reg:5000/m:1", "registry", "reg:5000", "m", "1", None, "m", None),
    "localhost": ("localhost/m:1", "registry", "localhost", "m", "1", None, "m", None),
    "localhost-port": (
        "localhost:5050/kits/base:1.0",
        "registry",
        "localhost:5050",
        "kits/base",
        "1.0",
        None,
        "base",
        None,
    ),
    "address": ("127.0.0.1:5000/a/b:1", "registry", "127.0.0.1:5000", "a/b", "1", None, "b", None),
    "ipv6": ("[::1]:5000/m:v1", "registry", "[::1]:5000", "m", "v1", None, "m", None),
    "docker-hub-said": ("docker.io/org/m:v1", "registry", "docker.io", "org/m", "v1", None, "m", None),
    "no-tag": ("h.x/m", "registry", "h.x", "m", "latest", None, "m", "h.x/m:latest"),
    "digest": (f"h.x/m@{PIN}", "registry", "h.x", "m", None, PIN, "m", None),
    "tag-and-digest": (f"h.x/m:v1@{PIN}", "registry", "h.x", "m", "v1", PIN, "m", None),
    "upper-case-host": ("GHCR.io/m:v1", "registry", "ghcr.io", "m", "v1", None, "m", "ghcr.io/m:v1"),
    "kit-scheme": ("kit://h.x/a/m:v1", "registry", "h.x", "a/m", "v1", None, "m", "h.x/a/m:v1"),
    "name": ("iris=h.x/m:v1", "registry", "h.x", "m", "v1", None, "iris", "h.x/m:v1"),
    "kit-scheme-and-name": ("kit://I.r_i-s=h.x/m:v1", "registry", "h.x", "m", "v1", None, "I.r_i-s", "h.x/m:v1"),
    "separators": ("h.x/a.b_c__d---e/f:_x.Y-z", "registry", "h.x", "a.b_c__d---e/f", "_x.Y-z", None, "f", None),
    "store": ("iris:v1", "store", "localhost", "iris", "v1", None, "iris", "local://iris:v1"),
    "store-two": ("org/iris", "store", "localhost", "org/iris", "latest", None, "iris", "local://org/iris:latest"),
    "store-said": ("x=local://a/b/c:v1", "store", "localhost", "a/b/c", "v1", None, "x", "local://a/b/c:v1"),
    "store-host": (f"local://h.x/m@{PIN}", "store", "h.x", "m", None, PIN, "m", None),
    "store-localhost": ("local://localhost/m:v1", "store", "localhost", "localhost/m", "v1", None, "m", None),
    "layout": ("oci:kits/iris:v1", "layout", "", "kits/iris", "v1", None, "iris", None),
    "layout-no-tag": ("oci:/kits/iris", "layout", "", "/kits/iris", "latest", None, "iris", "oci:/kits/iris:latest"),
    "layout-here": ("oci:./iris:v1", "layout", "", "iris", "v1", None, "iris", "oci:iris:v1"),
    "layout-digest": (f"oci:iris@{PIN}", "layout", "", "iris", None, PIN, "iris", None),
    "layout-both": (f"oci:iris:v1@{PIN}", "layout", "", "iris", "v1", PIN, "iris", None),
    "layout-colon-in-path": ("oci:/a:b/iris:v1", "layout", "", "/a:b/iris", "v1", None, "iris", None),
    "layout-at-in-path": ("oci:/a@b:v1", "layout", "", "/a@b", "v1", None, "a-b", None),
    "layout-named": ("x=oci:/a=b:v1", "layout", "", "/a=b", "v1", None, "x", "oci:/a=b:v1"),
    "layout-space": ("oci:/my kits/i r:v1", "layout", "", "/my kits/i r", "v1", None, "i-r", None),
    "archive": ("oci-archive:k/iris.tar:v1", "archive", "", "k/iris.tar", "v1", None, "iris", None),
    "archive-no-suffix": ("oci-archive:iris:v1", "archive", "", "iris", "v1", None, "iris", None),
    "archive-digest": (f"oci-archive:iris.tar@{PIN}", "archive", "", "iris.tar", None, PIN, "iris", None),
    "folder-absolute": ("/kits/iris", "folder", "", "/kits/iris", None, None, "iris", None),
    "folder-here": ("./iris/", "folder", "", "iris", None, None, "iris", "./iris"),
    "folder-above": ("../iris", "folder", "", "../iris", None, None, "iris", None),
    "folder-colon": ("./iris:v1", "folder", "", "iris:v1", None, None, "iris-v1", None),
    "folder-equals": ("./a=b", "folder", "", "a=b", None, None, "a-b", None),
    "folder-tilde-inside": ("./~x", "folder", "", "~x", None, None, "-x", None),
    "folder-named": ("x=/kits/iris", "folder", "", "/kits/iris", None, None, "x", "/kits/iris"),
    "folder-root": ("/", "folder", "", "/", None, None, "model", None),
    "folder-non-ascii": ("./blümchen", "folder", "", "blümchen", None, None, "bl-mchen", None),
}


@pytest.mark.parametrize("case", GOOD.values(), ids=GOOD.keys())
def test_a_reference_means_what_the_table_says(case: tuple[str | None, ...]) -> None:
    text, kind, host, where, tag, digest, name, canonical = case
    reference = Reference.parse(str(text))
    place = reference.repository if kind in ("registry", "store") else str(reference.path)
    assert (reference.kind, reference.registry, place, reference.tag, reference.name) == (kind, host, where, tag, name)
    assert reference.digest == (Digest.parse(digest) if digest else None)
    assert str(reference) == (canonical or text)


@pytest.mark.parametrize("text", [case[0] for case in GOOD.values()], ids=GOOD.keys())
def test_a_reference_prints_back_to_itself(text: str) -> None:
    reference = Reference.parse(text)
    again = Reference.parse(str(reference), model_name=reference.name)
    assert again == reference
    assert str(again) == str(reference)


# text, message without "'TEXT' is not a reference: "
BAD = {
    "no-host-upper-case": ("Org/iris:v1", "repository 'Org/iris' has upper-case letters; write org/iris"),
    "local-host": ("local://h.x:http/m", f"'h.x:http' {HOST_RULE}"),
    "local-nothing": ("local://", "the name is missing; write local://NAME:TAG"),
    "kit-and-local": ("kit://local://m", "kit:// stands before a host only; write 'local://m'"),
    "upper-case": ("h.x/Org/M:v1", "repository 'Org/M' has upper-case letters; write h.x/org/m"),
    "empty-component": ("h.x//m:v1", "repository '/m' has an empty component; write one '/' between two"),
    "slash-at-end": ("h.x/m/", "repository 'm/' has an empty component; write one '/' between two"),
    "no-repository": ("h.x/", "understood as host h.x without a repository; write h.x/REPOSITORY:TAG"),
    "dots": ("h.x/a..b:v1", f"repository 'a..b' is not well formed; {REPOSITORY_RULE}"),
    "climbing": ("h.x/../m", f"repository '../m' is not well formed; {REPOSITORY_RULE}"),
    "query": ("h.x/m?x=1", f"repository 'm?x=1' is not well formed; {REPOSITORY_RULE}"),
    "long": ("h.x/" + "a" * 256, "a repository has at most 255 characters, this one 256"),
    "empty-tag": ("h.x/m:", "there is no tag after the ':'; write :TAG, or leave the ':' out for latest"),
    "bad-tag": ("h.x/m:-v1", f"'-v1' is not a tag; {TAG_RULE}"),
    "long-tag": ("h.x/m:" + "v" * 129, f"'{'v' * 129}' is not a tag; {TAG_RULE}"),
    "two-tags": ("h.x/m:v1,v2", f"'v1,v2' is not a tag; {TAG_RULE}"),
    "short-digest": (
        "h.x/m@sha256:0f",
        "the digest after the '@' is not one: sha256 has 64 hexadecimal digits, this one 2",
    ),
    "upper-case-digest": (
        "h.x/m@sha256:" + "0F" * 32,
        "the digest after the '@' is not one: sha256 is written in the digits 0-9 and a-f, lower case",
    ),
    "other-digest": (
        "h.x/m@md5:" + "0f" * 16,
        "the digest after the '@' is not one: the algorithm 'md5' is not supported, sha256 and sha512 are",
    ),
    "no-digest": (
        "h.x/m@",
        "the digest after the '@' is not one: a digest is written sha256: and 64 hexadecimal digits",
    ),
    "two-digests": (
        f"h.x/m@{PIN}@{PIN}",
        "the digest after the '@' is not one: sha256 has 64 hexadecimal digits, this one 136",
    ),
    "layout-digest": (
        "oci:k@sha256:0f",
        "the digest after the '@' is not one: sha256 has 64 hexadecimal digits, this one 2",
    ),
    "port": ("h.x:99999/m", f"'h.x:99999' {HOST_RULE}"),
    "port-zero": ("h.x:0/m", f"'h.x:0' {HOST_RULE}"),
    "port-text": ("h.x:http/m", f"'h.x:http' {HOST_RULE}"),
    "host-underscore": ("my_host/a/m", f"'my_host' {HOST_RULE}"),
    "no-host-but-port": (":5000/m", f"':5000' {HOST_RULE}"),
    "https": ("https://h.x/m:v1", "a reference has no https:// in front; write h.x/m:v1"),
    "http": ("http://h.x/m:v1", "a reference has no http:// in front; write h.x/m:v1 and set --plain-http"),
    "docker": ("docker://h.x/m:v1", "a reference has no docker:// in front; write h.x/m:v1"),
    "file": ("file:///kits/iris", "a folder is written as its path, without file://; write /kits/iris"),
    "s3": ("s3://bucket/iris", f"s3:// is not read; {WAYS}"),
    "oci-scheme": ("oci://h.x/m:v1", "oci: names a folder and oci-archive: a file; for a registry write 'h.x/m:v1'"),
    "kit-one-slash": ("kit:h.x/m", "kit: is written with two slashes; write kit://h.x/m"),
    "kit-twice": ("kit://kit://h.x/m", "a reference has no kit:// in front; write h.x/m"),
    "kit-and-layout": ("kit://oci:k:v1", "kit:// stands before a host only; write 'oci:k:v1'"),
    "kit-and-folder": ("kit:///kits/iris", "kit:// stands before a host only; write '/kits/iris'"),
    "name-first": ("a=kit://h.x/m", "kit:// comes first; write kit://a=h.x/m"),
    "name-empty": ("=h.x/m", f"NAME= is ''; {NAME_RULE}"),
    "name-dots": ("..=h.x/m", f"NAME= is '..'; {NAME_RULE}"),
    "name-space": ("a b=h.x/m", f"NAME= is 'a b'; {NAME_RULE}"),
    "name-stats": ("stats=h.x/m", "NAME= is 'stats', which has a meaning of its own; give another with NAME="),
    "name-only": ("iris=", "there is nothing after 'iris='; write NAME=HOST/REPOSITORY:TAG"),
    "stats": (
        "h.x/stats",
        "the name it would be served under is 'stats', which has a meaning of its own; give another with NAME=",
    ),
    "layout-empty": ("oci:", "the path is missing; write oci:FOLDER:TAG or oci-archive:FILE.tar:TAG"),
    "layout-only-tag": ("oci::v1", "the path is missing; write oci:FOLDER:TAG or oci-archive:FILE.tar:TAG"),
    "layout-empty-tag": ("oci:k:", "there is no tag after the ':'; write :TAG, or leave the ':' out for latest"),
    "space-before": (" h.x/m", "there is whitespace around it; write 'h.x/m'"),
    "newline-after": ("h.x/m\n", "there is whitespace around it; write 'h.x/m'"),
    "space-inside": ("h.x/my model:v1", "there is whitespace in it; write it without"),
    "tab": ("h.x/m\tx", "it holds the character U+0009; write it without"),
    "escape": ("./\x1b[31mred", "it holds the character U+001B; write it without"),
    "no-such-home": (
        "~nobody-of-that-name/x",
        "there is no home folder for '~nobody-of-that-name/x'; write the path in full",
    ),
}


@pytest.mark.parametrize(("text", "message"), BAD.values(), ids=BAD.keys())
def test_a_bad_reference_says_what_was_understood_and_what_to_write(text: str, message: str) -> None:
    with pytest.raises(InvalidReference) as caught:
        Reference.parse(text)
    shown = text if len(text) <= 160 else text[:160] + "…"
    assert str(caught.value) == f"{shown!r} {NO_REFERENCE} {message}"


@pytest.mark.parametrize("text", ["", " ", "\n"], ids=["nothing", "space", "newline"])
def test_an_empty_reference_names_the_ways_to_write_one(text: str) -> None:
    with pytest.raises(InvalidReference) as caught:
        Reference.parse(text)
    assert str(caught.value) == f"the reference is empty; {WAYS}"


CREDENTIALED = ["u:hunter2@h.x/m", "https://u:hunter2@h.x/m", "n=u:hunter2@h.x/m", "oci://u:hunter2@h.x/m"]


@pytest.mark.parametrize("text", CREDENTIALED)
def test_credentials_in_a_reference_are_refused_and_not_repeated(text: str) -> None:
    with pytest.raises(InvalidReference) as caught:
        Reference.parse(text)
    assert str(caught.value) == CREDENTIALS


@pytest.mark.parametrize("text", [" u:hunter2@h.x/m", "kit:u:hunter2@h.x/m", "a b=https://u:hunter2@h.x/m\x07"])
def test_a_password_is_cut_out_of_every_message(text: str) -> None:
    with pytest.raises(InvalidReference) as caught:
        Reference.parse(text)
    assert "hunter2" not in str(caught.value)


def test_the_registry_setting_is_the_host_of_a_reference_without_one() -> None:
    assert str(Reference.parse("org/iris:v1", registry="Reg.example:5000")) == "reg.example:5000/org/iris:v1"
    assert str(Reference.parse("iris", registry="reg")) == "reg/iris:latest"
    assert str(Reference.parse("other/org/iris", registry="reg")) == "other/org/iris:latest"
    assert str(Reference.parse("h.x/iris", registry="reg")) == "h.x/iris:latest"


@pytest.mark.parametrize(
    ("registry", "seen"),
    [("https://reg", "'https://reg'"), ("reg/org", "'reg/org'"), ("", "''"), ("u:p@reg", "one with an '@'")],
)
def test_a_bad_registry_setting_is_named(registry: str, seen: str) -> None:
    with pytest.raises(InvalidReference) as caught:
        Reference.parse("iris:v1", registry=registry)
    assert str(caught.value) == f"--registry takes HOST or HOST:PORT, not {seen}"


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        ("iris:v1", "local://iris:v1"),
        ("a/b/c", "local://a/b/c:latest"),
        ("localhost/m:1", "local://localhost/m:1"),
        ("h.x/m:v1", "h.x/m:v1"),
        (f"reg:5000/m@{PIN}", f"reg:5000/m@{PIN}"),
    ],
)
def test_a_parent_is_read_by_kits_rule(text: str, meant: str) -> None:
    assert str(Reference.of_parent(text)) == meant


def test_the_model_name_setting_names_it_unless_the_reference_does() -> None:
    assert Reference.parse("h.x/m", model_name="iris").name == "iris"
    assert Reference.parse("rose=h.x/m", model_name="iris").name == "rose"
    with pytest.raises(InvalidReference, match="--model-name is 'a/b'; a served name has"):
        Reference.parse("h.x/m", model_name="a/b")


def test_a_folder_named_by_where_it_is_gets_its_own_name(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "iris" / "model").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "iris" / "model")
    assert [Reference.parse(text).name for text in (".", "./", "..", "../..")] == [
        "model",
        "model",
        "iris",
        tmp_path.name,
    ]


def test_a_home_folder_is_filled_in(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/ada")
    assert str(Reference.parse("~/iris")) == "/home/ada/iris"
    assert str(Reference.parse("oci:~/iris:v1")) == "oci:/home/ada/iris:v1"


def test_a_filled_in_latest_is_told_from_a_given_one() -> None:
    assert not Reference.parse("h.x/m").tag_given
    assert not Reference.parse(f"h.x/m@{PIN}").tag_given
    assert Reference.parse("h.x/m:latest").tag_given
    assert Reference.parse("h.x/m") == Reference.parse("h.x/m:latest")


def test_a_digest_pins_a_reference() -> None:
    pinned = replace(Reference.parse("iris=h.x/m:v1"), digest=Digest.parse(PIN))
    assert str(pinned) == f"h.x/m:v1@{PIN}"
    assert pinned.name == "iris"


COMPONENT = st.from_regex(r"[a-z0-9]{1,8}((\.|_|__|-{1,3})[a-z0-9]{1,5}){0,2}", fullmatch=True)
HOST = st.from_regex(r"[a-z0-9]{1,9}\.[a-z]{2,5}(:[1-9][0-9]{0,3})?", fullmatch=True)
TAG = st.from_regex(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,20}", fullmatch=True)
DIGEST = st.binary(max_size=4).map(lambda data: str(Digest.of(data)))


@pytest.mark.slow
@given(
    host=HOST, repository=st.lists(COMPONENT, min_size=1, max_size=4), tag=st.none() | TAG, digest=st.none() | DIGEST
)
def test_whatever_is_well_formed_prints_back(
    host: str, repository: list[str], tag: str | None, digest: str | None
) -> None:
    text = f"{host}/{'/'.join(repository)}" + (f":{tag}" if tag else "") + (f"@{digest}" if digest else "")
    reference = Reference.parse(text, model_name="m")
    assert str(reference) == (text if tag or digest else f"{text}:latest")
    assert Reference.parse(str(reference), model_name="m") == reference


@given(st.text(max_size=40) | st.text(alphabet="ab./:@=~ -_[]A0", max_size=30))
@example("oci:a:b:c")
@example("oci:@sha256:" + HEX)
@example("/ /")
def test_any_text_is_refused_in_one_line_or_prints_back(text: str) -> None:
    reference, message = parsed(text)
    assert message.isprintable()
    if reference is not None:
        assert Reference.parse(str(reference), model_name=reference.name) == reference


def parsed(text: str) -> tuple[Reference | None, str]:
    try:
        return Reference.parse(text), ""
    except InvalidReference as refusal:
        return None, str(refusal)


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


@pytest.mark.parametrize(("text", "expected"), REFERENCES.items(), ids=REFERENCES.keys())
def test_a_reference_to_another_kit_is_told_from_a_path_as_kit_does(text: str, expected: bool) -> None:
    assert is_kit_reference(text) is expected


@pytest.mark.parametrize(
    ("tags", "shown"),
    [
        ([], []),
        (["v1", "v10", "v9", "v2"], ["v10", "v9", "v2", "v1"]),
        (["1.0", "1.0-rc1", "0.9", "1.0.1"], ["1.0.1", "1.0", "1.0-rc1", "0.9"]),
        (["latest", "v1", "main", "v2.0.0"], ["v2.0.0", "v1", "main", "latest"]),
        (["v1", "v2", "v3", "v4", "v5", "v6"], ["v6", "v5", "v4", "v3", "v2"]),
        (["v1", "v" + "9" * 5000], ["v" + "9" * 5000, "v1"]),
    ],
)
def test_the_newest_five_tags_are_shown(tags: list[str], shown: list[str]) -> None:
    assert newest(tags) == shown
