"""Kit's own local store, as kit 1.7 left it."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from runtime.errors import BadContent, DigestMismatch, InvalidManifest, NotFound
from runtime.kit.disk.store import open_store
from runtime.kit.format.paths import kit_home
from runtime.kit.format.reference import Reference
from tests.kit.pulling import Recorder, pulled, tree
from tests.places import KITS
from tests.registries import digest_of

HOME = KITS / "kitops-home"
LOCAL_TAGS = "bG9jYWxob3N0L3NwYW0tc2tsZWFybg==-tags.json"


def found(text: str, home: Path = HOME) -> str:
    reference = Reference.parse(text)
    return str(open_store(reference, {"KITOPS_HOME": str(home)}).resolve(reference)[0])


@pytest.mark.parametrize(
    ("text", "kit"),
    [
        ("spam-sklearn:v1", "spam-sklearn"),
        ("local://spam-sklearn:v1", "spam-sklearn"),
        ("local://localhost:5050/kits/iris-bare:stable", "iris-bare"),
    ],
)
def test_a_kit_is_found_by_its_name(text: str, kit: str) -> None:
    assert found(text).rpartition("@")[2] == digest_of(KITS / kit, "v1")


def test_a_kit_is_found_by_its_digest() -> None:
    digest = digest_of(KITS / "spam-sklearn", "v1")
    assert found(f"spam-sklearn@{digest}") == f"local://spam-sklearn@{digest}"


def test_01_a_kit_of_the_store_is_the_same_tree_as_from_its_layout(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KITOPS_HOME", str(HOME))
    watch = Recorder()
    near = pulled("spam-sklearn", tmp_path / "near", watch)  # its only tag
    assert tree(near.root) == tree(pulled(f"oci:{KITS}/spam-sklearn:v1", tmp_path / "layout").root) != {}
    assert (str(near.reference).partition("@")[0], near.verified) == ("local://spam-sklearn:v1", "true")
    assert watch.warned == ["tag.defaulted"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "iris:v1",
            "Kit's store '{0}/storage' has no kit 'iris'; pack it with kit pack . -t iris:v1, write HOST/iris:v1 (or --registry HOST) for a registry, or ./iris for a file or folder",
        ),
        (
            "local://h.x/iris:v1",
            "Kit's store '{0}/storage' has no kit 'h.x/iris'; pull it there with kit pull, or write h.x/iris:v1 for the registry",
        ),
        ("spam-sklearn:v2", "Kit's store '{0}/storage' has no tag 'v2'; it has v1"),
    ],
)
def test_a_kit_that_is_not_there_says_how_else_to_name_it(text: str, message: str) -> None:
    with pytest.raises(NotFound) as caught:
        found(text)
    assert str(caught.value) == message.format(HOME)


def test_no_store_is_said_to_be_missing(tmp_path: Path) -> None:
    with pytest.raises(NotFound, match=r"there is no store of Kit at .* \(KITOPS_HOME names another\); pack it with"):
        found("iris:v1", tmp_path)


def test_a_folder_of_that_name_is_served_by_its_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("iris.v1").mkdir()
    with pytest.raises(NotFound, match=r"; to serve what lies here under that name, write \./iris\.v1$"):
        found("iris.v1", tmp_path)


@pytest.mark.parametrize(
    ("tags", "error", "message"),
    [
        (b"{", InvalidManifest, "-tags.json is not JSON"),
        (b'{"v1": 1}', InvalidManifest, "tag 'v1' is not a descriptor"),
        (None, DigestMismatch, "the manifest has digest sha256:"),
    ],
)
def test_a_spoiled_store_is_refused(tags: bytes | None, error: type[BadContent], message: str, tmp_path: Path) -> None:
    home = Path(shutil.copytree(HOME, tmp_path / "home"))
    if tags is not None:
        (home / "storage" / LOCAL_TAGS).write_bytes(tags)
    else:
        tag = json.loads((home / "storage" / LOCAL_TAGS).read_bytes())["v1"]
        manifest = home / "storage" / "blobs" / tag["digest"].replace(":", "/")
        manifest.write_bytes(manifest.read_bytes().replace(b"1.7.0", b"1.7.1"))
    with pytest.raises(error, match=message):
        found("spam-sklearn:v1", home)


@pytest.mark.parametrize(
    ("environ", "home"),
    [
        ({"KITOPS_HOME": "/k", "HOME": "/home/ada"}, "/k"),
        ({"XDG_DATA_HOME": "/data", "HOME": "/home/ada"}, "/data/kitops"),
        ({"HOME": "/home/ada"}, "/home/ada/.local/share/kitops"),
        ({}, "/.local/share/kitops"),
    ],
)
def test_kits_home_is_where_kit_has_it(environ: dict[str, str], home: str) -> None:
    assert kit_home(environ) == Path(home)
