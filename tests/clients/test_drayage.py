"""A second real registry, drayage (https://pypi.org/project/drayage/): a cache in front of Debian's, and it ignores ranges."""

from __future__ import annotations

import os
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from loadtests.ports import free_port
from runtime.errors import InvalidManifest, NotFound
from tests.clients.environments import python
from tests.kit.made import made_kit
from tests.kit.pulling import Recorder, pulled, tree, unverified
from tests.places import KITS
from tests.registries import Registry, digest_of

pytestmark = pytest.mark.slow
FILES = {"m.onnx": os.urandom(3_000_000), "labels": b"a b c"}


@pytest.fixture(scope="module")
def layout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return made_kit(tmp_path_factory.mktemp("layout"), FILES)


@pytest.fixture(scope="module")
def place(registry: Registry, layout: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Where a drayage that stands in front of `registry` has its repositories: HOST/NAME."""
    registry.push(layout, "v1", "kits/m")
    registry.push(KITS / "iris-onnx", "v1")
    folder, host = tmp_path_factory.mktemp("drayage"), f"127.0.0.1:{free_port()}"
    (folder / "config.toml").write_text(
        f'listen = "{host}"\ncache_dir = "{folder}"\nmanifest_ttl_seconds = 900\n'
        f'[upstreams.reg_example]\nregistry = "http://{registry.host}"\n'
    )
    command = [Path(python("drayage")).with_name("drayage"), "serve", "--config", folder / "config.toml", "--log-json"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process:
        assert process.stdout
        assert any("listening on" in line for line in process.stdout)
        threading.Thread(target=process.stdout.read, daemon=True).start()  # a full pipe would stop it
        yield f"{host}/reg.example"
        process.kill()


def test_01_02_a_kit_by_tag_and_by_digest(place: str, layout: Path, tmp_path: Path) -> None:
    kit = pulled(f"{place}/kits/m:v1", tmp_path, watch := Recorder())
    assert (str(kit.digest), tree(kit.root), watch.warnings) == (digest_of(layout, "v1"), FILES, [])
    digest = digest_of(KITS / "iris-onnx", "v1")
    by_tag, by_digest = (
        pulled(f"{place}/kits/iris-onnx{which}", tmp_path / which, watch := Recorder())
        for which in (":v1", f"@{digest}")
    )
    assert str(by_tag.digest) == str(by_digest.digest) == digest
    assert tree(by_tag.root) == tree(by_digest.root)


def test_38_by_digest_it_calls_a_manifest_what_it_is_not(place: str, layout: Path, tmp_path: Path) -> None:
    pulled(f"{place}/kits/m:v1", tmp_path / "tag")  # it keeps the manifest, and forgets its type
    with pytest.raises(InvalidManifest, match=r"sent the manifest as application/vnd\.docker\..*, it calls itself"):
        pulled(f"{place}/kits/m@{digest_of(layout, 'v1')}", tmp_path / "digest")


def test_26_a_beginning_that_is_here_goes_on_though_ranges_are_ignored(
    place: str, layout: Path, tmp_path: Path
) -> None:
    pulled(f"{place}/kits/m:v1", tmp_path / "whole")
    (blob,) = (path for path in (tmp_path / "whole/blobs/sha256").iterdir() if path.stat().st_size > 3_000_000)
    cache = tmp_path / "cache"
    (cache / "ingest").mkdir(parents=True, mode=0o700)
    (cache / "ingest" / f"{blob.name}.00000000.1.ab").write_bytes(blob.read_bytes()[:2_000_000])
    kit = pulled(f"{place}/kits/m:v1", cache, watch := Recorder())
    assert (tree(kit.root), watch.warnings, unverified(cache)) == (FILES, [], [])


def test_31_what_it_does_not_have_is_not_found(place: str, tmp_path: Path) -> None:
    for name in ("kits/m:v9", "kits/none:v1"):
        with pytest.raises(NotFound):
            pulled(f"{place}/{name}", tmp_path)


def test_13_it_is_a_mirror_of_the_registry_behind_it(registry: Registry, place: str, tmp_path: Path) -> None:
    kit = pulled(f"{registry.host}/kits/m:v1", tmp_path, watch := Recorder(), mirrors=((registry.host, place),))
    assert (tree(kit.root), watch.warnings) == (FILES, [])
