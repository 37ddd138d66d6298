"""The tree of a kit in the cache: compared, rebuilt, never believed."""

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from runtime.errors import UnsafeArchive
from tests.kit import archives
from tests.kit.made import made_kit, named, put
from tests.kit.pulling import Recorder, leftovers, pulled, tree
from tests.places import KITS
from tests.registries import digest_of


def test_a_tree_that_is_right_is_left_alone(tmp_path: Path) -> None:
    kit = pulled(f"oci:{KITS}/everything:v1", tmp_path)
    before = kit.root.stat()
    watch = Recorder()
    again = pulled(f"oci:{KITS}/everything:v1", tmp_path, watch)
    assert again == kit
    assert (kit.root.stat().st_ino, kit.root.stat().st_mtime_ns) == (before.st_ino, before.st_mtime_ns)
    assert watch.warnings == []


def _writable(path: Path) -> Path:
    path.chmod(0o644)
    return path


SPOILS: dict[str, Callable[[Path], object]] = {
    "a byte": lambda root: _writable(root / "models/main/iris.onnx").write_bytes(
        b"\1" + (root / "models/main/iris.onnx").read_bytes()[1:]
    ),
    "shorter": lambda root: os.truncate(_writable(root / "models/main/iris.onnx"), 10),
    "missing": lambda root: (root / "src/a.py").unlink(),
    "extra": lambda root: (root / "src/evil.py").write_text("print(1)"),
    "extra folder": lambda root: (root / "src/evil").mkdir(),
    "link": lambda root: ((root / "src/a.py").unlink(), (root / "src/a.py").symlink_to("/etc/passwd")),
    "folder link": lambda root: (shutil.move(root / "src", root.parent / "gone"), (root / "src").symlink_to("../gone")),
    "hard link": lambda root: os.link(root / "src/a.py", root.parent / "second-name"),
    "empty": lambda root: shutil.rmtree(root / "models"),
    "a file": lambda root: (shutil.rmtree(root), root.write_text("no folder")),
    "a link": lambda root: (root.rename(root.parent / "elsewhere"), root.symlink_to("elsewhere")),
    "writable for all": lambda root: (root / "src/a.py").chmod(0o646),
    "a folder writable for all": lambda root: (root / "src").chmod(0o777),
    "itself writable for all": lambda root: root.chmod(0o777),
    "a pipe": lambda root: ((root / "src/a.py").unlink(), os.mkfifo(root / "src/a.py")),
}


@pytest.mark.parametrize("spoil", SPOILS.values(), ids=SPOILS)
def test_47_a_tree_that_differs_is_built_anew_with_a_warning(tmp_path: Path, spoil: Callable[[Path], object]) -> None:
    kit = pulled(f"oci:{KITS}/everything:v1", tmp_path)
    right = tree(kit.root)
    spoil(kit.root)
    watch = Recorder()
    again = pulled(f"oci:{KITS}/everything:v1", tmp_path, watch)
    assert watch.warned == ["kit.differed"]
    assert tree(again.root) == right
    assert not any(path.is_symlink() for path in [kit.root, *kit.root.rglob("*")])
    assert leftovers(tmp_path) == []
    assert pulled(f"oci:{KITS}/everything:v1", tmp_path, quiet := Recorder()) == again
    assert quiet.warnings == []


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file away")
@pytest.mark.parametrize("where", [".", "src", "src/a.py"])
def test_a_tree_of_which_a_stranger_owns_something_is_built_anew(tmp_path: Path, where: str) -> None:
    kit = pulled(f"oci:{KITS}/everything:v1", tmp_path)
    os.chown(kit.root / where, 4242, -1)
    again = pulled(f"oci:{KITS}/everything:v1", tmp_path)
    assert {path.stat().st_uid for path in (again.root, *again.root.rglob("*"))} == {0}


def test_a_tree_on_a_volume_with_an_fs_group_is_left_alone(tmp_path: Path) -> None:
    kit = pulled(f"oci:{KITS}/everything:v1", tmp_path)
    for path in (tmp_path, *tmp_path.rglob("*")):
        os.chown(path, -1, os.getegid())
        path.chmod(0o2775 if path.is_dir() else 0o664)  # as the kubelet does it
    assert pulled(f"oci:{KITS}/everything:v1", tmp_path, watch := Recorder()) == kit
    assert watch.warnings == []


def test_a_kit_with_an_unsafe_layer_leaves_no_tree(tmp_path: Path) -> None:
    layout = made_kit(tmp_path / "layout", {"m.onnx": b"model"})
    _with_layer(layout, b"../escaped")
    with pytest.raises(UnsafeArchive):
        pulled(f"oci:{layout}:evil", tmp_path / "cache")
    assert leftovers(tmp_path / "cache") == []
    assert list((tmp_path / "cache" / "kits").iterdir()) == []
    assert not (tmp_path / "escaped").exists()


def _with_layer(layout: Path, member: bytes) -> None:
    """Add the tag `evil`: the kit `v1` whose model layer holds one file of this name."""
    manifest = json.loads((layout / "blobs/sha256" / digest_of(layout, "v1")[7:]).read_bytes())
    layer = put(layout, archives.file(member) + archives.END, manifest["layers"][0]["mediaType"])
    config = {"manifestVersion": "1.0.0", "model": {"path": "m.onnx", "digest": layer["digest"]}}
    manifest["layers"] = [layer]
    manifest["config"] = put(layout, json.dumps(config).encode(), manifest["config"]["mediaType"])
    named(layout, put(layout, json.dumps(manifest).encode(), manifest["mediaType"]), "evil")
