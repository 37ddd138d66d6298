"""`runtime unpack REF DIR`, and `runtime --kit DIR` on what it left: the two halves of a pod, in separate processes."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

import runtime
from runtime.errors import Failure
from runtime.exits import exit_code
from runtime.kit.format.digest import Digest
from runtime.kit.installed.receipt import installed
from tests.commands.forked import run
from tests.e2e.server import PATIENCE_SECONDS, Server
from tests.expected import assert_right, cases
from tests.kit.made import made_kit
from tests.kit.unpack.test_walk import may_mount
from tests.lying_registry import Gate, flipped, stalled
from tests.places import KITS
from tests.registries import Registry, digest_of

pytestmark = pytest.mark.slow

IRIS = f"oci:{KITS / 'iris-onnx'}:v1"
IRIS_DIGEST = digest_of(KITS / "iris-onnx", "v1")
RECEIPT = ".modelkit-receipt.json"
MODEL_LAYER = "blobs/sha256:e2efdb39975bb174"

Done = subprocess.CompletedProcess[str]


def unpack(*arguments: object, cache: Path, **environ: str) -> Done:
    return run("unpack", *map(str, arguments), "--cache-dir", str(cache), **environ)


def events(done: Done) -> list[str]:
    return [json.loads(line)["event"] for line in done.stderr.splitlines()]


def reason(done: Done) -> str:
    (failed,) = (json.loads(line) for line in done.stderr.splitlines() if "runtime.failed" in line)
    assert "\n" not in failed["reason"]
    return str(failed["reason"])


def files(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if not path.is_dir()}


@pytest.fixture(scope="module")
def unpacked(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the iris kit was unpacked once, as its receipt says."""
    folder = tmp_path_factory.mktemp("unpacked") / "models"
    assert unpack(IRIS, folder, cache=folder.parent / "cache").returncode == 0
    return folder


@pytest.fixture
def folder(unpacked: Path, tmp_path: Path) -> Path:
    """A copy of that, whose files may be changed."""
    folder = tmp_path / "models"
    shutil.copytree(unpacked, folder)
    for path in folder.rglob("*"):
        path.chmod(0o755)
    return folder


@pytest.mark.parametrize(
    ("kit", "tag"),
    [
        ("iris-onnx", "v1"),
        ("digits-external", "era-0.4"),
        ("everything", "v1"),
    ],
)
def test_what_was_unpacked_is_served_as_verified_by_receipt(
    kit: str, tag: str, registry: Registry, tmp_path: Path
) -> None:
    reference, folder, digest = registry.push(KITS / kit, tag), tmp_path / kit, digest_of(KITS / kit, tag)
    done = unpack(f"kit://{reference}", folder, cache=tmp_path / "cache")
    assert (done.returncode, done.stdout) == (0, f"{digest}\n"), done.stderr
    for path in (folder, *folder.rglob("*")):
        path.chmod(0o555 if path.is_dir() else 0o444)
    with Server(str(folder), "--drain-delay", "0", cache=tmp_path / "other") as server:
        with server.ready() as client:
            for case in cases(kit):
                assert_right(client.post(f"/v2/models/{kit}/infer", json=case["request"]).json(), case)
            answer = client.get(f"/v2/models/{kit}/versions/{tag}")
            assert server.event("kit.verified")["verified"] == "receipt"
            assert 'verified="receipt"' in client.get("/metrics").text
        assert server.stop() == 0
    properties = answer.json()["properties"]
    assert properties["verified"] == answer.headers["modelkit-verified"] == "receipt"
    assert properties["reference"] == f"{reference}@{digest}"
    assert answer.headers["modelkit-digest"] == properties["digest"] == digest
    assert not (tmp_path / "other").exists()


def test_a_receipt_lists_every_file_and_no_dataset(tmp_path: Path) -> None:
    folder = tmp_path / "kit"
    unpack(f"oci:{KITS / 'everything'}:v1", folder, cache=tmp_path / "cache")
    listed = set(json.loads((folder / RECEIPT).read_bytes())["files"])
    assert listed == files(folder) - {RECEIPT, "Kitfile"}
    assert any(not name.isascii() for name in listed)
    assert not any(name.endswith(".csv") for name in listed)
    config = (KITS / "everything" / "blobs/sha256").joinpath(_config_of("everything")).read_bytes()
    assert (folder / "Kitfile").read_bytes() == config
    assert b"\\u003c" in config


