import errno
import io
import json
import os
import shutil
import subprocess
import tarfile
from pathlib import Path

import pytest

from runtime.errors import (
    Cancelled,
    DigestMismatch,
    Failure,
    InvalidManifest,
    NotAModelKit,
    NotFound,
    SizeMismatch,
    StorageFailed,
    UnsafeArchive,
)
from runtime.kit.disk.layout import LayoutSource, open_archive, open_layout, open_source
from runtime.kit.format.digest import Digest
from runtime.kit.format.manifest import Descriptor, Manifest
from runtime.kit.format.reference import Reference
from tests.kit.golden import EVERY_KIT, IDS, Golden, golden
from tests.places import KITS

ABSENT = "sha256:" + "0f" * 32
IRIS = golden("iris-onnx")


def nothing(_count: int) -> None:
    """Take progress and do nothing with it."""


def source_of(text: str) -> tuple[LayoutSource, Reference]:
    reference = Reference.parse(text)
    return open_source(reference), reference


@pytest.fixture
def layout(tmp_path: Path) -> Path:
    """A copy of `iris-onnx` that a test may spoil."""
    return Path(shutil.copytree(IRIS.folder, tmp_path / "iris"))


def tar_of(folder: Path, target: Path) -> Path:
    with tarfile.open(target, "w") as archive:
        archive.add(folder, ".")
    return target


@pytest.mark.parametrize("form", ["oci", "oci-archive"])
@pytest.mark.parametrize("kit", EVERY_KIT, ids=IDS)
def test_every_golden_kit_is_found_by_tag_and_every_blob_verified(kit: Golden, form: str, tmp_path: Path) -> None:
    place = kit.folder if form == "oci" else tar_of(kit.folder, tmp_path / "kit.tar")
    source, reference = source_of(f"{form}:{place}:{kit.tag}")
    found, raw = source.resolve(reference)
    assert str(found) == f"{reference}@{kit.digest}"
    manifest = Manifest.parse(raw, expected=found.digest)
    for descriptor in (manifest.config, *(layer.descriptor for layer in manifest.layers)):
        positions: list[int] = []
        with source.blob(descriptor, positions.append) as file:
            assert file.read() == kit.blob(str(descriptor.digest)).read_bytes()
        assert positions[-1] == descriptor.size


def test_a_digest_is_found_whatever_the_tag_says() -> None:
    digest = golden("iris-onnx", "gzip").digest
    for text in (f"oci:{IRIS.folder}@{digest}", f"oci:{IRIS.folder}:no-such-tag@{digest}"):
        source, reference = source_of(text)
        assert source.resolve(reference) == (reference, IRIS.blob(digest).read_bytes())


def test_a_manifest_that_the_index_does_not_list_is_found_by_digest(layout: Path) -> None:
    (layout / "index.json").write_text('{"schemaVersion":2,"manifests":[]}')
    source, reference = source_of(f"oci:{layout}@{IRIS.digest}")
    assert source.resolve(reference)[1] == IRIS.blob(IRIS.digest).read_bytes()


def rewrite(layout: Path, **changes: object) -> None:
    """Change the entry `v1` of the index; None takes a key away."""
    index = json.loads((layout / "index.json").read_bytes())
    item = next(item for item in index["manifests"] if item["digest"] == IRIS.digest)
    item.update(changes)
    index["manifests"] = [item]
    (layout / "index.json").write_text(json.dumps(index))


def test_a_missing_tag_names_those_there_are() -> None:
    source, reference = source_of(f"oci:{IRIS.folder}:v2")
    with pytest.raises(NotFound) as caught:
        source.resolve(reference)
    assert str(caught.value) == (
        f"OCI layout '{IRIS.folder}' has no tag 'v2'; it has v1, gzip-fastest, gzip, era-0.4, era-0.2"
    )


def test_no_tag_means_the_only_one(layout: Path, tmp_path: Path) -> None:
    rewrite(layout)
    for place in (f"oci:{layout}", f"oci-archive:{tar_of(layout, tmp_path / 'kit.tar')}"):
        source, reference = source_of(place)
        found, raw = source.resolve(reference)
        assert (str(found), found.tag) == (f"{place}:v1@{IRIS.digest}", "v1")
        assert raw == IRIS.blob(IRIS.digest).read_bytes()


def test_no_tag_is_latest_if_there_are_several_and_that_is_one(layout: Path) -> None:
    index = json.loads((layout / "index.json").read_bytes())
    index["manifests"][1]["annotations"]["org.opencontainers.image.ref.name"] = "latest"
    (layout / "index.json").write_text(json.dumps(index))
    source, reference = source_of(f"oci:{layout}")
    found, _ = source.resolve(reference)
    assert str(found) == f"oci:{layout}:latest@{index['manifests'][1]['digest']}"


