"""Everything that can go wrong before a kit serves ends in one line, a documented exit code, and no traceback."""

import json
import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

import runtime
from runtime.errors import Failure
from runtime.exits import exit_code
from tests.e2e.server import Server, run
from tests.lying_registry import flipped, long, other, refusal, short
from tests.places import KITS, ROOT
from tests.registries import USER, docker_config

pytestmark = pytest.mark.slow

IRIS = f"oci:{KITS / 'iris-onnx'}:v1"
MANIFEST, CONFIG, LAYER = "manifests/", "blobs/sha256:3c1cdb8b71b5", "blobs/sha256:e2efdb39975bb174"


def ends(reference: str, tmp_path: Path, code: int, *words: str, options=(), **environ: str) -> None:
    """The server ends with `code` and a line that has all the words in it, soon after it could know."""
    started = time.monotonic()
    with Server(reference, *options, cache=tmp_path / "cache", **environ) as server:
        seen, reason = server.failure()
    assert seen == code, reason
    assert [word for word in words if word not in reason] == [], reason
    assert "\n" not in reason
    assert "Traceback" not in reason
    assert time.monotonic() - started < 20  # seconds: less than what waits for a stalled connection


def is_not_loaded(reference: str, tmp_path: Path, code: int, *words: str, **options) -> str:
    """What a server says too (`ends`), without one."""
    with pytest.raises(Failure) as caught:
        runtime.load(reference, cache_dir=tmp_path / "cache", **options)
    reason = str(caught.value)
    assert exit_code(caught.value) == code, reason
    assert [word for word in words if word not in reason] == [], reason
    assert "\n" not in reason
    return reason


def test_a_registry_that_is_not_there_is_given_up_after_the_budget(tmp_path):
    is_not_loaded("127.0.0.1:1/kits/iris:v1", tmp_path, 69, "127.0.0.1:1", retry_budget=1.0)


def test_a_registry_that_fails_is_given_up_after_the_budget(lying, tmp_path):
    registry = lying("iris-onnx")
    registry.lie(MANIFEST, refusal(503))
    ends(f"{registry.host}/kits/iris:v1", tmp_path, 69, registry.host, "503", options=("--retry-budget", "1"))


def test_an_unknown_tag_names_those_that_exist(registry, tmp_path):
    registry.push(KITS / "iris-onnx", "v1")
    registry.push(KITS / "iris-onnx", "gzip")
    is_not_loaded(f"{registry.host}/kits/iris-onnx:v9", tmp_path, 66, "v9", "gzip", "v1")


def test_an_unknown_repository_is_said_to_be_unknown(registry, tmp_path):
    is_not_loaded(f"{registry.host}/kits/nothing:v1", tmp_path, 66, "kits/nothing")


def test_a_wrong_password_names_the_registry_and_never_the_password(make_registry, tmp_path, monkeypatch):
    registry = make_registry(auth="basic")
    monkeypatch.setenv("DOCKER_CONFIG", str(docker_config(tmp_path, {registry.host: (USER, "not-the-password")})))
    reason = is_not_loaded(f"{registry.host}/kits/iris:v1", tmp_path, 77, registry.host)
    assert "not-the-password" not in reason


def test_no_password_says_that_a_login_is_wanted(make_registry, tmp_path, monkeypatch):
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path))
    is_not_loaded(f"{(host := make_registry(auth='basic').host)}/kits/iris:v1", tmp_path, 77, host)


@pytest.mark.parametrize("part", [CONFIG, LAYER])
@pytest.mark.parametrize("lie", [flipped(), short(), long()], ids=["flipped", "short", "long"])
def test_a_blob_with_other_bytes_is_refused_and_gets_no_name(lie, part, lying, tmp_path):
    registry = lying("iris-onnx")
    registry.lie(part, lie)
    is_not_loaded(f"{registry.host}/kits/iris:v1", tmp_path, 65, "sha256:")
    digest = part.rpartition(":")[2]
    assert not [path for path in (tmp_path / "cache" / "blobs").rglob("*") if path.name.startswith(digest)]