def _config_of(kit: str) -> str:
    manifest = (KITS / kit / "blobs/sha256" / digest_of(KITS / kit, "v1").removeprefix("sha256:")).read_bytes()
    return str(json.loads(manifest)["config"]["digest"]).removeprefix("sha256:")


def test_the_served_name_is_the_folders_or_the_operators(folder: Path, tmp_path: Path) -> None:
    assert runtime.load(folder).name == "models"
    with Server(str(folder), "--model-name", "iris", cache=tmp_path / "c") as server, server.ready() as client:
        assert client.get("/v2/models/iris").json()["properties"]["digest"] == IRIS_DIGEST


def test_inspect_and_pull_tell_the_kit_of_an_unpacked_folder(folder: Path, tmp_path: Path) -> None:
    report = json.loads(run("inspect", str(folder), "--json", "--files", "--cache-dir", str(tmp_path / "c")).stdout)
    assert (report["digest"], report["reference"]) == (IRIS_DIGEST, f"{IRIS}@{IRIS_DIGEST}")
    assert report["verified"] == "receipt"
    shown = run("inspect", str(folder), "--cache-dir", str(tmp_path / "c")).stdout
    assert "  verified   by receipt\n" in shown
    assert [layer["path"] for layer in report["layers"] if layer["fetched"]] == [
        "model/iris.onnx",
        "model/samples.json",
    ]
    assert report["adapter"]["name"] == "onnx"
    assert {file["path"] for file in report["files"]} == files(folder) - {RECEIPT}
    assert run("pull", str(folder), "--cache-dir", str(tmp_path / "c")).stdout == f"{IRIS_DIGEST}\n"


def test_verify_says_that_only_a_receipt_speaks_for_an_unpacked_folder(folder: Path, tmp_path: Path) -> None:
    shown = run("verify", str(folder), "--cache-dir", str(tmp_path / "c")).stdout
    assert f"@{IRIS_DIGEST[:19]}, verified by receipt\n" in shown
    report = json.loads(run("verify", IRIS, "--json", "--cache-dir", str(tmp_path / "c")).stdout)
    assert report["verified"] == "true"


def _other_receipt(folder: Path, **fields: object) -> None:
    document = json.loads((folder / RECEIPT).read_bytes())
    (folder / RECEIPT).write_text(json.dumps({**document, **fields}))


TAMPERED: dict[str, tuple[Callable[[Path], object], list[str]]] = {
    "changed": (
        lambda folder: (folder / "model/iris.onnx").write_bytes(b"evil"),
        ["'model/iris.onnx'", " by its receipt: it was", f"unpack it again: runtime unpack {IRIS}@{IRIS_DIGEST} "],
    ),
    "missing": (
        lambda folder: (folder / "model/samples.json").unlink(),
        ["'model/samples.json' in folder", "is missing; unpack it again"],
    ),
    "extra": (lambda folder: (folder / "model/x.onnx").touch(), ["holds 'model/x.onnx'", "take it away"]),
    "link": (
        lambda folder: (
            (folder / "model/iris.onnx").rename(folder / "l"),
            (folder / "model/iris.onnx").symlink_to("../l"),
        ),
        ["holds 'l'"],
    ),
    "kitfile": (lambda folder: (folder / "Kitfile").write_text("{}"), ["'Kitfile'", "by its receipt"]),
    "receipt-is-not-json": (lambda folder: (folder / RECEIPT).write_text("{"), ["is not JSON", "unpack the kit again"]),
    "receipt-of-another-kit": (
        lambda folder: _other_receipt(folder, reference=f"r.example/org/iris@sha256:{'0' * 64}"),
        [f"the manifest has digest {IRIS_DIGEST}, wanted sha256:000", "unpack the kit again"],
    ),
    "receipt-has-another-config": (lambda folder: _other_receipt(folder, config="{}"), ["its config has "]),
    "receipt-is-newer": (lambda folder: _other_receipt(folder, version=9), ["version 9", "reads 2"]),
    "unpacking": (lambda folder: (folder / ".modelkit-unpack").mkdir(), ["is not whole", "run it again"]),
}


@pytest.mark.parametrize(("change", "words"), TAMPERED.values(), ids=TAMPERED.keys())
def test_a_folder_that_differs_from_its_receipt_is_not_loaded(change, words: list[str], folder, tmp_path) -> None:
    change(folder)
    with pytest.raises(Failure) as caught:
        runtime.load(folder, cache_dir=tmp_path / "other")
    why = str(caught.value)
    assert exit_code(caught.value) == 65, why
    assert [word for word in words if word not in why] == [], why


