import errno
import gzip
import io
import json
import os
import re
import shutil
import subprocess
import sys
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runtime.errors import (
    BadContent,
    Cancelled,
    DigestMismatch,
    InvalidManifest,
    SizeMismatch,
    StorageFailed,
    UnsafeArchive,
    Unsupported,
)
from runtime.kit.format.digest import Digest
from runtime.kit.format.kitfile import Entry, Kitfile
from runtime.kit.format.limits import UnpackLimits
from runtime.kit.format.manifest import FILE_METADATA, FILE_PATH, Descriptor, Layer, Manifest
from runtime.kit.format.placing import Placed, needed, place
from runtime.kit.unpack.walk import Opened, same, unpack
from tests.descriptors import open_descriptors
from tests.kit.archives import END, extension, file, folder, header, pax, python_tar, with_checksums
from tests.kit.golden import EVERY_KIT, IDS, Golden, golden
from tests.places import ROOT

Stored = tuple[Placed, bytes]


def layer(
    data: bytes,
    path: str = ".",
    *,
    form: str = "tar",
    compression: str = "",
    notes: dict[str, str] | None = None,
    diff_id: Digest | None = None,
    prefix: str = "",
) -> Stored:
    digest = Digest.of(data)
    descriptor = Descriptor("application/x", digest, len(data), notes or {})
    entry = Entry(path, digest=digest, diff_id=diff_id)
    return Placed(entry, "code", Layer(descriptor, "code", form, compression, prompt=False), prefix), data


def opened(*stored: Stored) -> Opened:
    return [(placed, io.BytesIO(data)) for placed, data in stored]


def unpacked(layers: Opened, root: Path) -> tuple[str, ...]:
    """Unpack the layers; gives the paths of the files that are there then, sorted."""
    unpack(layers, root)
    return tuple(sorted(name for name, data in tree(root).items() if data is not None))


def tree(root: Path) -> dict[str, bytes | None]:
    """Give everything below `root`: files with their bytes, folders as None."""
    return {
        str(path.relative_to(root)): path.read_bytes() if path.is_file() else None for path in sorted(root.rglob("*"))
    }


@pytest.fixture
def root(tmp_path: Path) -> Path:
    folder = tmp_path / "around" / "kit"
    folder.mkdir(parents=True)
    return folder


def stored_layers(kit: Golden) -> list[Stored]:
    manifest = Manifest.parse(kit.blob(kit.digest).read_bytes(), expected=None)
    kitfile = Kitfile.parse_json(kit.blob(str(manifest.config.digest)).read_bytes(), manifest.layers)
    return [(item, kit.blob(str(item.layer.descriptor.digest)).read_bytes()) for item in place(kitfile, manifest)]


@pytest.mark.parametrize("kit", EVERY_KIT, ids=IDS)
def test_every_golden_kit_unpacks_into_the_files_that_were_packed(kit: Golden, root: Path) -> None:
    stored = stored_layers(kit)
    files = unpacked(opened(*stored), root)
    expected = {
        f"{placed.prefix}/{name}".removeprefix("/"): data
        for placed, _ in stored
        for name, data in kit.tar_files(str(placed.layer.descriptor.digest)).items()
    }
    assert {name: data for name, data in tree(root).items() if data is not None} == expected
    assert list(files) == sorted(expected)
    assert same(opened(*stored), root)


@pytest.mark.parametrize("kit", ["iris-onnx", "digits-external", "wine-sklearn"])
@pytest.mark.parametrize("tag", ["gzip", "gzip-fastest", "era-0.4", "era-0.2"])
def test_every_era_of_a_kit_serves_from_the_same_files(kit: str, tag: str, tmp_path: Path) -> None:
    trees = []
    for number, item in enumerate((golden(kit), golden(kit, tag))):
        root = tmp_path / str(number)
        root.mkdir()
        keep = needed(tuple(placed for placed, _ in stored_layers(item)))
        unpack(opened(*(stored for stored in stored_layers(item) if stored[0] in keep)), root)
        trees.append({name: data for name, data in tree(root).items() if data is not None})
    assert trees[0] == trees[1]


