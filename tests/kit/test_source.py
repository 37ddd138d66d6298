"""Blobs from a registry that lies, through the cache: what is wrong never gets a name."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from runtime.errors import DigestMismatch, NotFound, RegistryUnavailable, SizeMismatch
from runtime.kit.registry import retry
from tests.kit.made import made_kit
from tests.kit.pulling import Recorder, leftovers, pulled, tree, unverified
from tests.lying_registry import (
    Lie,
    LyingRegistry,
    claiming,
    cut,
    endless,
    flipped,
    gzipped,
    long,
    nothing,
    other,
    refusal,
    short,
    slow,
    unsized,
    web_page,
    whole,
)

MODEL = os.urandom(3_000_000)
Lying = Callable[..., LyingRegistry]


@pytest.fixture(autouse=True)
def short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pauses between attempts grow as they do, from 20 ms on."""
    monkeypatch.setattr(retry, "_FIRST_PAUSE_SECONDS", 0.02)


@pytest.fixture(scope="module")
def layout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A kit with a model of 3 MB, which comes in several reads."""
    return made_kit(tmp_path_factory.mktemp("layout"), {"m.onnx": MODEL})


@pytest.fixture
def big(layout: Path, lying: Lying) -> LyingRegistry:
    return lying(layout)


def model_path(layout: Path) -> str:
    """Pattern of the address of the model's blob."""
    (largest,) = (path for path in (layout / "blobs/sha256").iterdir() if path.stat().st_size > 10**6)
    return f"/blobs/sha256:{largest.name}"


AGAIN = r", also when asked again; push the kit again, or look for what changes it on the way$"
FROM = "blob sha256:[0-9a-f]{64} from the registry has "
WRONG: list[tuple[str, Lie, type[Exception], str]] = [
    (
        "flipped",
        flipped(at=2_000_000),
        DigestMismatch,
        FROM + r"digest sha256:[0-9a-f]{64}, wanted sha256:[0-9a-f]{64}" + AGAIN,
    ),
    ("short", short(by=7), SizeMismatch, FROM + r"3\d+ bytes, wanted 3\d+" + AGAIN),
    ("long", long(by=7), SizeMismatch, FROM + r"3\d+ bytes, wanted 3\d+" + AGAIN),
    ("empty", other(b""), SizeMismatch, FROM + r"0 bytes, wanted 3\d+"),
    ("web page", web_page(), SizeMismatch, FROM + r"19 bytes, wanted 3\d+"),
    ("gzip", gzipped(), SizeMismatch, r"bytes, wanted 3\d+ \(sent with Content-Encoding 'gzip'\)" + AGAIN),
    ("endless", endless(), SizeMismatch, FROM + r"more than the 3\d+ bytes wanted" + AGAIN),
    (
        "cut without length",
        cut(1_000_000, length=False, ranges=False),
        SizeMismatch,
        FROM + r"1000000 bytes, wanted 3\d+" + AGAIN,
    ),
]


@pytest.mark.parametrize(("lie", "error", "message"), [pytest.param(*row[1:], id=row[0]) for row in WRONG])
def test_36_40_wrong_bytes_are_asked_for_once_more_and_then_refused(
    big: LyingRegistry, layout: Path, tmp_path: Path, lie: Lie, error: type[Exception], message: str
) -> None:
    big.lie(model_path(layout), lie)
    watch = Recorder()
    with pytest.raises(error, match=message) as caught:
        pulled(f"{big.host}/kits/m:v1", tmp_path, watch)
    assert "blob sha256:" in str(caught.value)
    assert watch.warned == ["blob.differed"]
    asked = [seen for seen in big.seen(model_path(layout)) if "range" not in seen.headers]
    assert [seen.headers.get("cache-control") for seen in asked][:1] == [None]
    assert asked[-1].headers["cache-control"] == "no-cache"
    assert unverified(tmp_path) == leftovers(tmp_path) == []
    assert not (tmp_path / "index.json").exists()


@pytest.mark.parametrize("lie", [row[1] for row in WRONG], ids=[row[0] for row in WRONG])
def test_36_40_wrong_bytes_that_come_once_cost_a_second_request_only(
    big: LyingRegistry, layout: Path, tmp_path: Path, lie: Lie
) -> None:
    big.lie(model_path(layout), lie, times=1)
    watch = Recorder()
    kit = pulled(f"{big.host}/kits/m:v1", tmp_path, watch)
    assert tree(kit.root) == {"m.onnx": MODEL}
    assert len(big.seen(model_path(layout))) == 2
    assert watch.marks[-1][1] == watch.marks[-1][2]
    assert [done for _, done, _ in watch.marks] == sorted(done for _, done, _ in watch.marks)
    assert unverified(tmp_path) == leftovers(tmp_path) == []


