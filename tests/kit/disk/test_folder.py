import errno
import os
from pathlib import Path

import pytest

from runtime.errors import BadContent, InvalidKitfile, NotAModelKit, NotFound, StorageFailed, Unsupported
from runtime.kit.disk import folder
from runtime.kit.disk.folder import FolderKit
from runtime.link.model_files import ModelFacts
from tests.kit.golden import golden

KITFILE = (
    "manifestVersion: 1.0.0\npackage: {name: iris}\nmodel: {path: ./model/iris.onnx, parts: [{path: labels.txt}]}\n"
)


@pytest.fixture
def kit(tmp_path: Path) -> Path:
    root = tmp_path / "iris"
    (root / "model").mkdir(parents=True)
    (root / "model" / "iris.onnx").write_bytes(b"onnx")
    (root / "labels.txt").write_text("a\n")
    (root / "Kitfile").write_text(KITFILE)
    return root


def test_a_folder_is_served_in_place_and_is_not_verified(kit: Path) -> None:
    found = FolderKit.open(kit)
    assert (found.root, found.left_out, found.exposed) == (kit, (), "")
    assert found.kitfile.model is not None
    assert (found.kitfile.name, found.kitfile.model.path) == ("iris", "model/iris.onnx")


def test_the_root_is_absolute(kit: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(kit)
    assert FolderKit.open(Path()).root == kit
    (kit.parent / "link").symlink_to(kit)
    assert FolderKit.open(kit.parent / "link").root == kit


@pytest.mark.parametrize("names", [["Kitfile"], ["kitfile"], [".kitfile"], ["kitfile", ".kitfile"]])
def test_the_kitfile_is_looked_for_as_kit_does(names: list[str], kit: Path) -> None:
    (kit / "Kitfile").unlink()
    for number, name in enumerate(names):
        (kit / name).write_text(KITFILE.replace("name: iris", f"name: n{number}"))
    assert FolderKit.open(kit).kitfile.name == "n0"


def test_a_kitfile_may_be_json(kit: Path) -> None:
    (kit / "Kitfile").write_text('{"model": {"path": "model/iris.onnx", "parameters": {"a": 1}}}')
    model = FolderKit.open(kit).kitfile.model
    assert model is not None
    assert model.parameters == {"a": 1}


@pytest.mark.parametrize("text", ['"\\u003c \\ud83d\\ude00 \\/"', '"< \U0001f600 /"'], ids=["escaped", "plain"])
def test_json_is_read_as_json(text: str, kit: Path) -> None:
    (kit / "Kitfile").write_text('\n{"package": {"name": ' + text + '}, "model": {"path": "model/iris.onnx"}}')
    assert FolderKit.open(kit).kitfile.name == "< \U0001f600 /"


def test_a_map_in_yamls_short_form_is_no_json(kit: Path) -> None:
    (kit / "Kitfile").write_text("{package: {name: iris}, model: {path: model/iris.onnx}}")
    assert FolderKit.open(kit).kitfile.name == "iris"


@pytest.mark.parametrize(
    "text", ['{"package": {"name": "\\ud83d"}}', 'package: {name: "\\ud83d"}'], ids=["json", "yaml"]
)
def test_half_a_character_is_refused(text: str, kit: Path) -> None:
    (kit / "Kitfile").write_text(text)
    with pytest.raises(InvalidKitfile, match=r"the Kitfile is not YAML: .* surrogates not allowed"):
        FolderKit.open(kit)


def test_lost_and_found_is_none_of_the_kits(kit: Path) -> None:
    (kit / "lost+found").mkdir()
    os.mkfifo(kit / "lost+found" / "fifo")
    assert FolderKit.open(kit).left_out == ()


def test_a_byte_order_mark_does_not_matter(kit: Path) -> None:
    (kit / "Kitfile").write_text("\ufeff" + KITFILE)
    assert FolderKit.open(kit).kitfile.name == "iris"


def test_a_model_with_a_colon_in_its_name_is_a_file_where_it_is_there(kit: Path) -> None:
    (kit / "Kitfile").write_text("model: {path: './film:champion'}")
    (kit / "film:champion").write_text("x")
    model = FolderKit.open(kit).kitfile.model
    assert model is not None
    assert (model.path, model.parent) == ("film:champion", None)


def test_links_and_other_things_are_left_out(kit: Path) -> None:
    (kit / "venv").symlink_to("/usr")
    (kit / "model" / "secret").symlink_to("/etc/passwd")
    os.mkfifo(kit / "fifo")
    (kit / ".git").mkdir()
    (kit / ".git" / "HEAD").write_text("x")
    assert FolderKit.open(kit).left_out == ("fifo", "model/secret", "venv")


def _no_kitfile(kit: Path) -> None:
    (kit / "Kitfile").unlink()


def _layout(kit: Path) -> None:
    (kit / "Kitfile").unlink()
    (kit / "oci-layout").write_text("{}")


def _kitfile_link(kit: Path) -> None:
    (kit / "Kitfile").rename(kit / "K")
    (kit / "Kitfile").symlink_to("K")


def _kitfile_folder(kit: Path) -> None:
    (kit / "Kitfile").unlink()
    (kit / "Kitfile").mkdir()


def _model_link(kit: Path) -> None:
    (kit / "model" / "iris.onnx").rename(kit / "model" / "real.onnx")
    (kit / "model" / "iris.onnx").symlink_to("real.onnx")


def _folder_link(kit: Path) -> None:
    (kit / "model").rename(kit / "m")
    (kit / "model").symlink_to("m")


LINK = (
    "the Kitfile names 'model/iris.onnx', but '{}' is a symbolic link, which is not followed; put the file itself there"
)
BAD = {
    "layout": (_layout, NotAModelKit, "folder '{0}' is an OCI layout; write oci:{0}:TAG"),
    "kitfile-link": (_kitfile_link, NotAModelKit, "the Kitfile in folder '{0}' is a symbolic link"),
    "kitfile-folder": (_kitfile_folder, NotAModelKit, "the Kitfile in folder '{0}' is not a regular file"),
    "kitfile-latin-1": (
        lambda kit: (kit / "Kitfile").write_bytes(b"\xe9: x"),
        InvalidKitfile,
        "the Kitfile in folder '{0}' is not UTF-8: invalid continuation byte",
    ),
    "kitfile-big": (
        lambda kit: (kit / "Kitfile").write_bytes(b"#" * (2 << 20)),
        InvalidKitfile,
        "the Kitfile in folder '{0}' has more than 1048576 bytes",
    ),
    "ignore-bad": (
        lambda kit: (kit / ".kitignore").write_text("old\n[a\n"),
        InvalidKitfile,
        "the .kitignore in folder '{0}' cannot be read: '[a' is not a pattern: unterminated character set at position 4",
    ),
    "model-ignored": (
        lambda kit: (kit / ".kitignore").write_text("model\n!model/other\n"),
        InvalidKitfile,
        "the Kitfile in folder '{0}' names 'model/iris.onnx', which .kitignore leaves out of it; change one of them",
    ),
    "model-missing": (
        lambda kit: (kit / "model" / "iris.onnx").unlink(),
        InvalidKitfile,
        "the Kitfile names 'model/iris.onnx', which is not in folder '{0}'",
    ),
    "part-missing": (
        lambda kit: (kit / "labels.txt").unlink(),
        InvalidKitfile,
        "the Kitfile names 'labels.txt', which is not in folder '{0}'",
    ),
    "model-link": (
        _model_link,
        InvalidKitfile,
        LINK.format("{0}/model/iris.onnx"),
    ),
    "folder-link": (
        _folder_link,
        InvalidKitfile,
        LINK.format("{0}/model"),
    ),
}


@pytest.mark.parametrize(("change", "error", "message"), BAD.values(), ids=BAD.keys())
def test_a_folder_that_is_no_kit_says_what_to_do(change, error: type[BadContent], message: str, kit: Path) -> None:
    change(kit)
    with pytest.raises(error) as caught:
        FolderKit.open(kit)
    assert str(caught.value) == message.format(kit)


def test_a_missing_folder_is_not_found(tmp_path: Path) -> None:
    with pytest.raises(NotFound) as caught:
        FolderKit.open(tmp_path / "none")
    assert str(caught.value) == f"there is no folder or file '{tmp_path}/none'"


def test_a_path_that_the_disk_refuses_is_an_error_of_the_disk(tmp_path: Path) -> None:
    path = tmp_path / ("n" * 300)
    with pytest.raises(StorageFailed) as caught:
        FolderKit.open(path)
    assert str(caught.value) == f"cannot read folder '{path}': {os.strerror(errno.ENAMETOOLONG)}"


def test_a_folder_without_a_kitfile_is_what_its_files_are(kit: Path) -> None:
    _no_kitfile(kit)
    found = FolderKit.open(kit)
    assert found.root == kit
    assert found.kitfile.is_made_up
    facts = ModelFacts.of(found.kitfile)
    assert facts.path == "."
    assert "model/iris.onnx" in facts.files(kit).files


def test_a_file_is_a_kit_with_nothing_beside_it(kit: Path) -> None:
    found = FolderKit.open(kit / "model" / "iris.onnx")
    assert found.root == kit / "model"
    facts = ModelFacts.of(found.kitfile)
    assert (facts.path, facts.files(found.root).files) == ("iris.onnx", ("iris.onnx",))


def test_a_file_that_is_no_model_says_what_to_write(kit: Path) -> None:
    (kit / "kit.tar").touch()
    with pytest.raises(NotAModelKit, match=f"is an archive; write oci-archive:{kit}/kit.tar"):
        FolderKit.open(kit / "kit.tar")
    with pytest.raises(NotAModelKit, match=f"is a Kitfile; write its folder: {kit}"):
        FolderKit.open(kit / "Kitfile")
    os.mkfifo(kit / "pipe")
    with pytest.raises(NotAModelKit, match="is neither a folder nor a regular file"):
        FolderKit.open(kit / "pipe")


@pytest.mark.parametrize(("mode", "who"), [(0o777, "everybody"), (0o775, "group ")])
def test_a_folder_that_others_can_write_into_says_so(mode: int, who: str, kit: Path) -> None:
    kit.chmod(mode)
    exposed = FolderKit.open(kit).exposed
    assert exposed.startswith(f"can be written by {who}")
    assert exposed.endswith(f"(mode 0{mode:o}): chmod {'go' if mode == 0o777 else 'g'}-w {kit}")


def test_too_many_files_are_refused(kit: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(folder, "_MAX_FILES", 2)
    with pytest.raises(Unsupported, match="has more than 2 files; serve one that is just the kit"):
        FolderKit.open(kit)


def test_a_layout_is_told_from_a_folder() -> None:
    place = golden("iris-bare").folder
    with pytest.raises(NotAModelKit, match=f"is an OCI layout; write oci:{place}:TAG"):
        FolderKit.open(place)


def test_what_is_taken_back_in_is_the_kits(kit: Path) -> None:
    (kit / "Kitfile").write_text("model: {path: .}\n")
    (kit / ".kitignore").write_text("*\n!model/iris.onnx\n")
    assert ModelFacts.of(FolderKit.open(kit).kitfile).files(kit).files == ("model/iris.onnx",)


def test_an_empty_folder_is_no_kit(tmp_path: Path) -> None:
    (tmp_path / "lost+found").mkdir()
    with pytest.raises(NotAModelKit, match="has neither a Kitfile nor any file"):
        FolderKit.open(tmp_path)


def test_what_kitignore_leaves_out_is_none_of_the_kits(kit: Path) -> None:
    (kit / "Kitfile").write_text("model: {path: .}\n")
    (kit / "old").mkdir()
    (kit / "old" / "m.onnx").write_bytes(b"onnx")
    (kit / "old" / "link").symlink_to("/")
    (kit / "old" / "kept.txt").write_text("x")
    (kit / ".kitignore").write_text("# of last year\nold/\n!old/kept.txt\n.kitignore\n")
    found = FolderKit.open(kit)
    assert found.left_out == ()
    files = ModelFacts.of(found.kitfile).files(kit).files
    assert files == ("Kitfile", "labels.txt", "model/iris.onnx", "old/kept.txt")