def test_modes_are_ours_whatever_the_archive_and_the_umask_say(root: Path) -> None:
    old = os.umask(0o077)
    try:
        unpack(opened(layer(folder("a", mode=b"0000000\x00") + file("a/b", mode=b"0007777\x00") + END)), root)
    finally:
        os.umask(old)
    assert [(root / name).stat().st_mode & 0o7777 for name in ("a", "a/b")] == [0o755, 0o444]


def test_layers_share_folders_and_need_not_name_them(root: Path) -> None:
    first = layer(folder("m") + folder("m/main") + file("m/main/a") + END, "m/main/a")
    second = layer(folder("m") + folder("m/main") + file("m/main/b") + END, "m/main/b")
    third = layer(file("m/other/c") + END, "m/other")
    assert unpacked(opened(first, second, third), root) == ("m/main/a", "m/main/b", "m/other/c")


def test_names_that_only_look_strange_are_fine(root: Path) -> None:
    names = ["src/v1..2.py", "src/...", "src/ ", "src/naïve ünïcode.txt", "src/-rf", "src/a:b", "src/" + "n" * 255]
    assert unpacked(opened(layer(python_tar(dict.fromkeys(names, b"x")), "src")), root) == tuple(sorted(names))


def test_an_archive_without_members_is_fine(root: Path) -> None:
    assert unpacked(opened(layer(END, "empty")), root) == ()
    assert same(opened(layer(END, "empty")), root)


# --- what is refused: every one of these must leave nothing outside of the folder

HOSTILE = {
    "absolute": file("/etc/x"),
    "absolute-pax": pax({"path": "/etc/x"}) + file("x"),
    "absolute-prefix": file("x", prefix=b"/etc"),
    "absolute-long-name": extension(b"L", b"/etc/x\x00") + file("x"),
    "climb": file("../x"),
    "climb-inside": file("a/../../x"),
    "climb-at-end": folder("a/.."),
    "climb-prefix": file("x", prefix=b".."),
    "climb-pax": pax({"path": "a/../../x"}) + file("x"),
    "climb-long-name": extension(b"L", b"../x\x00") + file("x"),
    "climb-folder": folder("../new"),
    "dot": folder("."),
    "dot-slash": folder("./"),
    "dot-slash-file": file("./x"),
    "empty-name": file(""),
    "slash-name": folder("/"),
    "empty-component": file("a//x"),
    "file-with-slash": file("x/"),
    "nul-in-pax": pax({"path": "x\x00y"}) + file("x"),
    "newline": file("x\ny"),
    "escape": file("\x1b[2Jx"),
    "backslash": file("a\\..\\x"),
    "not-utf-8": file(b"\xff\xfe"),
    "long-component": pax({"path": "n" * 256}) + file("x"),
    "long-path": pax({"path": "/".join(["n" * 200] * 6)}) + file("x"),
    "deep": pax({"path": "/".join(["d"] * 33)}) + file("x"),
    "2000-deep": pax({"path": "/".join(["d"] * 2000)}) + file("x"),
    "symlink": header("x", kind=b"2", link=b"/etc/passwd"),
    "symlink-then-through-it": header("x", kind=b"2", link=b"..") + file("x/y"),
    "hard-link": header("x", kind=b"1", link=b"../secret"),
    "character-device": header("x", kind=b"3"),
    "block-device": header("x", kind=b"4"),
    "fifo": header("x", kind=b"6"),
    "sparse": header("x", kind=b"S"),
    "sparse-pax": pax({"GNU.sparse.realsize": "1"}) + file("x"),
    "global-pax": extension(b"g", b"11 path=../x\n") + file("x"),
    "twice": file("x") + file("x"),
    "twice-empty": file("x", b"") + file("x", b""),
    "case-twin": file("Model.onnx") + file("model.onnx"),
    "case-twin-folder": file("A/x") + file("a/y"),
    "unicode-twin": file("é") + file("e\u0301"),
    "file-as-folder": file("x") + file("x/y"),
    "file-as-folder-member": file("x") + folder("x"),
    "folder-as-file": folder("x") + file("x"),
    "implied-folder-as-file": file("x/y") + file("x"),
    "folder-with-size": header("x", 512, b"5") + bytes(512),
    "checksum": header("x", checksum=b"000000\x00 "),
    "negative-size": header("x", b"\xff" * 12),
    "lying-size": header("x", 8**11 - 1) + bytes(512),
    "huge-size": header("x", b"\x80" + (1 << 50).to_bytes(11, "big")) + bytes(512),
    "pax-huge-size": pax({"size": str(1 << 50)}) + header("x", 0),
    "giant-pax": extension(b"x", b"9" * 70_000) + file("x"),
    "giant-long-name": extension(b"L", b"n" * 70_000) + file("x"),
    "two-extensions": pax({"path": "a"}) + extension(b"L", b"b\x00") + file("x"),
    "not-a-tar": b"GIF89a" * 200,
}