@pytest.mark.parametrize("form", ["oci", "oci-archive"])
def test_no_tag_among_several_lists_them(form: str, tmp_path: Path) -> None:
    place = IRIS.folder if form == "oci" else tar_of(IRIS.folder, tmp_path / "kit.tar")
    source, reference = source_of(f"{form}:{place}")
    with pytest.raises(NotFound) as caught:
        source.resolve(reference)
    name = "OCI layout" if form == "oci" else "OCI archive"
    assert str(caught.value) == (
        f"{name} '{place}' has several tags, name one of them: v1, gzip-fastest, gzip, era-0.4, era-0.2"
    )


@pytest.mark.parametrize(
    ("index", "there_is"),
    [
        ({"manifests": []}, "it lists no manifests at all"),
        (
            {"manifests": [{"mediaType": "x", "digest": ABSENT, "size": 1}]},
            f"it has no tags, ask for one of its digests: {ABSENT}",
        ),
    ],
    ids=["empty", "untagged"],
)
def test_a_layout_without_tags_says_what_it_has(index: dict[str, object], there_is: str, layout: Path) -> None:
    (layout / "index.json").write_text(json.dumps(index))
    source, reference = source_of(f"oci:{layout}:v1")
    with pytest.raises(NotFound) as caught:
        source.resolve(reference)
    assert str(caught.value) == f"OCI layout '{layout}' has no tag 'v1'; {there_is}"


def test_a_missing_digest_is_not_found() -> None:
    source, reference = source_of(f"oci:{IRIS.folder}@{ABSENT}")
    with pytest.raises(NotFound) as caught:
        source.resolve(reference)
    assert str(caught.value) == f"OCI layout '{IRIS.folder}' has no manifest {ABSENT}"


def test_one_tag_on_two_manifests_is_refused(layout: Path) -> None:
    index = json.loads((layout / "index.json").read_bytes())
    for item in index["manifests"]:
        item["annotations"]["org.opencontainers.image.ref.name"] = "v1"
    (layout / "index.json").write_text(json.dumps(index))
    source, reference = source_of(f"oci:{layout}:v1")
    with pytest.raises(InvalidManifest) as caught:
        source.resolve(reference)
    assert (
        str(caught.value) == f"OCI layout '{layout}' has several manifests with the tag 'v1'; ask for one by its digest"
    )


def config(kit: Golden = IRIS) -> Descriptor:
    return Manifest.parse(kit.blob(kit.digest).read_bytes(), expected=None).config


@pytest.mark.parametrize("form", ["oci", "oci-archive"])
@pytest.mark.parametrize(
    ("change", "error"),
    [
        (lambda data: data[:-1] + b" ", DigestMismatch),
        (lambda data: data[:-1], SizeMismatch),
        (lambda data: data + b" ", SizeMismatch),
        (lambda data: b"", SizeMismatch),
    ],
    ids=["flipped", "short", "long", "empty"],
)
def test_a_spoiled_blob_is_never_handed_out(
    change, error: type[Failure], form: str, layout: Path, tmp_path: Path
) -> None:
    path = layout / "blobs" / "sha256" / config().digest.hex
    path.write_bytes(change(path.read_bytes()))
    place = layout if form == "oci" else tar_of(layout, tmp_path / "kit.tar")
    source, reference = source_of(f"{form}:{place}:v1")
    source.resolve(reference)
    with pytest.raises(error, match=f"blob {config().digest} in OCI (layout|archive) '{place}' has "):
        source.blob(config(), nothing)


def test_a_spoiled_manifest_is_refused(layout: Path) -> None:
    path = layout / "blobs" / "sha256" / IRIS.digest.removeprefix("sha256:")
    path.write_bytes(path.read_bytes().replace(b'"schemaVersion":2', b'"schemaVersion":3'))
    source, reference = source_of(f"oci:{layout}:v1")
    with pytest.raises(DigestMismatch, match=f"wanted {IRIS.digest}"):
        source.resolve(reference)


def test_an_index_that_lies_about_a_size_is_refused(layout: Path) -> None:
    rewrite(layout, size=1)
    source, reference = source_of(f"oci:{layout}:v1")
    with pytest.raises(SizeMismatch):
        source.resolve(reference)


def test_a_missing_blob_is_not_found(layout: Path) -> None:
    (layout / "blobs" / "sha256" / config().digest.hex).unlink()
    with pytest.raises(NotFound) as caught:
        open_layout(layout).blob(config(), nothing)
    assert str(caught.value) == f"OCI layout '{layout}' has no blob {config().digest}; copy the kit there again"


