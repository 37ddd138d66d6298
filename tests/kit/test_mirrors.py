"""A mirror is asked first for what goes by digest, and for nothing else."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.kit.made import made_kit
from tests.kit.pulling import Recorder, pulled, tree
from tests.lying_registry import Lie, LyingRegistry, challenge, cut, flipped, nothing, refusal
from tests.registries import PASSWORD, USER, Registry, docker_config

Lying = Callable[..., LyingRegistry]
MODEL = bytes(range(256)) * 8192


@pytest.fixture
def layout(tmp_path: Path) -> Path:
    return made_kit(tmp_path / "kit", {"m.bin": MODEL})


def test_13_layers_come_from_the_mirror_and_tags_from_the_registry(
    lying: Lying, layout: Path, registry: Registry, tmp_path: Path
) -> None:
    origin = lying(layout)
    registry.push(layout, "v1", "cache/kits/mirrored")
    pair = (origin.host, f"{registry.host}/cache")
    watch = Recorder()
    kit = pulled(f"{origin.host}/kits/mirrored:v1", tmp_path / "cache", watch, mirrors=(pair,))
    assert tree(kit.root) == {"m.bin": MODEL}
    assert [each.path for each in origin.requests] == ["/v2/kits/mirrored/manifests/v1"]
    assert watch.warned == []


def test_13_the_login_of_the_registry_never_reaches_the_mirror(lying: Lying, layout: Path, tmp_path: Path) -> None:
    mirror = lying(layout)
    mirror.lie("/blobs/", challenge('Basic realm="kits"'))
    with Registry(tmp_path, auth="basic") as closed:
        reference = closed.push(layout, "v1", "kits/secret")
        login, watch = docker_config(tmp_path / "docker", {closed.host: (USER, PASSWORD)}), Recorder()
        kit = pulled(reference, tmp_path / "cache", watch, login, mirrors=((closed.host, mirror.host),))
        assert tree(kit.root) == {"m.bin": MODEL}
    assert mirror.requests
    assert not [each for each in mirror.requests if "authorization" in each.headers]
    assert watch.warned == ["mirror.failed"]


@pytest.mark.parametrize(
    ("lie", "warned"),
    [
        (refusal(404), {"mirror.failed"}),
        (nothing(), {"mirror.failed"}),
        (cut(after=1_000_000, ranges=False), {"mirror.failed"}),
        (flipped(at=10), {"blob.differed"}),
    ],
    ids=["missing", "broken", "cut", "wrong"],
)
def test_13_a_mirror_that_fails_leaves_the_registry(
    lie: Lie, warned: set[str], lying: Lying, layout: Path, tmp_path: Path
) -> None:
    origin, mirror, watch = lying(layout), lying(layout), Recorder()
    mirror.lie("/blobs/", lie)
    pair = (origin.host, mirror.host)
    kit = pulled(f"{origin.host}/k:v1", tmp_path / "cache", watch, mirrors=(pair,), retry_budget_seconds=0.2)
    assert tree(kit.root) == {"m.bin": MODEL}
    assert set(watch.warned) == warned