@pytest.mark.parametrize("compression", ["", "gzip"], ids=["plain", "gzip"])
@pytest.mark.parametrize("members", HOSTILE.values(), ids=HOSTILE.keys())
def test_44_a_hostile_archive_is_refused_and_nothing_is_written_outside(
    members: bytes, compression: str, root: Path
) -> None:
    data = file("fine") + members + END
    stored = layer(gzip.compress(data) if compression else data, compression=compression)
    with pytest.raises(UnsafeArchive) as caught:
        unpack(opened(stored), root)
    assert str(caught.value).startswith(f"layer {stored[0].layer.descriptor.digest} (code '.') ")
    assert str(caught.value).isprintable()
    assert [path.name for path in root.parent.iterdir()] == ["kit"]
    assert not any(path.is_symlink() for path in root.rglob("*"))


ENDS = {
    "nothing": b"",
    "no-end": file("x"),
    "half-an-end": file("x") + bytes(512),
    "cut-data": file("x", b"1" * 600)[:-200],
    "data-after-end": file("x") + END + b"x",
    "second-archive": file("x") + END + file("../y") + END,
}


@pytest.mark.parametrize("compression", ["", "gzip"], ids=["plain", "gzip"])
@pytest.mark.parametrize("data", ENDS.values(), ids=ENDS.keys())
def test_an_archive_that_does_not_end_right_is_refused(data: bytes, compression: str, root: Path) -> None:
    stored = layer(gzip.compress(data) if compression else data, compression=compression)
    with pytest.raises(UnsafeArchive):
        unpack(opened(stored), root)


LIMITS = {
    "members": (UnpackLimits(members=2), file("a") + file("b") + file("c"), "to more than 2 archive members"),
    "repeated-folders": (UnpackLimits(members=2), folder("a") * 3, "to more than 2 archive members"),
    "implied-folders": (UnpackLimits(members=3), file("a/b/c/d"), "the kit has more than 3 files and folders"),
    "folders": (UnpackLimits(folders=2), folder("a") + file("a/b/c") + folder("d"), "the kit has more than 2 folders"),
    "bytes": (UnpackLimits(expanded_bytes=4000), file("a", b"1" * 4000), "to more than 4000 bytes"),
    "stated-bytes": (UnpackLimits(), header("a", b"\x80" + (33 << 30).to_bytes(11, "big")), "bytes, the limit"),
    "depth": (UnpackLimits(depth=2), file("a/b/c"), "it is 3 levels deep, at most 2 are allowed"),
    "path": (UnpackLimits(path_bytes=4), file("a/b/c"), "it is longer than 4 bytes"),
}


@pytest.mark.parametrize(("limits", "members", "message"), LIMITS.values(), ids=LIMITS.keys())
def test_limits_hold(limits: UnpackLimits, members: bytes, message: str, root: Path) -> None:
    with pytest.raises(UnsafeArchive) as caught:
        unpack(opened(layer(members + END)), root, limits=limits)
    assert message in str(caught.value)


def test_too_many_folders_are_refused_before_one_is_made(root: Path) -> None:
    with pytest.raises(UnsafeArchive, match="more than 2 folders"):
        unpack(opened(layer(folder("a") + folder("b") + folder("c") + END)), root, limits=UnpackLimits(folders=2))
    assert tree(root) == {}


