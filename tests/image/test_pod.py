"""A pod of the shape that KServe makes of deploy/kserve: storage initializer, then server, one volume between them."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from tests.expected import assert_right, cases
from tests.image.engine import Engine
from tests.places import ROOT
from tests.registries import Registry, digest_of

KSERVE = ROOT / "deploy/kserve"
CASE = cases("iris-onnx")[0]


def spec_of(name: str) -> dict[str, Any]:
    return dict(yaml.safe_load((KSERVE / f"{name}.yaml").read_text())["spec"])


def pod(image: str, source: str, port: int) -> dict[str, Any]:
    """What KServe adds, done by hand: arguments, the volume, the name of the InferenceService."""
    runtime, storage = spec_of("clusterservingruntime"), spec_of("clusterstoragecontainer")["container"]
    (server,) = runtime["containers"]
    server["args"] = [argument.replace("{{.Name}}", "iris") for argument in server["args"]]
    server["env"].append({"name": "PORT", "value": str(port)})
    server["volumeMounts"].append({"name": "kserve-provision-location", "mountPath": "/mnt/models", "readOnly": True})
    server.pop("ports")  # podman: not together with the host's network
    for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
        server.pop(probe)
    storage["args"] = [source, "/mnt/models"]
    storage["volumeMounts"] = [{"name": "kserve-provision-location", "mountPath": "/mnt/models"}]
    for container in (server, storage):
        container.update(image=image, imagePullPolicy="Never")
    volumes = [{"name": name, "emptyDir": {}} for name in ("kserve-provision-location", "tmp")]
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "iris", "annotations": {"io.podman.annotations.init.container.type": "always"}},
        "spec": {
            "hostNetwork": True,
            "restartPolicy": "Never",
            "initContainers": [storage],
            "containers": [server],
            "volumes": volumes,
        },
    }


@pytest.fixture
def running(engine: Engine, image: str, registry: Registry, kits: Path, port: int, tmp_path: Path) -> Iterator[str]:
    reference = registry.push(kits / "iris-onnx", "v1")
    manifest = tmp_path / "pod.yaml"
    manifest.write_text(yaml.safe_dump(pod(f"{image}:latest", f"kit://{reference}", port)))
    done = engine.finished("kube", "play", manifest)
    try:
        yield f"http://127.0.0.1:{port}" if done.returncode == 0 else pytest.fail(done.stderr)
    finally:
        engine("kube", "down", manifest, check=False)


def test_the_pod_unpacks_verifies_and_serves(engine: Engine, running: str, kits: Path) -> None:
    deadline = time.monotonic() + 60
    with httpx.Client(base_url=running, timeout=60) as client:
        while not ready(client):
            assert time.monotonic() < deadline, engine.finished("logs", "iris-kserve-container")
            time.sleep(0.05)
        answer = client.post("/v2/models/iris/infer", json=CASE["request"])
        assert_right(answer.json(), CASE)
        properties = client.get("/v2/models/iris").json()["properties"]
    assert properties["verified"] == answer.headers["modelkit-verified"] == "receipt"
    assert properties["digest"] == answer.headers["modelkit-digest"] == digest_of(kits / "iris-onnx", "v1")


def ready(client: httpx.Client) -> bool:
    try:
        return client.get("/v2/health/ready").status_code == 200
    except httpx.TransportError:
        return False
