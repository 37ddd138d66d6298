"""What a manifest or a registry says that leads to no request, or to no word of it in what a person reads."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from pathlib import Path

import pytest

from runtime.cli import main
from runtime.errors import DigestMismatch, NotFound
from tests.kit.made import made_kit, named, put
from tests.kit.pulling import Recorder, pulled, tree
from tests.lying_registry import LyingRegistry, challenge, claiming, other, redirect, refusal
from tests.registries import docker_config

Lying = Callable[..., LyingRegistry]


def changed(layout: Path, change: Callable[[dict[str, object], list[dict[str, object]]], None]) -> Path:
    """Changes config and layers in the manifest of a layout."""
    index = json.loads((layout / "index.json").read_bytes())["manifests"][0]
    manifest = json.loads((layout / "blobs" / index["digest"].replace(":", "/")).read_bytes())
    change(manifest["config"], manifest["layers"])
    named(layout, put(layout, json.dumps(manifest).encode(), index["mediaType"]), "v1")
    return layout


@pytest.fixture
def layout(tmp_path: Path) -> Path:
    return made_kit(tmp_path / "kit", {"m.bin": b"model"})


def inline(layout: Path, damage: bytes = b"") -> Path:
    def change(config: dict[str, object], layers: list[dict[str, object]]) -> None:
        data = (layout / "blobs" / str(config["digest"]).replace(":", "/")).read_bytes()
        config["data"] = base64.b64encode(damage + data[len(damage) :]).decode()

    return changed(layout, change)


def test_08_a_config_in_its_descriptor_and_an_empty_layer_need_no_request(lying: Lying, tmp_path: Path) -> None:
    kit = changed(made_kit(tmp_path / "kit", {"m.bin": b"model", "empty": b""}), _raw_empty(tmp_path / "kit"))
    registry = lying(inline(kit))
    assert tree(pulled(f"{registry.host}/k:v1", tmp_path / "cache").root) == {"m.bin": b"model", "empty": b""}
    assert len(registry.seen("/blobs/")) == 1


def _raw_empty(folder: Path) -> Callable[[dict[str, object], list[dict[str, object]]], None]:
    """Makes the second layer a raw file of no bytes."""

    def change(config: dict[str, object], layers: list[dict[str, object]]) -> None:
        empty = put(folder, b"", "application/vnd.kitops.modelkit.modelpart.v1.raw")
        before = layers[1]["digest"]
        layers[1] = {**empty, "annotations": {"org.cncf.model.filepath": "empty"}}
        kitfile = (folder / "blobs" / str(config["digest"]).replace(":", "/")).read_bytes()
        config |= put(
            folder, kitfile.replace(str(before).encode(), str(empty["digest"]).encode()), str(config["mediaType"])
        )

    return change


def test_08_a_config_that_is_wrong_in_its_descriptor_is_refused(lying: Lying, layout: Path, tmp_path: Path) -> None:
    registry = lying(inline(layout, b"[]"))
    with pytest.raises(DigestMismatch):
        pulled(f"{registry.host}/k:v1", tmp_path / "cache")
    assert registry.seen("/blobs/") == []


def test_08_a_config_that_is_not_whole_in_its_descriptor_is_asked_for(
    lying: Lying, layout: Path, tmp_path: Path
) -> None:
    registry = lying(changed(layout, lambda config, _: config.update(data="?")))
    assert tree(pulled(f"{registry.host}/k:v1", tmp_path / "cache").root) == {"m.bin": b"model"}


def test_42_a_next_page_of_tags_elsewhere_is_not_asked_for(lying: Lying, layout: Path, tmp_path: Path) -> None:
    registry, stranger = lying(layout), lying(layout)
    link = {"Link": f'<{stranger.url}/v2/k/tags/list?last=v1>; rel="next"'}
    registry.lie("/tags/", other(b'{"name": "k", "tags": ["v1"]}', **link))
    with pytest.raises(NotFound, match="newest tags: v1"):
        pulled(f"{registry.host}/k:v9", tmp_path / "cache")
    assert stranger.requests == []


def test_43_the_addresses_in_a_descriptor_are_not_asked_for(lying: Lying, layout: Path, tmp_path: Path) -> None:
    stranger = lying(layout)

    def change(config: dict[str, object], layers: list[dict[str, object]]) -> None:
        for each in (config, *layers):
            each["urls"] = [f"{stranger.url}/v2/k/blobs/{each['digest']}"]

    registry = lying(changed(layout, change))
    assert tree(pulled(f"{registry.host}/k:v1", tmp_path / "cache").root) == {"m.bin": b"model"}
    assert stranger.requests == []


def test_50_what_a_registry_warns_of_is_said_once(lying: Lying, layout: Path, tmp_path: Path) -> None:
    registry, watch = lying(layout), Recorder()
    registry.lie("", claiming(Warning='299 - "this repository \x1b[2Jmoves to \\"other\\"", 299 - "soon"'))
    pulled(f"{registry.host}/k:v1", tmp_path / "cache", watch)
    assert [(event, facts["reason"]) for event, facts in watch.warnings] == [
        ("registry.warned", f'{registry.url} says: this repository  [2Jmoves to \\"other\\"'),
        ("registry.warned", f"{registry.url} says: soon"),
    ]


def test_49_50_neither_secrets_nor_escapes_of_a_registry_reach_the_log(
    lying: Lying, layout: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    registry, storage = lying(layout), lying(layout)
    monkeypatch.setenv("DOCKER_CONFIG", str(docker_config(tmp_path, {registry.host: ("ada", "hunter2")})))
    storage.lie("", refusal(403, "\x1b]0;owned\x07DENIED"))
    registry.lie("/manifests/", challenge('Basic realm="k"'), times=1)
    registry.lie("/blobs/", redirect(f"{storage.url}/blob?X-Amz-Signature=s1gnature"))
    command = ["pull", f"{registry.host}/k:v1", f"--cache-dir={tmp_path}/cache", "--log-level=debug"]
    assert main([*command, "--retry-budget=0.2"]) == 69
    said = "".join(capfd.readouterr())
    assert "where it was redirected to, answered 403" in said
    secrets = ("hunter2", "s1gnature", registry.seen("/manifests/")[-1].headers["authorization"].partition(" ")[2])
    assert [text for text in (*secrets, "\x1b", "\x07") if text in said] == []