def test_limits_hold_over_all_layers_together(root: Path) -> None:
    layers = [layer(file(f"f{number}", b"1" * 1000) + END) for number in range(3)]
    unpack(opened(*layers[:2]), root, limits=UnpackLimits(expanded_bytes=6000, members=2))
    for limits in (UnpackLimits(expanded_bytes=6000), UnpackLimits(members=2)):
        with pytest.raises(UnsafeArchive, match=f"layer {layers[2][0].layer.descriptor.digest}"):
            same(opened(*layers), root, limits=limits)


ACROSS = {
    "twice": (file("a/x"), file("a/x")),
    "case-twin": (file("a/X"), file("a/x")),
    "file-then-folder": (file("a/x"), folder("a/x")),
    "file-then-inside": (file("a/x"), file("a/x/y")),
    "folder-then-file": (folder("a/x"), file("a/x")),
}


@pytest.mark.parametrize(("first", "second"), ACROSS.values(), ids=ACROSS.keys())
def test_layers_of_one_kit_may_not_clash(first: bytes, second: bytes, root: Path) -> None:
    with pytest.raises(UnsafeArchive, match=r"that is refused: "):
        unpack(opened(layer(first + END, "a"), layer(second + END, "a")), root)


OUTSIDE = {
    "beside": ("model/iris.onnx", file("model/other")),
    "prefix-of-text": ("model", file("model_utils.py")),
    "other-folder": ("model", folder("src")),
    "folder-beside": ("model/main", folder("model/other")),
    "file-above": ("model/iris.onnx", file("model")),
}


@pytest.mark.parametrize(("path", "members"), OUTSIDE.values(), ids=OUTSIDE.keys())
def test_members_belong_to_their_entrys_path(path: str, members: bytes, root: Path) -> None:
    with pytest.raises(UnsafeArchive, match=f"outside of its entry's path, '{path}'"):
        unpack(opened(layer(members + END, path)), root)


def test_a_layer_of_an_old_kit_is_unpacked_under_its_prefix(root: Path) -> None:
    assert unpacked(opened(layer(file("iris.onnx") + END, "model/iris.onnx", prefix="model")), root) == (
        "model/iris.onnx",
    )


@pytest.mark.parametrize("name", ["../iris.onnx", "other.onnx", "/iris.onnx"])
def test_a_layer_of_an_old_kit_stays_under_its_prefix(name: str, root: Path) -> None:
    with pytest.raises(UnsafeArchive):
        unpack(opened(layer(file(name) + END, "model/iris.onnx", prefix="model")), root)


# --- raw layers, diffIds


def raw(
    data: bytes, path: str | None = "m/a.bin", *, entry: str = "m/a.bin", size: object = None, **more: str
) -> Stored:
    notes = {FILE_PATH: path} if path is not None else {}
    if size is not None:
        notes[FILE_METADATA] = json.dumps({"name": "a.bin", "size": size})
    stored = gzip.compress(data) if more.get("compression") else data
    return layer(stored, entry, form="raw", notes=notes, **more)


def test_a_raw_layer_is_the_file(root: Path) -> None:
    layers = [
        raw(b"123", size=3),
        raw(b"45", "m/b.bin", entry="m/b.bin", compression="gzip", size=2),
        raw(b"", "c", entry="c"),
    ]
    assert unpacked(opened(*layers), root) == ("c", "m/a.bin", "m/b.bin")
    assert tree(root) == {"c": b"", "m": None, "m/a.bin": b"123", "m/b.bin": b"45"}
    assert same(opened(*layers), root)
    (root / "m/b.bin").unlink()
    (root / "m/b.bin").write_bytes(b"456")
    assert not same(opened(*layers), root)


@pytest.mark.parametrize(
    ("stored", "error", "message"),
    [
        (
            raw(b"1", None),
            InvalidManifest,
            "is a raw file without the annotation org.cncf.model.filepath, which names it",
        ),
        (raw(b"1", "../x"), UnsafeArchive, "has a member '../x' that is refused: it has a '..' component"),
        (raw(b"1", "/x"), UnsafeArchive, "has a member '/x' that is refused: it is absolute"),
        (
            raw(b"1", "x"),
            UnsafeArchive,
            "has a member 'x' that is refused: it is outside of its entry's path, 'm/a.bin'",
        ),
        (raw(b"1", size=2), SizeMismatch, "has 1 bytes, its annotation says 2"),
        (raw(b"1", size=2, compression="gzip"), SizeMismatch, "holds 1 bytes, its annotation says 2"),
    ],
    ids=["no-path", "climb", "absolute", "elsewhere", "size", "size-inside"],
)
def test_a_bad_raw_layer_is_refused(stored: Stored, error: type[BadContent], message: str, root: Path) -> None:
    with pytest.raises(error) as caught:
        unpack(opened(stored), root)
    assert str(caught.value).endswith(message)