def test_a_manifest_that_differs_from_its_digest_is_refused(lying, tmp_path):
    registry = lying("iris-onnx")
    registry.lie(MANIFEST, flipped(40))
    digest = "sha256:44b4f1ec6a443b09778fd033f873370cee057611ad6865a07b212ea225cb9f6c"
    is_not_loaded(f"{registry.host}/kits/iris@{digest}", tmp_path, 65, digest)


def test_a_web_page_instead_of_a_manifest_is_no_manifest(lying, tmp_path):
    registry = lying("iris-onnx")
    registry.lie(MANIFEST, other(b"<html>please log in</html>", Content_Type="text/html"))
    is_not_loaded(f"{registry.host}/kits/iris:v1", tmp_path, 65, "manifest")


def test_a_container_image_is_named_as_one(lying, tmp_path):
    registry = lying("iris-onnx")
    image = (
        b'{"schemaVersion":2,"mediaType":"application/vnd.oci.image.manifest.v1+json",'
        b'"config":{"mediaType":"application/vnd.oci.image.config.v1+json","size":2,"digest":"sha256:'
        + b"0" * 64
        + b'"},"layers":[]}'
    )
    registry.lie(MANIFEST, other(image, Docker_Content_Digest=""))
    is_not_loaded(f"{registry.host}/kits/iris:v1", tmp_path, 65, "container image")


def test_a_folder_that_is_not_there_and_one_without_a_kitfile_differ(tmp_path):
    is_not_loaded(str(tmp_path / "nowhere"), tmp_path, 66, "nowhere")
    (tmp_path / "empty").mkdir()
    is_not_loaded(str(tmp_path / "empty"), tmp_path, 65, "Kitfile")


def test_an_unknown_adapter_lists_those_there_are(tmp_path):
    ends(IRIS, tmp_path, 78, "nonsense", "onnx", options=("--adapter", "nonsense"))


def test_a_cache_that_cannot_be_written_says_where_and_what_to_do(tmp_path):
    (tmp_path / "cache").write_text("a file where the folder should be")
    is_not_loaded(IRIS, tmp_path, 74, "cache", "--cache-dir")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can mount a small file system")
def test_a_full_disk_says_what_is_needed(tmp_path):
    (tmp_path / "cache").mkdir()
    if os.system(f"mount -t tmpfs -o size=16k tmpfs {tmp_path / 'cache'}") != 0:
        pytest.skip("this machine cannot mount a tmpfs")
    try:
        is_not_loaded(f"oci:{KITS / 'digits-external'}:v1", tmp_path, 74, "free")
    finally:
        os.system(f"umount {tmp_path / 'cache'}")


def test_a_corrupted_layout_is_refused(tmp_path):
    layout = tmp_path / "layout"
    shutil.copytree(KITS / "iris-bare", layout)
    largest = max((layout / "blobs/sha256").iterdir(), key=lambda path: path.stat().st_size)
    content = bytearray(largest.read_bytes())
    content[600] ^= 1
    largest.chmod(0o644)
    largest.write_bytes(content)
    is_not_loaded(f"oci:{layout}:v1", tmp_path, 65, largest.name)


@pytest.mark.parametrize("reference", ["", "UPPER/case:v1", "https://host.example/m:v1", "host.example/m:bad tag"])
def test_what_is_no_reference_is_refused_at_once(reference, tmp_path):
    done = run("--kit", reference, "--cache-dir", str(tmp_path))
    assert done.returncode == 2
    assert len(done.stderr.splitlines()) == 1


@pytest.mark.parametrize("descriptors", [9, 12])
def test_without_a_descriptor_to_start_with_the_end_is_said_in_one_line(descriptors, tmp_path):
    command = [sys.executable, "-m", "runtime", IRIS, "--port", "0", "--cache-dir", str(tmp_path)]
    limited = f'ulimit -n {descriptors}; exec "$@"'
    done = subprocess.run(["sh", "-c", limited, "sh", *command], capture_output=True, text=True, cwd=ROOT, check=False)
    said = [json.loads(line) for line in done.stderr.splitlines()]
    failed = [event for event in said if event["event"] == "runtime.failed"]
    assert [event["exit_code"] for event in failed] == [done.returncode] == [71]
    assert re.search(r"Too many open files.*; raise RLIMIT_NOFILE \(ulimit -n\)$", failed[0]["reason"])