@pytest.mark.parametrize("which", ["manifest", "config", "layer"])
def test_an_altered_byte_is_refused_wherever_it_is(lying: Lying, tmp_path: Path, kits: Path, which: str) -> None:
    from tests.kit.golden import golden

    kit = golden("iris-bare")
    digest = {
        "manifest": kit.digest,
        "config": kit.manifest["config"]["digest"],
        "layer": kit.manifest["layers"][0]["digest"],
    }
    registry = lying("iris-bare")
    registry.lie(digest[which], flipped(at=20))
    with pytest.raises(DigestMismatch, match=re.escape(digest[which])):
        pulled(f"{registry.host}/kits/iris-bare@{kit.digest}", tmp_path)
    assert unverified(tmp_path) == leftovers(tmp_path) == []


@pytest.mark.slow
@pytest.mark.parametrize("reset", [False, True], ids=["FIN", "RST"])
def test_18_a_blob_that_is_cut_off_goes_on_where_it_was(
    big: LyingRegistry, layout: Path, tmp_path: Path, reset: bool
) -> None:
    for after in (700_000, 1_000_000, 500_000):
        big.lie(model_path(layout), cut(after, reset=reset), times=1)
    kit = pulled(f"{big.host}/kits/m:v1", tmp_path, retry_budget_seconds=30.0)
    assert tree(kit.root) == {"m.onnx": MODEL}
    ranges = [seen.headers.get("range", "bytes=0-") for seen in big.seen(model_path(layout))]
    starts = [int(text[6:-1]) for text in ranges]
    assert starts == sorted(starts)
    if not reset:  # after a reset the bytes on the way are lost, as many as there are
        assert starts == [0, 700_000, 1_700_000, 2_200_000]


def test_26_a_server_that_ignores_ranges_is_read_from_the_start_and_nothing_is_mixed(
    big: LyingRegistry, layout: Path, tmp_path: Path
) -> None:
    big.lie(model_path(layout), cut(1_500_000), times=1)
    big.lie(model_path(layout), whole())
    watch = Recorder()
    kit = pulled(f"{big.host}/kits/m:v1", tmp_path, watch)
    assert tree(kit.root) == {"m.onnx": MODEL}
    assert watch.warnings == []
    done = [done for _, done, _ in watch.marks]
    assert done == sorted(set(done))


@pytest.mark.parametrize(
    "content_range",
    [
        "",
        "bytes 0-{last}/{size}",
        "bytes 1500001-{last}/{size}",
        "bytes 1500000-1500009/{size}",
        "items 1500000-{last}/{size}",
    ],
)
def test_a_wrong_content_range_is_not_believed(
    big: LyingRegistry, layout: Path, tmp_path: Path, content_range: str
) -> None:
    size = next(path.stat().st_size for path in (layout / "blobs/sha256").iterdir() if path.stat().st_size > 10**6)
    big.lie(model_path(layout), cut(1_500_000), times=1)
    big.lie(model_path(layout), claiming(Content_Range=content_range.format(size=size, last=size - 1)), times=1)
    kit = pulled(f"{big.host}/kits/m:v1", tmp_path, retry_budget_seconds=30.0)
    assert tree(kit.root) == {"m.onnx": MODEL}
    assert len(big.seen(model_path(layout))) == 3


def test_a_range_of_a_blob_of_another_size_is_a_size_mismatch(big: LyingRegistry, layout: Path, tmp_path: Path) -> None:
    for _ in range(2):
        big.lie(model_path(layout), cut(1_500_000), times=1)
        big.lie(model_path(layout), claiming(Content_Range="bytes 1500000-1500009/1500010"), times=1)
    with pytest.raises(SizeMismatch, match=r"has 1500010 bytes at the registry, wanted 3\d+"):
        pulled(f"{big.host}/kits/m:v1", tmp_path, retry_budget_seconds=30.0)


def test_27_a_range_past_the_end_means_short_and_its_lying_body_is_not_read(
    big: LyingRegistry, layout: Path, tmp_path: Path
) -> None:
    for _ in range(2):
        big.lie(model_path(layout), cut(1_500_000), times=1)
        big.lie(
            model_path(layout), lambda exchange: exchange.send(416, {"Content-Length": "9999999"}, b"short"), times=1
        )
    with pytest.raises(SizeMismatch, match=r"ends after 1500000 bytes, wanted 3\d+"):
        pulled(f"{big.host}/kits/m:v1", tmp_path, retry_budget_seconds=30.0)


@pytest.mark.slow
def test_a_server_that_cuts_at_the_same_place_for_ever_is_given_up_and_the_next_goes_on_there(
    big: LyingRegistry, lying: Lying, layout: Path, tmp_path: Path
) -> None:
    big.lie(model_path(layout), cut(2_000_000, ranges=False))
    with pytest.raises(RegistryUnavailable, match=r"attempts in \d+\.\d s, --retry-budget 1\)"):
        pulled(f"{big.host}/kits/m:v1", tmp_path, retry_budget_seconds=1.0)
    assert unverified(tmp_path) == []
    assert len(leftovers(tmp_path)) == 1  # its 2 MB, for the next pull
    other_host = lying(layout)
    assert tree(pulled(f"{other_host.host}/kits/m:v1", tmp_path).root) == {"m.onnx": MODEL}
    assert [seen.headers["range"] for seen in other_host.seen(model_path(layout))] == ["bytes=2000000-"]
    assert leftovers(tmp_path) == []