@pytest.mark.parametrize("note", ["{", "[]", '{"size": "3"}', '{"size": true}', "[" * 9999], ids=range(5))
def test_a_strange_metadata_annotation_does_not_matter(note: str, root: Path) -> None:
    notes = {FILE_PATH: "a", FILE_METADATA: note}
    assert unpacked(opened(layer(b"1", "a", form="raw", notes=notes)), root) == ("a",)


@pytest.mark.parametrize("compression", ["", "gzip"], ids=["plain", "gzip"])
def test_the_diff_id_is_checked(compression: str, root: Path) -> None:
    inside = file("a") + END
    data = gzip.compress(inside) if compression else inside
    good = layer(data, "a", compression=compression, diff_id=Digest.of(inside))
    bad = layer(data, "a", compression=compression, diff_id=Digest.of(b"other"))
    with pytest.raises(DigestMismatch) as caught:
        same(opened(bad), root) or unpack(opened(bad), root)
    assert str(caught.value) == (
        f"the content of layer {Digest.of(data)} (code 'a') has digest {Digest.of(inside)}, wanted {Digest.of(b'other')} "
        "(its diffId in the Kitfile)"
    )
    (root / "a").unlink()
    assert unpacked(opened(good), root) == ("a",)


@pytest.mark.parametrize(
    ("form", "compression", "message"),
    [
        (
            "tar",
            "br",
            "is compressed with br, which this version cannot read; pack the kit again with --compression",
        ),
        ("squashfs", "", "has the media type application/x, which is not known"),
        ("", "", "has the media type application/x, which is not known"),
    ],
)
def test_what_cannot_be_read_yet_is_named(form: str, compression: str, message: str, root: Path) -> None:
    with pytest.raises(Unsupported, match=message):
        unpack(opened(layer(END, form=form, compression=compression)), root)


# --- comparing

GOOD = layer(folder("m") + file("m/a", b"1" * 3000) + file("m/b", b"") + folder("m/empty") + END)


def _flip(root: Path) -> None:
    _replace(root, b"1" * 2999 + b"2")


def _replace(root: Path, data: bytes) -> None:
    (root / "m/a").unlink()
    (root / "m/a").write_bytes(data)


def _link(root: Path, target: str) -> None:
    (root / "m/a").rename(root.parent / "aside")
    (root / "m/a").symlink_to(target)


def _folder_link(root: Path) -> None:
    (root / "m").rename(root.parent / "m")
    (root / "m").symlink_to("../m")


def _fifo(root: Path) -> None:
    (root / "m/a").unlink()
    os.mkfifo(root / "m/a")


def _to_folder(root: Path) -> None:
    (root / "m/b").unlink()
    (root / "m/b").mkdir()


CHANGES = {
    "flipped-byte": _flip,
    "shorter": lambda root: _replace(root, b"1" * 2999),
    "longer": lambda root: _replace(root, b"1" * 3001),
    "missing": lambda root: (root / "m/a").unlink(),
    "missing-empty": lambda root: (root / "m/b").unlink(),
    "missing-folder": lambda root: (root / "m/empty").rmdir(),
    "extra": lambda root: (root / "m/extra").write_bytes(b""),
    "extra-at-root": lambda root: (root / "sitecustomize.py").write_bytes(b""),
    "extra-folder": lambda root: (root / "extra").mkdir(),
    "extra-link": lambda root: (root / "m/extra").symlink_to("a"),
    "link": lambda root: _link(root, "../../aside"),
    "absolute-link": lambda root: _link(root, str(root.parent / "aside")),
    "folder-link": _folder_link,
    "hard-link": lambda root: os.link(root / "m/a", root.parent / "other-name"),
    "fifo": _fifo,
    "file-as-folder": _to_folder,
    "renamed": lambda root: (root / "m/a").rename(root / "m/A"),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES.keys())