def test_an_exchanged_path_changes_nothing_for_an_open_blob(layout: Path) -> None:
    path = layout / "blobs" / "sha256" / config().digest.hex
    with open_layout(layout).blob(config(), nothing) as file:
        path.unlink()
        path.write_bytes(b"other")
        assert Digest.of(file.read()) == config().digest


def test_a_blob_that_is_a_link_is_refused(layout: Path) -> None:
    path = layout / "blobs" / "sha256" / config().digest.hex
    path.rename(path.with_name("aside"))
    path.symlink_to("aside")
    with pytest.raises(UnsafeArchive) as caught:
        open_layout(layout).blob(config(), nothing)
    assert str(caught.value) == f"'{path}' is a symbolic link, wanted a file"


def test_a_blob_that_is_a_fifo_is_refused_without_waiting(layout: Path) -> None:
    path = layout / "blobs" / "sha256" / config().digest.hex
    path.unlink()
    os.mkfifo(path)
    with pytest.raises(UnsafeArchive, match="is not a regular file"):
        open_layout(layout).blob(config(), nothing)


def test_verifying_can_be_cancelled() -> None:
    def cancel(_count: int) -> None:
        raise Cancelled("told to stop")

    with pytest.raises(Cancelled):
        open_layout(IRIS.folder).blob(config(), cancel)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("oci-layout", None, "is not one: it has no file oci-layout; a folder with a Kitfile is written ./FOLDER"),
        ("oci-layout", "{}", "has another version than 1.0.0 in its file oci-layout"),
        ("oci-layout", '{"imageLayoutVersion":"2.0.0"}', "has another version than 1.0.0 in its file oci-layout"),
        ("index.json", None, "is not one: it has no file index.json; a folder with a Kitfile is written ./FOLDER"),
    ],
    ids=["no-mark", "no-version", "version-2", "no-index"],
)
def test_a_folder_that_is_no_layout_is_named(name: str, content: str | None, message: str, layout: Path) -> None:
    (layout / name).unlink()
    if content is not None:
        (layout / name).write_text(content)
    with pytest.raises(NotAModelKit) as caught:
        open_layout(layout).resolve(Reference.parse(f"oci:{layout}:v1"))
    assert str(caught.value) == f"OCI layout '{layout}' {message}"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"[]", "index.json is not a JSON object"),
        (b"{}", "has no list of manifests in its index.json"),
        (b"{", "index.json is not JSON: "),
        (b'{"manifests":[{"digest":"sha256:../x","size":1,"mediaType":"x"}]}', "index.json has a bad digest"),
        (b" " * (4 << 20) + b"{}", "index.json has more than the 4194304 bytes that are read"),
    ],
    ids=["list", "no-manifests", "not-json", "bad-digest", "big"],
)
def test_a_bad_index_says_what_is_wrong(content: bytes, message: str, layout: Path) -> None:
    (layout / "index.json").write_bytes(content)
    with pytest.raises(InvalidManifest, match=message):
        open_layout(layout).resolve(Reference.parse(f"oci:{layout}:v1"))


def test_a_missing_folder_or_file_is_not_found(tmp_path: Path) -> None:
    with pytest.raises(NotFound) as caught:
        open_layout(tmp_path / "none")
    assert str(caught.value) == f"there is no folder '{tmp_path}/none' with an OCI layout"
    with pytest.raises(NotFound) as caught:
        open_archive(tmp_path / "none.tar")
    assert str(caught.value) == f"there is no file '{tmp_path}/none.tar' with an OCI archive"


def test_an_index_that_is_a_link_is_refused(layout: Path) -> None:
    (layout / "index.json").rename(layout / "aside")
    (layout / "index.json").symlink_to("aside")
    with pytest.raises(UnsafeArchive, match=r"index\.json' is a symbolic link, wanted a file"):
        open_layout(layout).resolve(Reference.parse(f"oci:{layout}:v1"))


@pytest.mark.parametrize("form", ["oci", "oci-archive"])
def test_a_path_that_the_disk_refuses_is_an_error_of_the_disk(form: str) -> None:
    path = "n" * 300
    with pytest.raises(StorageFailed) as caught:
        open_source(Reference.parse(f"{form}:{path}:v1"))
    assert str(caught.value) == f"cannot read '{path}': {os.strerror(errno.ENAMETOOLONG)}"


# --- archives


@pytest.mark.parametrize("prefix", ["", "./"], ids=["plain", "dot-slash"])
def test_names_in_an_archive_may_begin_with_dot_slash(prefix: str, tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "kit.tar", "w") as archive:
        for path in sorted(IRIS.folder.rglob("*")):
            item = tarfile.TarInfo(prefix + str(path.relative_to(IRIS.folder)))
            item.type, item.size = (tarfile.DIRTYPE, 0) if path.is_dir() else (tarfile.REGTYPE, path.stat().st_size)
            archive.addfile(item, None if path.is_dir() else io.BytesIO(path.read_bytes()))
    source = open_archive(tmp_path / "kit.tar")
    with source.blob(config(), nothing) as file:
        assert Digest.of(file.read()) == config().digest


