import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from runtime.errors import BadContent, Cancelled, DigestMismatch, StorageFailed, Unsupported
from runtime.kit.format.digest import Digest
from runtime.kit.format.reference import Reference
from runtime.kit.installed.receipt import MAX_RECEIPT_BYTES, Receipt, read_receipt
from runtime.kit.installed.recheck import checked_kitfile, recheck

DIGEST = Digest.of(b"manifest")
REFERENCE = Reference.parse(f"host.example/org/iris:v1@{DIGEST}")
FILES = {"Kitfile": b"{}", "model/a.onnx": b"onnx", "model/größe ☃.txt": b"", "src/v1..2.py": b"pass\n"}
RECEIPT = Receipt(REFERENCE, DIGEST, {path: Digest.of(data) for path, data in FILES.items()})


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for path, data in FILES.items():
        (tmp_path / path).parent.mkdir(exist_ok=True)
        (tmp_path / path).write_bytes(data)
    (tmp_path / ".modelkit-receipt.json").write_bytes(RECEIPT.to_bytes())
    return tmp_path


def test_a_receipt_reads_what_it_wrote() -> None:
    assert Receipt.parse(RECEIPT.to_bytes(), "r") == RECEIPT
    assert json.loads(RECEIPT.to_bytes()) == {
        "version": 1,
        "reference": str(REFERENCE),
        "digest": str(DIGEST),
        "files": {path: str(Digest.of(data)) for path, data in FILES.items()},
    }


def changed(**fields: Any) -> bytes:
    document = {**json.loads(RECEIPT.to_bytes()), **fields}
    return json.dumps({key: value for key, value in document.items() if value is not None}).encode()


def files(path: str, digest: object = str(DIGEST)) -> bytes:
    return changed(files={"Kitfile": str(DIGEST), path: digest})


AGAIN = "; empty the folder and unpack the kit again with `runtime unpack REF DIR`"
BAD = {
    "cut-short": (RECEIPT.to_bytes()[:-9], "the receipt 'r' is not JSON: "),
    "empty": (b"", "the receipt 'r' is not JSON: "),
    "twice": (b'{"version": 1, "version": 1}', "the receipt 'r' is not JSON: the key 'version' occurs twice"),
    "too-long": (b" " * (MAX_RECEIPT_BYTES + 1), "the receipt 'r' has 33554433 bytes, more than the 33554432"),
    "list": (b"[]", "the receipt 'r' is not one: it is not a JSON object"),
    "no-version": (changed(version=None), "the receipt 'r' is not one: its version is None, wanted 1"),
    "version-true": (changed(version=True), "the receipt 'r' is not one: its version is True, wanted 1"),
    "no-digest": (changed(digest=None), "the receipt 'r' is not one: its digest is not text"),
    "digest-short": (changed(digest="sha256:ab"), "is not one: its digest is bad: sha256 has 64 hexadecimal digits"),
    "digest-upper": (
        changed(digest=str(DIGEST).replace(DIGEST.hex, DIGEST.hex.upper())),
        "its digest is bad: sha256 is",
    ),
    "digest-md5": (changed(digest="md5:" + "0" * 32), "its digest is bad: the algorithm 'md5' is not supported"),
    "other-digest": (changed(digest=str(Digest.of(b""))), "name two kits"),
    "reference-unpinned": (changed(reference="host.example/org/iris:v1"), "name two kits"),
    "reference-folder": (changed(reference="/mnt/models"), "name two kits"),
    "reference-bad": (changed(reference="Not One"), "its reference is bad: 'Not One' is not a reference"),
    "reference-number": (changed(reference=1), "its reference is not text"),
    "files-list": (changed(files=[]), "files is not a JSON object"),
    "no-kitfile": (changed(files={}), "its files lack the Kitfile"),
    "file-digest": (files("a", "sha256:xyz"), "its digest of 'a' is bad"),
    "file-number": (files("a", 1), "its digest of 'a' is not text"),
    "absolute": (files("/etc/passwd"), "it lists '/etc/passwd', and it is absolute"),
    "outside": (files("a/../../b"), "it lists 'a/../../b', and it has a '..' component"),
    "itself": (files(".modelkit-receipt.json"), "it lists '.modelkit-receipt.json', which is no file of a kit"),
    "staging": (files(".modelkit-unpack/tree/a"), "which is no file of a kit"),
}