def test_a_tree_that_was_changed_is_not_the_same(change, root: Path) -> None:
    unpack(opened(GOOD), root)
    assert same(opened(GOOD), root)
    change(root)
    assert not same(opened(GOOD), root)


def test_a_root_that_is_no_folder_is_not_the_same(root: Path) -> None:
    unpack(opened(GOOD), root)
    (root.parent / "link").symlink_to(root)
    assert not same(opened(GOOD), root.parent / "link")
    assert not same(opened(GOOD), root.parent / "missing")
    assert not same(opened(GOOD), root / "m/a")


# --- disk and control


def test_a_folder_that_is_in_use_is_not_written_over(root: Path) -> None:
    (root / "m").mkdir()
    with pytest.raises(StorageFailed) as caught:
        unpack(opened(GOOD), root)
    assert str(caught.value) == f"cannot write 'm' in {root}: {os.strerror(errno.EEXIST)}"


def test_a_planted_link_is_not_followed(root: Path) -> None:
    (root.parent / "target").mkdir()
    (root / "m").symlink_to("../target")
    with pytest.raises(StorageFailed):
        unpack(opened(GOOD), root)
    (root / "m").unlink()
    (root / "m").mkdir()
    (root / "m/a").symlink_to("../../target/planted")
    with pytest.raises(StorageFailed):
        unpack(opened(layer(file("m/a") + END)), root)
    assert list((root.parent / "target").iterdir()) == []


def test_a_missing_root_is_an_error_of_the_disk(root: Path) -> None:
    with pytest.raises(StorageFailed) as caught:
        unpack(opened(GOOD), root / "missing")
    assert str(caught.value) == f"cannot write 'the folder' in {root / 'missing'}: {os.strerror(errno.ENOENT)}"


def test_a_file_larger_than_the_disk_is_refused_before_it_is_written(root: Path) -> None:
    size = 1 << 60
    stored = layer(header("big", b"\x80" + size.to_bytes(11, "big")) + END)
    with pytest.raises(StorageFailed) as caught:
        unpack(opened(stored), root, limits=UnpackLimits(expanded_bytes=1 << 62))
    assert str(caught.value).startswith(f"the disk is full: 'big' needs {size} bytes in {root}, ")
    assert str(caught.value).endswith(" bytes are free; make room, or set --cache-dir to another disk")


@pytest.mark.slow
def test_a_disk_that_fills_up_on_the_way_is_told(root: Path) -> None:
    code = """
import errno, resource, signal, sys
from pathlib import Path
sys.path.insert(0, sys.argv[2])
from runtime.errors import StorageFailed
from tests.kit.unpack.test_walk import GOOD, opened, unpack
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
try:
    unpack(opened(GOOD), Path(sys.argv[1]))
except StorageFailed as failure:
    print(failure)
"""
    done = subprocess.run([sys.executable, "-c", code, root, ROOT], capture_output=True, text=True, check=True)
    assert done.stdout == f"cannot write 'm/a' in {root}: {os.strerror(errno.EFBIG)}\n"


ON_A_SMALL_DISK = """
mount -t tmpfs -o size=1m none "$1" && cd "$2" && exec "$3" -c '
import sys
from pathlib import Path
from runtime.errors import StorageFailed
from tests.kit.archives import END, file
from tests.kit.unpack.test_walk import gzip, layer, opened, unpack
big = file("fits", bytes(700 << 10)) + END
notes = {"org.cncf.model.filepath": "big"}
more = layer(gzip.compress(bytes(700 << 10)), "big", form="raw", compression="gzip", notes=notes)
try:
    unpack(opened(layer(big), more), Path(sys.argv[1]))
except StorageFailed as failure:
    print(failure)
' "$1"
"""


def may_mount() -> bool:
    if shutil.which("unshare") is None:
        return False
    return (
        subprocess.run(["unshare", "-rm", "mount", "-t", "tmpfs", "none", "/mnt"], capture_output=True).returncode == 0
    )