@pytest.mark.parametrize(
    "lie",
    [
        unsized(),
        slow(200_000, 0.001),
        claiming(Content_Encoding="gzip"),
        claiming(Content_Type="text/plain"),
        claiming(Warning='299 - "x"'),
    ],
    ids=["no length", "slow", "mislabelled as gzip", "odd type", "warning"],
)
def test_28_right_bytes_under_odd_headers_are_taken(big: LyingRegistry, layout: Path, tmp_path: Path, lie: Lie) -> None:
    big.lie(model_path(layout), lie)
    kit = pulled(f"{big.host}/kits/m:v1", tmp_path)
    assert tree(kit.root) == {"m.onnx": MODEL}
    assert len(big.seen(model_path(layout))) == 1
    assert big.seen(model_path(layout))[0].headers["accept-encoding"] == "identity"


@pytest.mark.parametrize("status", [408, 429, 500, 502, 503, 504])
def test_23_a_passing_failure_is_tried_again(big: LyingRegistry, layout: Path, tmp_path: Path, status: int) -> None:
    big.lie("/", refusal(status, Retry_After="0"), times=2)
    big.lie(model_path(layout), refusal(status, Retry_After="0"), times=2)
    kit = pulled(f"{big.host}/kits/m:v1", tmp_path)
    assert tree(kit.root) == {"m.onnx": MODEL}
    assert len(big.seen(model_path(layout))) == 3


def test_a_connection_that_breaks_without_a_word_is_tried_again(big: LyingRegistry, tmp_path: Path) -> None:
    big.lie("/", nothing(), times=1)
    big.lie("/", nothing(reset=False), times=1)
    assert tree(pulled(f"{big.host}/kits/m:v1", tmp_path).root) == {"m.onnx": MODEL}


def test_31_a_blob_that_the_registry_does_not_have_is_not_found(
    big: LyingRegistry, layout: Path, tmp_path: Path
) -> None:
    big.lie(model_path(layout), refusal(404, "BLOB_UNKNOWN"))
    with pytest.raises(NotFound, match=r"has no blob sha256:[0-9a-f]{64}, though its manifest names it$"):
        pulled(f"{big.host}/kits/m:v1", tmp_path)
    assert len(big.seen(model_path(layout))) == 1


# --- the cache is not believed


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        (lambda path: path.write_bytes(b"x" + path.read_bytes()[1:]), "in the cache has digest sha256:"),
        (lambda path: path.write_bytes(path.read_bytes()[:-1]), "bytes, wanted"),
        (lambda path: (path.unlink(), path.symlink_to("/etc/passwd")), "is a symbolic link"),
        (lambda path: (path.unlink(), os.mkfifo(path)), "is not a regular file"),
        (lambda path: (path.unlink(), (path / "sub").mkdir(parents=True)), "is not a regular file"),
    ],
    ids=["flipped", "short", "link", "pipe", "folder"],
)
def test_47_a_spoiled_cached_blob_is_noticed_and_fetched_again(
    big: LyingRegistry, layout: Path, tmp_path: Path, spoil: Callable[[Path], object], reason: str
) -> None:
    pulled(f"{big.host}/kits/m:v1", tmp_path)
    path = tmp_path / "blobs/sha256" / model_path(layout).rpartition(":")[2]
    path.chmod(0o644)
    spoil(path)
    shutil.rmtree(tmp_path / "kits")  # while it is there and whole, no blob is read
    watch = Recorder()
    kit = pulled(f"{big.host}/kits/m:v1", tmp_path, watch)
    assert watch.warned == ["blob.spoiled"]
    assert reason in str(watch.warnings[0][1]["reason"])
    assert tree(kit.root) == {"m.onnx": MODEL}
    assert watch.marks[-1][1] == watch.marks[-1][2]
    assert unverified(tmp_path) == []
    assert not path.is_symlink()


def test_a_spoiled_cached_blob_is_not_said_to_be_fetched_where_no_registry_is_asked(
    big: LyingRegistry, layout: Path, tmp_path: Path
) -> None:
    pulled(f"{big.host}/kits/m:v1", tmp_path)
    (tmp_path / "blobs/sha256" / model_path(layout).rpartition(":")[2]).chmod(0o646)
    shutil.rmtree(tmp_path / "kits")
    with pytest.raises(NotFound, match="is not whole in the cache"):
        pulled(f"{big.host}/kits/m:v1", tmp_path, watch := Recorder(), pull="never")
    assert watch.warned == ["blob.spoiled"]
    assert watch.warnings[0][1]["action"] == "removed, and not fetched again (--pull never)"


def test_a_spoiled_cached_manifest_is_asked_for_again(big: LyingRegistry, tmp_path: Path) -> None:
    kit = pulled(f"{big.host}/kits/m:v1", tmp_path)
    assert kit.digest is not None
    path = tmp_path / "blobs/sha256" / kit.digest.hex
    path.chmod(0o644)
    path.write_bytes(path.read_bytes().replace(b"m.onnx", b"n.onnx") + b" ")
    again = pulled(f"{big.host}/kits/m@{kit.digest}", tmp_path)
    assert again.root == kit.root
    assert unverified(tmp_path) == []