@pytest.mark.parametrize(("raw", "message"), BAD.values(), ids=BAD.keys())
def test_what_is_no_receipt_is_one_error(raw: bytes, message: str) -> None:
    with pytest.raises(BadContent) as caught:
        Receipt.parse(raw, "r")
    assert message in str(caught.value)
    assert str(caught.value).endswith(AGAIN)
    assert "\n" not in str(caught.value)


def test_a_receipt_of_a_later_version_names_both() -> None:
    with pytest.raises(Unsupported, match=r"^the receipt 'r' has version 2, this runtime reads 1; serve with"):
        Receipt.parse(changed(version=2), "r")


def test_keys_that_came_later_are_left_alone() -> None:
    assert Receipt.parse(changed(signedBy="somebody"), "r") == RECEIPT


def test_no_receipt_is_none(tmp_path: Path) -> None:
    assert read_receipt(tmp_path / ".modelkit-receipt.json") is None


@pytest.mark.parametrize(
    "make", [lambda path: path.symlink_to("x"), Path.mkdir, os.mkfifo], ids=["link", "dir", "fifo"]
)
def test_a_receipt_that_is_no_file_is_none_to_believe(make: Callable[[Path], None], tmp_path: Path) -> None:
    make(tmp_path / "r")
    with pytest.raises(
        BadContent, match=r"the receipt '.*/r' is (a symbolic link|not a regular file); empty the folder"
    ):
        read_receipt(tmp_path / "r")


def test_a_folder_that_is_as_it_was_passes(root: Path) -> None:
    seen: list[tuple[str, int, int]] = []
    assert recheck(root, RECEIPT, lambda *what: seen.append(what)) == sum(map(len, FILES.values()))
    assert seen[-1] == ("src/v1..2.py", 11, 11)
    assert checked_kitfile(root, RECEIPT) == b"{}"


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
    "changed": (_flip, DigestMismatch, f"its receipt says {Digest.of(b'onnx')}: it was changed after it was unpacked"),
    "longer": (lambda path: path.write_bytes(b"onnx "), DigestMismatch, "'model/a.onnx' in folder"),
    "missing": (Path.unlink, BadContent, "lacks 'model/a.onnx', which its receipt lists"),
    "folder": (_to_folder, BadContent, "lacks 'model/a.onnx', which its receipt lists"),
    "link-away": (_link_away, BadContent, "'model/a.onnx' in folder '{}' is a symbolic link"),
    "hard-link": (_hard_link, BadContent, "is a file with a second name, a hard link, by which it could be changed"),
    "fifo": (_to_fifo, BadContent, "'model/a.onnx' in folder '{}' is no regular file"),
}


@pytest.mark.parametrize(("change", "error", "message"), DIFFERENT.values(), ids=DIFFERENT.keys())
def test_a_file_that_differs_is_named(change, error: type[BadContent], message: str, root: Path) -> None:
    change(root / "model" / "a.onnx")
    with pytest.raises(error) as caught:
        recheck(root, RECEIPT, lambda *_: None)
    assert message.format(root) in str(caught.value)
    assert str(caught.value).endswith(f"{FIX}{root}")


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


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda path: path.write_text("{ }"), "'Kitfile' in folder '{}' has digest"),
        (Path.unlink, "folder '{}' lacks 'Kitfile'"),
        (_link, "'Kitfile' in folder '{}' is a symbolic link"),
    ],
)
def test_a_kitfile_that_is_not_the_receipts_is_never_read(change, message: str, root: Path) -> None:
    change(root / "Kitfile")
    with pytest.raises(BadContent) as caught:
        checked_kitfile(root, RECEIPT)
    assert str(caught.value).startswith(message.format(root))


def test_a_check_can_be_cancelled(root: Path) -> None:
    def stop(*_: object) -> None:
        raise Cancelled("told to stop")

    with pytest.raises(Cancelled):
        recheck(root, RECEIPT, stop)


def test_a_folder_that_is_gone_is_an_error_of_the_disk(root: Path) -> None:
    with pytest.raises(StorageFailed, match=r"^cannot read folder '.*/none': No such file"):
        recheck(root / "none", RECEIPT, lambda *_: None)
