"""Kits that take their model from another kit, from real registries."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from runtime.errors import Failure, InvalidKitfile, LoginRefused, NoModel, NotFound, RegistryUnavailable
from runtime.kit.cache.keeping import blob_bytes, held_kits, remove_unnamed
from runtime.kit.cache.store import Store
from runtime.kit.disk.folder import has_parent
from runtime.kit.format.digest import Digest
from runtime.kit.format.reference import Reference
from runtime.kit.installed.destination import Destination
from runtime.kit.pull import PullOptions, is_whole, resolve, verified_layers
from tests.kit.made import KIT, made_kit, named, put
from tests.kit.pulling import Recorder, leftovers, pulled, tree, unverified
from tests.lying_registry import LyingRegistry
from tests.places import KITS
from tests.registries import PASSWORD, USER, Registry, digest_of, docker_config

Lying = Callable[..., LyingRegistry]


@pytest.fixture(scope="module")
def family(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Registry]:
    """A registry with the golden chain, which calls it localhost:5050."""
    with Registry(tmp_path_factory.mktemp("family")) as registry:
        for name in ("base", "child", "grandchild"):
            registry.push(KITS / name, "1.0")
        yield registry


@pytest.fixture
def at_5050(family: Registry, monkeypatch: pytest.MonkeyPatch) -> None:
    lookup, port = socket.getaddrinfo, int(family.host.rpartition(":")[2])

    def find(host: str, number: int, *more: object, **named: object) -> object:
        return lookup("127.0.0.1" if number == 5050 else host, port if number == 5050 else number, *more, **named)  # type: ignore[arg-type]

    monkeypatch.setattr(socket, "getaddrinfo", find)


def kit_with_parent(folder: Path, parent: str, tag: str = "v1", **config: object) -> Path:
    """A layout with a kit that has no layer, and its model from `parent`."""
    document = {"manifestVersion": "1.0.0", "model": {"path": parent}, **config}
    kind = "application/vnd.oci.image.manifest.v1+json"
    manifest = {"schemaVersion": 2, "mediaType": kind, "layers": []}
    manifest["config"] = put(folder, json.dumps(document).encode(), f"{KIT}.config.v1+json")
    named(folder, put(folder, json.dumps(manifest).encode(), kind), tag)
    return folder


@pytest.mark.usefixtures("at_5050")
def test_the_golden_chain_is_the_model_of_its_first_kit_with_the_parts_of_all(tmp_path: Path) -> None:
    watch = Recorder()
    kit = pulled("localhost:5050/kits/grandchild:1.0", tmp_path / "cache", watch)
    assert sorted(tree(kit.root)) == ["labels.txt", "weights/iris.onnx"]
    assert str(kit.digest) == digest_of(KITS / "grandchild", "1.0")
    model = kit.kitfile.model
    assert model
    assert (model.path, model.framework, kit.verified) == ("weights/iris.onnx", "onnx", "true")
    assert model.parameters is not None
    assert watch.warned == ["parent.by_tag", "parent.by_tag"]
    assert unverified(tmp_path / "cache") == leftovers(tmp_path / "cache") == []
    again = pulled("localhost:5050/kits/grandchild:1.0", tmp_path / "cache", pull="never")
    assert again.root == kit.root


@pytest.mark.usefixtures("at_5050")
def test_an_unpacked_chain_is_served_by_its_receipt(tmp_path: Path) -> None:
    options, watch = PullOptions(tmp_path / "cache"), Recorder()
    found = resolve(Reference.parse(f"oci:{KITS}/child:1.0"), options, watch)
    assert found.manifest
    place = Destination(tmp_path / "kit", lambda _: False)
    with place.locked(lambda: None), verified_layers(found, options, watch) as layers:
        place.fill(found.reference, found.manifest, found.config, layers, lambda: None, found.parents)
    kit = pulled(str(tmp_path / "kit"), tmp_path / "cache")
    assert (kit.verified, kit.kitfile.model) == ("receipt", found.kitfile.model)
    assert (tmp_path / "kit" / "weights" / "iris.onnx").exists()
    with place.locked(lambda: None):
        assert place.holds(found.reference, lambda *_: None, found.parents) is None
        assert "with another parent" in str(place.holds(found.reference, lambda *_: None, ()))


@pytest.mark.slow
def test_a_parent_in_another_registry_gets_its_own_login(tmp_path: Path) -> None:
    with Registry(tmp_path, auth="basic") as closed, Registry(tmp_path) as open_:
        base = closed.push(made_kit(tmp_path / "base", {"m.bin": b"model"}, framework="python"), "v1", "secret/base")
        digest = digest_of(tmp_path / "base", "v1")
        pinned = kit_with_parent(tmp_path / "child", base.replace(":v1", f"@{digest}"))
        child, watch = open_.push(pinned, "v1", "kits/child"), Recorder()
        with pytest.raises(Failure) as caught:
            pulled(child, tmp_path / "cache")
        assert str(caught.value).startswith(
            f"{child}@{digest_of(pinned, 'v1')} takes its model from another kit, '{closed.host}/secret/base@"
        )
        login = docker_config(tmp_path / "docker", {closed.host: (USER, PASSWORD)})
        kit = pulled(child, tmp_path / "cache", watch, login)
        assert tree(kit.root) == {"m.bin": b"model"}
        assert watch.warned == []


def test_41_the_login_of_one_registry_never_reaches_that_of_a_parent(lying: Lying, tmp_path: Path) -> None:
    other = lying(made_kit(tmp_path / "base", {"m.bin": b"model"}))
    with Registry(tmp_path, auth="basic") as closed:
        child = closed.push(kit_with_parent(tmp_path / "child", f"{other.host}/kits/base:v1"), "v1", "kits/child")
        pulled(child, tmp_path / "cache", None, docker_config(tmp_path / "docker", {closed.host: (USER, PASSWORD)}))
    assert other.seen("/v2/")
    assert not [each for each in other.seen("/v2/") if "Authorization" in each.headers]


@pytest.mark.slow
def test_41_a_login_given_for_a_kits_registry_is_not_for_that_of_its_parent(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KIT_USER", USER)
    monkeypatch.setenv("KIT_PASSWORD", PASSWORD)
    with Registry(tmp_path, auth="basic") as closed, Registry(tmp_path) as open_:
        base = closed.push(made_kit(tmp_path / "base", {"m.bin": b"model"}), "v1", "secret/base")
        near = closed.push(kit_with_parent(tmp_path / "near", base), "v1", "secret/near")
        far = open_.push(kit_with_parent(tmp_path / "far", base), "v1", "kits/far")
        assert tree(pulled(near, tmp_path / "near-cache", docker_config=tmp_path).root) == {"m.bin": b"model"}
        with pytest.raises(LoginRefused, match="no Docker config"):
            pulled(far, tmp_path / "far-cache", docker_config=tmp_path)


def test_a_chain_that_has_no_end_is_refused(registry: Registry, tmp_path: Path) -> None:
    for name, parent in (("a", "b"), ("b", "a")):
        registry.push(kit_with_parent(tmp_path / name, f"{registry.host}/loop/{parent}:v1"), "v1", f"loop/{name}")
    with pytest.raises(
        InvalidKitfile, match=r"loop/a.* takes its model from itself in the end: .*/a.* → .*/b.* → .*/a"
    ):
        pulled(f"{registry.host}/loop/a:v1", tmp_path / "cache")


@pytest.mark.slow
def test_more_than_ten_parents_are_refused(registry: Registry, tmp_path: Path) -> None:
    registry.push(made_kit(tmp_path / "0", {"m.bin": b"model"}), "v1", "long/k0")
    for number in range(1, 12):
        kit = kit_with_parent(tmp_path / str(number), f"{registry.host}/long/k{number - 1}:v1")
        registry.push(kit, "v1", f"long/k{number}")
    assert tree(pulled(f"{registry.host}/long/k10:v1", tmp_path / "cache").root) == {"m.bin": b"model"}
    with pytest.raises(InvalidKitfile, match="is itself the parent number 10: no more are followed"):
        pulled(f"{registry.host}/long/k11:v1", tmp_path / "cache")


@pytest.mark.parametrize(
    ("parent", "error", "message"),
    [
        ("{host}/kits/none:v1", NotFound, "which cannot be had: .* has no repository kits/none"),
        ("iris:v1", NotFound, "which cannot be had: there is no store of Kit"),
        ("127.0.0.1:1/kits/none:v1", RegistryUnavailable, "which cannot be had: 127.0.0.1:1"),
        ("h.x:99999/a:v1", InvalidKitfile, "which cannot be: .* is not a valid host name"),
    ],
)
def test_a_parent_that_cannot_be_had_is_named(
    parent: str, error: type[Failure], message: str, registry: Registry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KITOPS_HOME", str(tmp_path))
    layout = kit_with_parent(tmp_path / "child", parent.format(host=registry.host))
    with pytest.raises(error, match=message):
        pulled(f"oci:{layout}:v1", tmp_path / "cache", retry_budget_seconds=0.1)


def test_a_parent_without_a_model_is_named(registry: Registry, tmp_path: Path) -> None:
    base = registry.push(KITS / "dataset-only", "v1")
    with pytest.raises(NoModel, match=rf"takes its model from another kit, {base}@.*, which has none"):
        pulled(f"oci:{kit_with_parent(tmp_path / 'child', base)}:v1", tmp_path / "cache")


def test_41_a_kit_from_elsewhere_names_no_parent_on_this_machine(tmp_path: Path) -> None:
    from runtime.kit.chain import _check_origin

    with pytest.raises(Failure, match="it leads to an address of this machine"):
        _check_origin(Reference.parse("reg.example.com/a:v1"), Reference.parse("localhost:5050/b:v1"), plain_http=False)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder that takes its model from the golden chain, with a part and code of its own."""
    folder = tmp_path / "folder"
    (folder / "src/in").mkdir(parents=True)
    files = {"own.txt": "own", "src/a.py": "a = 1", "src/in/b.py": "b = 2", "notes": "nobody needs this"}
    files |= {"src/out.log": "", ".kitignore": "src/*.log\n"}
    files["Kitfile"] = """
manifestVersion: 1.0.0
package: {name: mine}
model: {path: "localhost:5050/kits/child:1.0", parts: [{path: own.txt}]}
code: [{path: src}]
"""
    for name, text in files.items():
        (folder / name).write_text(text)
    (folder / "src/link").symlink_to(folder / "notes")
    return folder