def test_a_folder_that_differs_from_its_receipt_is_not_served(folder: Path, tmp_path: Path) -> None:
    change, words = TAMPERED["changed"]
    change(folder)
    with Server(str(folder), cache=tmp_path / "other") as server:
        code, why = server.failure()
    assert code == 65, why
    assert [word for word in words if word not in why] == [], why


@pytest.mark.parametrize(("path", "mode"), [(".", 0o777), ("model", 0o775), ("model/iris.onnx", 0o666)])
def test_a_folder_that_others_can_write_into_is_not_loaded(path: str, mode: int, folder: Path, tmp_path: Path) -> None:
    (folder / path).chmod(mode)
    with pytest.raises(Failure) as caught:
        runtime.load(folder, cache_dir=tmp_path / "other")
    why = str(caught.value)
    assert exit_code(caught.value) == 74, why
    assert f"'{folder / path}' can be written by " in why
    assert f"(mode {mode:04o}): chmod g" in why


def test_without_its_receipt_it_is_a_plain_folder(folder: Path) -> None:
    (folder / RECEIPT).unlink()
    assert runtime.load(folder).provenance.verified == "false"


def test_a_second_run_fetches_nothing_and_says_so(lying, tmp_path: Path) -> None:
    registry, folder = lying("iris-onnx"), tmp_path / "kit"
    reference = f"{registry.host}/kits/iris-onnx:v1"
    assert "kit.unpacked" in events(unpack(reference, folder, cache=tmp_path / "1"))
    before, asked = {path: path.stat().st_ino for path in folder.rglob("*")}, len(registry.seen(MODEL_LAYER))
    again = unpack(reference, folder, cache=tmp_path / "2")
    assert (again.returncode, again.stdout) == (0, f"{IRIS_DIGEST}\n")
    assert "kit.kept" in events(again)
    assert {path: path.stat().st_ino for path in folder.rglob("*")} == before
    assert len(registry.seen(MODEL_LAYER)) == asked


def test_a_damaged_kit_and_another_one_are_replaced(folder: Path, tmp_path: Path) -> None:
    (folder / "model/iris.onnx").write_bytes(b"damaged")
    assert unpack(IRIS, folder, cache=tmp_path / "cache").returncode == 0
    assert (folder / "model/iris.onnx").stat().st_size > 500
    assert unpack(f"oci:{KITS / 'digits-external'}:v1", folder, cache=tmp_path / "cache").returncode == 0
    assert not (folder / "model/iris.onnx").exists()
    receipt = installed(folder)
    assert receipt is not None
    assert receipt.manifest.digest == Digest.parse(digest_of(KITS / "digits-external", "v1"))


def test_a_folder_with_something_else_in_it_is_refused(tmp_path: Path) -> None:
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / "my-thesis.tex").write_text("all of it")
    done = unpack(IRIS, tmp_path / "models", cache=tmp_path / "cache")
    assert (done.returncode, done.stdout) == (2, "")
    assert "it holds 'my-thesis.tex', which `runtime unpack` did not put there" in reason(done)
    assert files(tmp_path / "models") == {"my-thesis.tex"}


def test_pairs_are_unpacked_all_or_none(lying, tmp_path: Path) -> None:
    good, bad, other = lying("iris-onnx"), lying("iris-onnx"), f"oci:{KITS / 'digits-external'}:v1"
    bad.lie(MODEL_LAYER, flipped())
    pairs = [[other, tmp_path / "a", f"kit://{each.host}/kits/iris-onnx:v1", tmp_path / "b"] for each in (bad, good)]
    done = unpack(*pairs[0], cache=tmp_path / "cache")
    assert (done.returncode, done.stdout) == (65, "")
    assert not (tmp_path / "a").exists()
    done = unpack(*pairs[1], cache=tmp_path / "cache")
    assert done.stdout == f"{digest_of(KITS / 'digits-external', 'v1')}\n{IRIS_DIGEST}\n"
    assert (tmp_path / "a" / RECEIPT).exists()
    assert (tmp_path / "b" / RECEIPT).exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "nothing to unpack: give REF DIR"),
        ([IRIS], f"unpack takes pairs of REF and DIR: '{IRIS}' has no folder to go to"),
        ([IRIS, "{0}/a", IRIS], "has no folder to go to"),
        ([IRIS, "{0}/a", IRIS, "{0}/a/b"], "give each kit its own folder"),
        ([IRIS, "{0}/a", IRIS, "{0}/a"], "give each kit its own folder"),
        ([IRIS, "{0}/cache"], "which is the cache; choose another folder"),
        ([IRIS, "{0}/cache/kits/x"], "which is the cache; choose another folder"),
        (["{0}", IRIS], "a folder: nothing says what its bytes should be"),
        (["Not A Reference", "{0}/a"], "is not a reference"),
    ],
)
def test_what_makes_no_sense_is_usage(arguments: list[str], message: str, tmp_path: Path) -> None:
    done = unpack(*(each.format(tmp_path) for each in arguments), cache=tmp_path / "cache")
    assert done.returncode == 2
    assert message in reason(done)
    assert not (tmp_path / "a").exists()