@pytest.mark.slow
@pytest.mark.skipif(not may_mount(), reason="this machine lets nobody mount a small disk")
def test_a_full_disk_says_how_much_is_free(root: Path) -> None:
    here = ROOT
    command = ["unshare", "-rm", "sh", "-ec", ON_A_SMALL_DISK, "sh", root, here, sys.executable]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    what = rf"the disk is full: 'big' needs more room in {root}, \d+ bytes are free"
    assert re.fullmatch(what + "; make room, or set --cache-dir to another disk\n", done.stdout)


def test_unpacking_can_be_cancelled(root: Path) -> None:
    def checkpoint() -> None:
        raise Cancelled("told to stop")

    with pytest.raises(Cancelled):
        unpack(opened(GOOD), root, check=checkpoint)
    with pytest.raises(Cancelled):
        same(opened(GOOD), root, check=checkpoint)


def test_layers_are_opened_one_after_another(root: Path) -> None:
    events = []

    def layers() -> Iterator[tuple[Placed, io.BytesIO]]:
        for name in ("a", "b"):
            placed, data = layer(file(name) + END)
            events.append(f"open {name}")
            with io.BytesIO(data) as stream:
                yield placed, stream
            events.append(f"closed {name}, {len(list(root.iterdir()))} there")

    unpack(layers(), root)
    assert events == ["open a", "closed a, 1 there", "open b", "closed b, 2 there"]


@pytest.mark.slow
def test_no_descriptor_stays_open(root: Path) -> None:
    before = open_descriptors()
    unpack(opened(GOOD), root)
    same(opened(GOOD), root)
    with pytest.raises(UnsafeArchive):
        same(opened(GOOD, layer(file("../x") + END)), root)
    assert open_descriptors() <= before


@pytest.mark.slow
@given(st.data())
def test_a_mutated_archive_never_writes_outside(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    around = tmp_path_factory.mktemp("around")
    root = around / "kit"
    root.mkdir()
    style = data.draw(st.sampled_from([tarfile.PAX_FORMAT, tarfile.GNU_FORMAT]))
    whole = bytearray(python_tar({"a": None, "a/b": b"b" * 600, "é" * 60: b"", "c/d": b"1"}, style))
    for _ in range(data.draw(st.integers(1, 4))):
        place = data.draw(st.integers(0, len(whole) - 1))
        piece = data.draw(st.binary(min_size=1, max_size=4) | st.sampled_from([b"../", b"/", b"2", b"1", b"x", b"L"]))
        whole[place : place + len(piece)] = piece
    mended = with_checksums(bytes(whole))
    try:
        files = unpacked(opened(layer(mended)), root)
    except UnsafeArchive:
        files = ()
    assert [path.name for path in around.iterdir()] == ["kit"]
    assert not [path for path in root.rglob("*") if path.is_symlink()]
    assert not files or same(opened(layer(mended)), root)


@pytest.mark.slow
def test_memory_stays_small_whatever_the_archive_says(root: Path) -> None:
    code = """
import gzip, io, resource, sys
from pathlib import Path
sys.path.insert(0, sys.argv[2])
from runtime.errors import UnsafeArchive
from tests.kit.archives import END, file, header
from tests.kit.unpack.test_walk import layer, unpack
out = io.BytesIO()
with gzip.GzipFile(fileobj=out, mode="wb", compresslevel=1) as packed:
    packed.write(header("big", 60 << 20))
    for _ in range(60):
        packed.write(bytes(1 << 20))
    packed.write(header("x", 200 << 20, b"x"))
    for _ in range(200):
        packed.write(bytes(1 << 20))
placed, data = layer(out.getvalue(), compression="gzip")
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
try:
    unpack([(placed, io.BytesIO(data))], Path(sys.argv[1]))
except UnsafeArchive as refusal:
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before, refusal)
"""
    done = subprocess.run([sys.executable, "-c", code, root, ROOT], capture_output=True, text=True, check=True)
    grown_kib, _, message = done.stdout.partition(" ")
    assert "an extension header of 209715200 bytes, wanted at most 65536" in message
    assert int(grown_kib) < 8 << 10