@pytest.mark.usefixtures("at_5050")
def test_a_folder_with_a_parent_is_its_own_files_and_the_parents_model(folder: Path, tmp_path: Path) -> None:
    kit = pulled(str(folder), tmp_path / "cache", watch := Recorder())
    own = ["labels.txt", "own.txt", "src/a.py", "src/in/b.py"]
    assert sorted(tree(kit.root)) == sorted([*own, "weights/iris.onnx"])
    assert (kit.digest, kit.verified, kit.verified_bytes, kit.kitfile.name) == (None, "false", 0, "mine")
    assert kit.kitfile.model
    assert (kit.kitfile.model.path, kit.kitfile.model.framework) == ("weights/iris.onnx", "onnx")
    assert watch.warned == ["folder.left_out", "parent.by_tag", "parent.by_tag"]
    assert pulled(str(folder), tmp_path / "cache", again := Recorder(), pull="never").root == kit.root
    assert "kit.differed" not in again.warned
    (folder / "own.txt").write_text("another")
    assert (pulled(str(folder), tmp_path / "cache").root / "own.txt").read_text() == "another"
    assert leftovers(tmp_path / "cache") == unverified(tmp_path / "cache") == []


@pytest.mark.slow
@pytest.mark.usefixtures("at_5050")
def test_a_confined_worker_reads_a_folder_with_a_parent(folder: Path, tmp_path: Path) -> None:
    pulled(str(folder), tmp_path)
    # in a process of its own: a supervisor leaves the signals ignored that stop it
    command = [sys.executable, "-m", "runtime", "verify", str(folder), f"--cache-dir={tmp_path}", "--pull=never"]
    assert "folder: passes" in subprocess.run(command, capture_output=True, text=True, check=True).stdout


def test_a_folder_whose_parent_cannot_be_had_says_so(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(NotFound, match=rf"{folder} takes its model from another kit, .*, which cannot be had"):
        pulled(str(folder), tmp_path / "cache", pull="never")
    assert has_parent(folder)
    assert not has_parent(folder / "src")
    assert not has_parent(folder / "none")


@pytest.mark.usefixtures("at_5050")
def test_the_tree_of_a_chain_is_checked_in_the_cache_and_belongs_to_its_kits(tmp_path: Path) -> None:
    kit = pulled("localhost:5050/kits/grandchild:1.0", tmp_path)
    store, named_by = Store(tmp_path), Digest("sha256", kit.root.name)
    assert kit.digest != named_by
    assert is_whole(store, named_by, Recorder()) is True
    assert (
        remove_unnamed(store, blob_bytes(store), [held for held in held_kits(store) if held.digest == named_by]) == []
    )
    (kit.root / "labels.txt").chmod(0o644)
    (kit.root / "labels.txt").write_bytes(b"other")
    assert is_whole(store, named_by, Recorder()) is False
    store.discard(kit.digest or named_by)
    assert is_whole(store, named_by, Recorder()) is None