def test_a_blob_in_an_archive_is_a_file_of_its_own(tmp_path: Path) -> None:
    source = open_archive(tar_of(IRIS.folder, tmp_path / "kit.tar"))
    data = IRIS.blob(str(config().digest)).read_bytes()
    with source.blob(config(), nothing) as file, source.blob(config(), nothing) as other:
        assert file.read(10) == data[:10]
        assert other.read() == data
        assert file.seek(-5, os.SEEK_END) == len(data) - 5
        assert file.read(100) == data[-5:]
        assert file.read() == b""
        assert file.seek(0) == 0
        assert file.seek(3, os.SEEK_CUR) == 3
        assert (file.read(2), file.tell()) == (data[3:5], 5)


def test_an_open_blob_does_not_mind_what_happens_to_the_archive(tmp_path: Path) -> None:
    path = tar_of(IRIS.folder, tmp_path / "kit.tar")
    with open_archive(path).blob(config(), nothing) as file:
        path.unlink()
        path.write_bytes(b"other")
        assert Digest.of(file.read()) == config().digest


def with_member(item: tarfile.TarInfo, tmp_path: Path) -> Path:
    path = tar_of(IRIS.folder, tmp_path / "kit.tar")
    with tarfile.open(path, "a") as archive:
        archive.addfile(item)
    return path


def link() -> tarfile.TarInfo:
    item = tarfile.TarInfo("blobs/sha256/x")
    item.type, item.linkname = tarfile.SYMTYPE, "/etc/passwd"
    return item


@pytest.mark.parametrize(
    ("item", "message"),
    [(link(), "member 'blobs/sha256/x' is a symbolic link"), (tarfile.TarInfo("index.json"), "'index.json' twice")],
    ids=["link", "twice"],
)
def test_an_archive_with_more_than_files_is_refused(item: tarfile.TarInfo, message: str, tmp_path: Path) -> None:
    with pytest.raises(UnsafeArchive, match=message):
        open_archive(with_member(item, tmp_path))


@pytest.mark.parametrize("left", [100, 700, 5000, -600, -1024])
def test_a_cut_archive_is_refused(left: int, tmp_path: Path) -> None:
    path = tar_of(golden("iris-bare").folder, tmp_path / "kit.tar")
    data = path.read_bytes().rstrip(b"\0")
    path.write_bytes(data[:left])
    with pytest.raises(UnsafeArchive, match=f"OCI archive '{path}' is not an archive that is safe to unpack: it ends"):
        open_archive(path)


@pytest.mark.parametrize(("suffix", "name"), [("gz", "gzip"), ("bz2", "bzip2"), ("xz", "xz")])
def test_a_compressed_archive_is_named(suffix: str, name: str, tmp_path: Path) -> None:
    path = tmp_path / "kit.tar"
    with tarfile.open(path, f"w:{suffix}") as archive:
        archive.add(golden("iris-bare").folder, ".")
    with pytest.raises(NotAModelKit) as caught:
        open_archive(path)
    assert str(caught.value) == f"OCI archive '{path}' is compressed with {name}; decompress it first"


def test_a_tar_that_is_no_layout_is_named(tmp_path: Path) -> None:
    (tmp_path / "x").mkdir()
    path = tar_of(tmp_path / "x", tmp_path / "kit.tar")
    with pytest.raises(NotAModelKit, match="is not one: it has no file oci-layout"):
        open_archive(path)


@pytest.mark.skipif(shutil.which("skopeo") is None, reason="skopeo is not installed")
@pytest.mark.parametrize("tag", ["v1", "gzip"])
def test_what_skopeo_writes_is_read(tag: str, tmp_path: Path) -> None:
    for form, place in (("oci-archive", tmp_path / "kit.tar"), ("oci", tmp_path / "kit")):
        target = f"{form}:{place}:copy"
        command = [
            "skopeo",
            "--insecure-policy",
            "copy",
            "--quiet",
            "--preserve-digests",
            f"oci:{KITS}/iris-onnx:{tag}",
        ]
        subprocess.run([*command, target], check=True, timeout=60)
        source, reference = source_of(target)
        found, raw = source.resolve(reference)
        assert str(found.digest) == golden("iris-onnx", tag).digest
        for layer in Manifest.parse(raw, expected=found.digest).layers:
            source.blob(layer.descriptor, nothing).close()