def test_the_cache_may_lie_in_the_folder(registry: Registry, tmp_path: Path) -> None:
    reference, folder = registry.push(KITS / "iris-onnx", "v1"), tmp_path / "models"
    for _ in range(2):
        assert unpack(reference, folder, cache=folder / ".cache" / "kits").returncode == 0
        assert files(folder) == {"Kitfile", RECEIPT, "model/iris.onnx", "model/samples.json"}
    assert runtime.load(folder).provenance.verified == "receipt"


def test_the_usual_cache_is_never_in_the_folder(registry: Registry, tmp_path: Path) -> None:
    reference, home = registry.push(KITS / "iris-onnx", "v1"), tmp_path / "home"
    home.mkdir()
    done = run("unpack", reference, str(home), HOME=str(home), XDG_CACHE_HOME="", TMPDIR=str(tmp_path / "tmp"))
    assert done.returncode == 0, done.stderr
    assert files(home) == {"Kitfile", RECEIPT, "model/iris.onnx", "model/samples.json"}
    assert (tmp_path / "tmp" / f"modelkit-runtime-{os.getuid()}" / "index.json").exists()


@pytest.mark.parametrize("signum", [signal.SIGKILL, signal.SIGTERM])
def test_one_that_is_ended_half_way_leaves_no_receipt_and_no_success(signum: int, lying, tmp_path: Path) -> None:
    registry, gate, folder = lying("iris-onnx"), Gate(), tmp_path / "models"
    registry.lie(MODEL_LAYER, stalled(100, gate))
    folder.mkdir()
    command = ["unpack", f"{registry.host}/kits/iris-onnx:v1", str(folder), "--cache-dir", str(tmp_path / "cache")]
    process = subprocess.Popen([sys.executable, "-m", "runtime", *command], stderr=subprocess.PIPE, text=True)
    assert gate.reached.wait(PATIENCE_SECONDS)
    process.send_signal(signum)
    process.communicate(timeout=PATIENCE_SECONDS)
    assert process.returncode == (-signum if signum == signal.SIGKILL else 128 + signum)
    assert files(folder) == set()
    gate.open.set()
    assert run(*command).returncode == 0
    assert (folder / RECEIPT).exists()


ON_A_SMALL_DISK = 'mount -t tmpfs -o "$1" none "$2" && shift 2 && "$@"; code=$?; ls -A "$6"; exit $code'


@pytest.mark.skipif(not may_mount(), reason="this machine lets nobody mount a small disk")
@pytest.mark.parametrize(
    ("options", "message"),
    [
        pytest.param("size=1m", r"has \d+ bytes free, the kit needs \d+; make room, or", id="seen before"),
        pytest.param(
            "size=9m,nr_inodes=5", r"disk is full: 'Kitfile' needs .*; make room, or", id="seen while writing"
        ),
    ],
)
def test_a_full_disk_leaves_nothing(options: str, message: str, tmp_path: Path) -> None:
    kit, folder = made_kit(tmp_path / "kit", {"m.onnx": bytes(2 << 20), "n": b"n"}), tmp_path / "models"
    folder.mkdir()
    command = [sys.executable, "-m", "runtime", "unpack", f"oci:{kit}:v1", folder, "--cache-dir", tmp_path / "cache"]
    shell = ["unshare", "-rm", "sh", "-c", ON_A_SMALL_DISK, "sh", options, folder, *command]
    done = subprocess.run(shell, capture_output=True, text=True, timeout=PATIENCE_SECONDS, check=False)
    assert (done.returncode, done.stdout) == (74, ""), done.stderr
    assert re.search(message + " choose another folder", reason(done))
