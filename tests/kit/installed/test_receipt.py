"""Receipts: what is written, what is computed again, and what is compared with the folder."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from runtime.errors import BadContent, Cancelled, DigestMismatch, StorageFailed, Unsupported
from runtime.kit.format.digest import Digest
from runtime.kit.format.manifest import Manifest
from runtime.kit.format.reference import Reference
from runtime.kit.installed import receipt
from runtime.kit.installed.receipt import MAX_RECEIPT_BYTES, Receipt, installed, read_receipt
from runtime.kit.installed.recheck import check_writers, recheck
from tests.kit.made import KIT
from tests.places import ROOT

ONNX, LABELS = b"onnx", "größe ☃".encode()


def descriptor(data: bytes, media_type: str, **annotations: str) -> dict[str, object]:
    return {"mediaType": media_type, "digest": str(Digest.of(data)), "size": len(data), "annotations": annotations}


def kit(*layers: tuple[bytes, str, dict[str, str]], config: dict[str, object]) -> tuple[Manifest, bytes]:
    """A manifest with these layers, and its config."""
    raw = json.dumps(config, ensure_ascii=False).encode()
    document = {
        "schemaVersion": 2,
        "config": descriptor(raw, f"{KIT}.config.v1+json"),
        "layers": [descriptor(data, media_type, **notes) for data, media_type, notes in layers],
    }
    return Manifest.parse(json.dumps(document).encode(), expected=None), raw


def entry(path: str, layer: bytes) -> dict[str, object]:
    return {"path": path, "digest": str(Digest.of(layer))}


MANIFEST, CONFIG = kit(
    (b"model tar", f"{KIT}.model.v1.tar", {}),
    (b"code tar", f"{KIT}.code.v1.tar", {}),
    (b"docs tar", f"{KIT}.docs.v1.tar", {}),
    (LABELS, f"{KIT}.modelpart.v1.raw", {"org.cncf.model.filepath": "labels.txt"}),
    config={
        "model": {**entry("model", b"model tar"), "parts": [entry("labels.txt", LABELS)]},
        "code": [entry("src", b"code tar")],
        "docs": [entry("docs", b"docs tar")],
        "package": {"name": "größe"},
    },
)
REFERENCE = Reference.parse(f"host.example/org/iris:v1@{MANIFEST.digest}")
FILES = {"model/a.onnx": ONNX, "model/größe ☃.txt": b"", "src/v1..2.py": b"pass\n", "labels.txt": LABELS}
DIGESTS = {path: Digest.of(data) for path, data in FILES.items()}
RECEIPT = Receipt.of(REFERENCE, MANIFEST, CONFIG, DIGESTS)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for path, data in {**FILES, "Kitfile": CONFIG}.items():
        (tmp_path / path).parent.mkdir(exist_ok=True)
        (tmp_path / path).write_bytes(data)
    (tmp_path / ".modelkit-receipt.json").write_bytes(RECEIPT.to_bytes())
    return tmp_path


def test_a_receipt_reads_what_it_wrote() -> None:
    assert Receipt.parse(RECEIPT.to_bytes(), "r") == RECEIPT
    assert json.loads(RECEIPT.to_bytes()) == {
        "version": 2,
        "reference": str(REFERENCE),
        "manifest": MANIFEST.raw.decode(),
        "config": CONFIG.decode(),
        "files": {path: str(digest) for path, digest in DIGESTS.items()},
    }


def test_what_the_kit_is_comes_from_manifest_and_config() -> None:
    found = Receipt.parse(RECEIPT.to_bytes(), "r")
    assert found.manifest == MANIFEST
    assert found.kitfile.name == "größe"
    assert found.files == {"Kitfile": Digest.of(CONFIG), **DIGESTS}
    assert [placed.entry.path for placed in found.placed] == ["model", "labels.txt", "src", "docs"]


def changed(**fields: Any) -> bytes:
    document = {**json.loads(RECEIPT.to_bytes()), **fields}
    return json.dumps({key: value for key, value in document.items() if value is not None}).encode()


def files(path: str, digest: object = str(Digest.of(b""))) -> bytes:
    return changed(files={**{path: str(digest) for path, digest in DIGESTS.items()}, path: digest})


OTHER = Digest.of(b"another")
AGAIN = "; empty the folder and unpack the kit again with `runtime unpack REF DIR`"
BAD = {
    "cut-short": (RECEIPT.to_bytes()[:-9], "the receipt 'r' cannot be used: it is not JSON: "),
    "empty": (b"", "the receipt 'r' cannot be used: it is not JSON: "),
    "twice": (
        b'{"version": 1, "version": 1}',
        "the receipt 'r' cannot be used: it is not JSON: the key 'version' occurs twice",
    ),
    "too-long": (
        b" " * (MAX_RECEIPT_BYTES + 1),
        f"the receipt 'r' cannot be used: it has more than the {64 << 20} bytes that are read",
    ),
    "list": (b"[]", "the receipt 'r' cannot be used: it is not a JSON object"),
    "no-version": (changed(version=None), "the receipt 'r' cannot be used: its version is None, wanted 2"),
    "version-true": (changed(version=True), "the receipt 'r' cannot be used: its version is True, wanted 2"),
    "version-1": (changed(version=1), "the receipt 'r' cannot be used: its version is 1, wanted 2"),
    "no-manifest": (changed(manifest=None), "its manifest is not text"),
    "manifest-is-another": (
        changed(manifest=MANIFEST.raw.decode() + " "),
        f"wanted {MANIFEST.digest}: it was changed",
    ),
    "no-config": (changed(config=None), "its config is not text"),
    "config-is-another": (
        changed(config=CONFIG.decode().replace("labels", "libels")),
        f"its config has digest {Digest.of(CONFIG.replace(b'labels', b'libels'))}, wanted {MANIFEST.config.digest}",
    ),
    "config-longer": (changed(config=CONFIG.decode() + " "), "its config has 491 bytes, wanted 490"),
    "reference-is-of-another": (
        changed(reference=f"host.example/org/iris:v1@{OTHER}"),
        f"the manifest has digest {MANIFEST.digest}, wanted {OTHER}: it was changed on the way",
    ),
    "reference-unpinned": (changed(reference="host.example/org/iris:v1"), "has no digest"),
    "reference-folder": (changed(reference="/mnt/models"), "its reference '/mnt/models' has no digest"),
    "reference-bad": (changed(reference="Not One"), "its reference is bad: 'Not One' is not a reference"),
    "reference-number": (changed(reference=1), "its reference is not text"),
    "files-list": (changed(files=[]), "files is not a JSON object"),
    "file-digest": (files("model/a", "sha256:xyz"), "its digest of 'model/a' is bad"),
    "file-number": (files("model/a", 1), "its digest of 'model/a' is not text"),
    "absolute": (files("/etc/passwd"), "it lists '/etc/passwd', and it is absolute"),
    "outside": (files("model/../../b"), "it lists 'model/../../b', and it has a '..' component"),
    "itself": (files(".modelkit-receipt.json"), "it lists '.modelkit-receipt.json', which is no file of a layer"),
    "kitfile": (files("Kitfile"), "it lists 'Kitfile', which is no file of a layer"),
    "staging": (files(".modelkit-unpack/tree/a"), "which is no file of a layer"),
    "no-entry": (files("sitecustomize.py"), "it lists 'sitecustomize.py', which is under no entry of the kit"),
    "entry-not-served": (files("docs/x.md"), "it lists 'docs/x.md', which is under no entry of the kit"),
    "raw-layer-is-another": (files("labels.txt"), f"its file 'labels.txt' is not the layer {Digest.of(LABELS)}"),
    "raw-layer-is-missing": (changed(files={}), f"its file 'labels.txt' is not the layer {Digest.of(LABELS)}"),
}


@pytest.mark.parametrize(("raw", "message"), BAD.values(), ids=BAD.keys())
def test_a_receipt_that_is_none_or_contradicts_itself_is_refused_in_one_line(raw: bytes, message: str) -> None:
    with pytest.raises(BadContent) as caught:
        Receipt.parse(raw, "r")
    assert message in str(caught.value)
    assert str(caught.value).endswith(AGAIN)
    assert "\n" not in str(caught.value)


def test_a_receipt_of_a_later_version_names_both() -> None:
    with pytest.raises(Unsupported, match=r"^the receipt 'r' has version 3, this runtime reads 2; serve with"):
        Receipt.parse(changed(version=3), "r")


def test_keys_that_came_later_are_left_alone() -> None:
    assert Receipt.parse(changed(signedBy="somebody"), "r") == RECEIPT


def test_a_receipt_that_nobody_could_read_is_not_written(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(receipt, "MAX_RECEIPT_BYTES", 1000)
    with pytest.raises(
        Unsupported, match=r"^the receipt of 5 files would have \d+ bytes, at most 1000 are read; serve"
    ):
        RECEIPT.to_bytes()


def test_no_receipt_is_none(tmp_path: Path) -> None:
    assert installed(tmp_path) is None
    assert installed(tmp_path / "nowhere") is None


def test_a_folder_that_is_being_filled_is_not_whole(root: Path) -> None:
    (root / ".modelkit-unpack").mkdir()
    with pytest.raises(BadContent, match="is not whole: `runtime unpack` is at work in it, or was ended"):
        installed(root)


@pytest.mark.parametrize(
    "make", [lambda path: path.symlink_to("x"), Path.mkdir, os.mkfifo], ids=["link", "dir", "fifo"]
)
def test_a_receipt_that_is_no_file_is_not_read(make: Callable[[Path], None], tmp_path: Path) -> None:
    make(tmp_path / "r")
    with pytest.raises(
        BadContent, match=r"the receipt '.*/r' is (a symbolic link|not a regular file); empty the folder"
    ):
        read_receipt(tmp_path / "r")


# --- the folder


def test_a_folder_that_is_as_it_was_passes(root: Path) -> None:
    seen: list[tuple[str, int, int]] = []
    total = sum(map(len, FILES.values())) + len(CONFIG)
    assert recheck(root, RECEIPT, lambda *what: seen.append(what)) == total
    assert seen[-1] == ("labels.txt", total, total)


def test_empty_folders_and_lost_and_found_do_not_matter(root: Path) -> None:
    (root / "lost+found").mkdir(mode=0o700)
    (root / "model" / "empty").mkdir()
    assert recheck(root, RECEIPT, lambda *_: None)


def _flip(path: Path) -> None:
    path.write_bytes(b"oNnx")


def _link(path: Path) -> None:
    path.rename(path.with_name("real"))
    path.symlink_to("real")


def _link_away(path: Path) -> None:
    path.unlink()
    path.symlink_to("/etc/passwd")


def _folder_link(path: Path) -> None:
    path.parent.rename(path.parent.parent / "elsewhere")
    path.parent.symlink_to("elsewhere")


def _hard_link(path: Path) -> None:
    path.with_name("twin").hardlink_to(path)
    path.with_name("twin").rename(path.parent.parent.parent / f"twin-{os.getpid()}")


def _to_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


def _to_fifo(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


FIX = f"; unpack it again: runtime unpack {REFERENCE} "
DIFFERENT: dict[str, tuple[Callable[[Path], object], type[BadContent], str]] = {
    "changed": (
        _flip,
        DigestMismatch,
        f"has digest {Digest.of(b'oNnx')}, wanted {Digest.of(ONNX)} by its receipt: it was changed after",
    ),
    "longer": (lambda path: path.write_bytes(b"onnx "), DigestMismatch, "'model/a.onnx' in folder"),
    "missing": (Path.unlink, BadContent, "'model/a.onnx' in folder '{}' is missing"),
    "folder": (_to_folder, BadContent, "'model/a.onnx' in folder '{}' is not a regular file"),
    "link-away": (_link_away, BadContent, "'model/a.onnx' in folder '{}' is a symbolic link"),
    "hard-link": (_hard_link, BadContent, "has a second name, a hard link, by which it could be changed"),
    "fifo": (_to_fifo, BadContent, "'model/a.onnx' in folder '{}' is not a regular file"),
}


@pytest.mark.parametrize(("change", "error", "message"), DIFFERENT.values(), ids=DIFFERENT.keys())
def test_a_file_that_differs_is_named(change, error: type[BadContent], message: str, root: Path) -> None:
    change(root / "model" / "a.onnx")
    with pytest.raises(error) as caught:
        recheck(root, RECEIPT, lambda *_: None)
    assert message.format(root) in str(caught.value)
    assert str(caught.value).endswith(f"{FIX}{root}")


def test_a_kitfile_that_is_not_the_config_is_refused(root: Path) -> None:
    (root / "Kitfile").write_bytes(CONFIG + b" ")
    with pytest.raises(DigestMismatch, match=rf"^'Kitfile' in folder '{root}' has digest"):
        recheck(root, RECEIPT, lambda *_: None)


EXTRA: dict[str, tuple[Callable[[Path], object], str]] = {
    "file": (lambda root: (root / "model" / "sitecustomize.py").write_text(""), "model/sitecustomize.py"),
    "hidden": (lambda root: (root / ".x").write_text(""), ".x"),
    "link": (lambda root: (root / "ln").symlink_to("model/a.onnx"), "ln"),
    "renamed": (lambda root: _link(root / "model" / "a.onnx"), "model/real"),
    "folder-link": (lambda root: _folder_link(root / "model" / "a.onnx"), "model"),
    "unwritten": (lambda root: Path(os.fsdecode(bytes(root) + b"/\xff")).write_text(""), "\\udcff"),
    "found": (lambda root: ((root / "lost+found").mkdir(), (root / "lost+found" / "m").write_text("")), "lost+found/m"),
}


@pytest.mark.parametrize(("change", "name"), EXTRA.values(), ids=EXTRA.keys())
def test_something_extra_is_named(change, name: str, root: Path) -> None:
    change(root)
    with pytest.raises(BadContent) as caught:
        recheck(root, RECEIPT, lambda *_: None)
    named = {f"holds '{name}', which `runtime unpack` did not put there; take it away", "is a symbolic link"}
    assert any(each in str(caught.value) for each in named), caught.value
    str(caught.value).encode()


def test_what_is_beside_the_kit_is_left_alone(root: Path) -> None:
    (root / "cache").write_text("")
    assert recheck(root, RECEIPT, lambda *_: None, beside=lambda path: path == "cache")


def test_a_check_can_be_cancelled(root: Path) -> None:
    def stop(*_: object) -> None:
        raise Cancelled("told to stop")

    with pytest.raises(Cancelled):
        recheck(root, RECEIPT, stop)


def test_a_folder_that_is_gone_is_an_error_of_the_disk(root: Path) -> None:
    for check in (lambda: recheck(root / "none", RECEIPT, lambda *_: None), lambda: check_writers(root / "none")):
        with pytest.raises(StorageFailed, match=r"^cannot read folder '.*/none': No such file"):
            check()


# --- who may write into it

STRANGER = 4242
EXPOSED: dict[str, tuple[Callable[[Path], object], str]] = {
    "folder-everybody": (
        lambda root: root.chmod(0o777),
        r"'{0}' can be written by everybody \(mode 0777\): chmod go-w {0}",
    ),
    "folder-group": (
        lambda root: (root / "model").chmod(0o775),
        r"'{0}/model' can be written by group \d+ \(mode 0775\): chmod g-w {0}/model",
    ),
    "file-everybody": (
        lambda root: (root / "model/a.onnx").chmod(0o646),
        r"'{0}/model/a.onnx' can be written by everybody \(mode 0646\): chmod go-w {0}/model/a.onnx",
    ),
    "receipt-group": (
        lambda root: (root / ".modelkit-receipt.json").chmod(0o464),
        r"'{0}/.modelkit-receipt.json' can be written by group \d+ \(mode 0464\): chmod g-w",
    ),
}


@pytest.mark.parametrize(("change", "message"), EXPOSED.values(), ids=EXPOSED.keys())
def test_a_folder_that_others_can_write_into_is_refused(change, message: str, root: Path) -> None:
    check_writers(root)
    change(root)
    with pytest.raises(StorageFailed, match=message.format(root) + ".*; or serve the kit by its reference$"):
        check_writers(root)


def test_a_folder_below_one_that_everybody_may_write_into_is_refused(root: Path) -> None:
    root.chmod(0o777)
    message = rf"^'{root}/model' is in {root}, which can be written by everybody \(mode 0777\): chmod go-w {root}; or"
    with pytest.raises(StorageFailed, match=message):
        check_writers(root / "model")
    root.chmod(0o1777)
    check_writers(root / "model")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file away")
@pytest.mark.parametrize("path", [".", "src", "Kitfile"])
def test_a_folder_that_is_somebody_elses_is_refused(path: str, root: Path) -> None:
    os.chown(root / path, STRANGER, STRANGER)
    with pytest.raises(StorageFailed, match=rf"belongs to user {STRANGER}, wanted user 0 \(this process\) or root"):
        check_writers(root)


def test_in_a_sticky_folder_others_can_change_only_what_is_theirs(root: Path) -> None:
    root.chmod(0o1777)
    check_writers(root)


def test_a_volume_with_an_fs_group_of_this_process_may_be_writable_for_it(root: Path) -> None:
    for path in (root, *root.rglob("*")):
        os.chown(path, -1, os.getegid())
        path.chmod(0o2775 if path.is_dir() else 0o664)
    check_writers(root)
    (root / "model").chmod(0o2777)
    with pytest.raises(StorageFailed, match=r"can be written by everybody \(mode 2777\)"):
        check_writers(root)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a group away")
def test_an_fs_group_of_others_is_none(root: Path) -> None:
    os.chown(root, -1, STRANGER)
    root.chmod(0o2775)
    with pytest.raises(StorageFailed, match=rf"can be written by group {STRANGER}"):
        check_writers(root)


ON_A_VOLUME = """
mount -t tmpfs -o mode=0777 none "$1" && cd "$2" && exec "$3" -c '
import sys
from pathlib import Path
from runtime.errors import StorageFailed
from runtime.kit.installed.recheck import check_writers
root = Path(sys.argv[1])
(root / "model").mkdir()
check_writers(root)
(root / "model").chmod(0o777)
try:
    check_writers(root)
except StorageFailed as failure:
    print(failure)
' "$1"
"""


def test_a_volume_of_roots_that_everybody_may_write_to_is_an_empty_dir_of_kubernetes(tmp_path: Path) -> None:
    command = ["unshare", "-rm", "sh", "-ec", ON_A_VOLUME, "sh", str(tmp_path), str(ROOT), sys.executable]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if "Operation not permitted" in done.stderr or "permission denied" in done.stderr:
        pytest.skip("this machine lets nobody mount a small disk")
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(f"'{tmp_path}/model' can be written by everybody (mode 0777)")
