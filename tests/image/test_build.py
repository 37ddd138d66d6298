"""What is in the image, what is not, and that it is the same every time."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator

from tests.image.engine import BASE, Engine, build_arguments
from tests.places import ROOT

LARGEST_ABOVE_BASE_BYTES = 210_000_000


def inside(engine: Engine, image: str, *command: str) -> str:
    """What a command prints in a new container that can reach nothing."""
    return engine("run", "--rm", "--network=none", "--entrypoint", command[0], image, *command[1:])


def test_the_dockerfile_has_no_findings() -> None:
    done = subprocess.run(
        [Path(sys.executable).parent / "hadolint", ROOT / "Dockerfile"], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout) == (0, "")


def test_the_image_says_how_it_runs(engine: Engine, image: str) -> None:
    found = engine.inspect(image)
    config = found["Config"]
    assert config["User"] == "10001:0"
    assert config["Entrypoint"] == ["runtime"]
    assert found["Healthcheck"]["Test"] == ["CMD", "runtime", "health"]
    assert "RUNTIME_HOST=0.0.0.0" in config["Env"]
    assert config["Labels"]["org.opencontainers.image.licenses"] == "Apache-2.0"


def test_it_is_small(engine: Engine, image: str) -> None:
    above = engine.inspect(image)["Size"] - engine.inspect(BASE)["Size"]
    assert above <= LARGEST_ABOVE_BASE_BYTES


def test_nothing_of_the_build_is_left(engine: Engine, image: str) -> None:
    names = ("pip", "setuptools", "cyclonedx*", "*.whl", "gcc", "cc1", "ca.pem", ".cache")
    tests = " -o ".join(f"-name '{name}'" for name in names)
    assert (
        inside(engine, image, "sh", "-c", f"find /opt /src /root /run /tmp /home \\( {tests} \\) 2>/dev/null || true")
        == ""
    )


def test_all_byte_code_is_there_and_never_checked_against_its_source(engine: Engine, image: str) -> None:
    program = """
import importlib.util, pathlib
for source in pathlib.Path("/opt/venv/lib").rglob("*.py"):
    code = pathlib.Path(importlib.util.cache_from_source(str(source)))
    if not code.exists() or code.read_bytes()[4:8] != b"\\1\\0\\0\\0":
        print(source)
"""
    assert inside(engine, image, "python", "-c", program) == ""


def test_a_base_without_byte_code_gets_it(engine: Engine, tmp_path: Path) -> None:
    """The official Python images have none of the standard library's."""
    (tmp_path / "Dockerfile").write_text(f"FROM {BASE}\nRUN find /usr/lib/python3* -name '*.pyc' -delete\n")
    engine("build", *build_arguments(), "--tag=bare-base", tmp_path)
    engine("build", *build_arguments(), "--build-arg=BASE_IMAGE=localhost/bare-base", "--tag=on-bare-base", ".")
    program = "import argparse, asyncio, json; print(*(m.__cached__ for m in (argparse, asyncio, json)), sep='\\n')"
    for file in inside(engine, "on-bare-base", "python", "-c", program).split():
        assert inside(engine, "on-bare-base", "ls", file).strip() == file


def test_two_builds_have_the_same_layers(engine: Engine, image: str) -> None:
    engine("build", *build_arguments(fresh=True), "--tag=runtime-again", ".")
    assert engine.layers("runtime-again") == engine.layers(image)


def test_the_bill_of_materials_is_valid_and_complete(engine: Engine, image: str) -> None:
    bill = inside(engine, image, "cat", "/opt/venv/sbom.cdx.json")
    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(bill) is None
    listed = {(part["name"].lower(), part["version"]) for part in json.loads(bill)["components"]}
    program = "import importlib.metadata as m\nfor d in m.distributions(): print(d.metadata['Name'].lower(), d.version)"
    installed = {tuple(line.split()) for line in inside(engine, image, "python", "-c", program).splitlines()}
    assert listed == installed


def test_every_dependency_is_locked_with_its_hashes(engine: Engine, image: str) -> None:
    bill = json.loads(inside(engine, image, "cat", "/opt/venv/sbom.cdx.json"))
    lock = "".join((ROOT / f"requirements/{name}.txt").read_text() for name in ("core", "grpc")).lower()
    parts = {f"{part['name'].lower().replace('_', '-')}=={part['version']}" for part in bill["components"]} - {
        "modelkit-runtime==0.1.0"
    }
    assert [
        part
        for part in parts
        if not re.search(rf"^{re.escape(part)}( ; .*)? \\\n    --hash=sha256:", lock, re.MULTILINE)
    ] == []
