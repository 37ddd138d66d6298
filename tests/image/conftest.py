"""The image under test, built once; what is missing here is said, and in CI it fails."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from loadtests.ports import free_port
from tests.image.engine import BASE, Engine, base_archive, build_arguments, dockerd, podman

STORE = Path("/var/tmp/modelkit-runtime-image-tests")
"""Outlives a run: the second one finds the base and the layers that did not change."""
PROGRAMS = ("podman", "buildah", "runc", "mmdebstrap", "catatonit")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.slow)
            item.add_marker(pytest.mark.timeout(900))


def need(*programs: str) -> None:
    """In CI everything has to be there; elsewhere what is not is skipped aloud."""
    path = os.environ["PATH"] + ":/usr/sbin:/usr/libexec/podman:/usr/libexec"
    missing = [program for program in programs if not shutil.which(program, path=path)]
    reasons = [f"not installed: {' '.join(missing)} (make test-image installs them)"] if missing else []
    reasons += ["needs root"] if os.geteuid() else []
    if reasons and os.environ.get("CI"):
        pytest.fail("; ".join(reasons))
    if reasons:
        pytest.skip("; ".join(reasons))


@pytest.fixture(scope="session")
def engine() -> Iterator[Engine]:
    """podman, with the base image in its store."""
    need(*PROGRAMS)
    STORE.mkdir(mode=0o700, exist_ok=True)
    engine = podman(STORE)
    if engine.finished("image", "exists", BASE).returncode:
        engine("import", "--quiet", base_archive(STORE), BASE)
    yield engine
    engine("image", "prune", "--force", check=False)


@pytest.fixture(scope="session")
def image(engine: Engine) -> str:
    """The image as users build it: ONNX alone."""
    engine("build", *build_arguments(), "--tag=runtime", ".")
    return "localhost/runtime"


@pytest.fixture(scope="session")
def docker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    """A real Docker daemon with the base image."""
    need("dockerd", "mmdebstrap")
    STORE.mkdir(mode=0o700, exist_ok=True)
    with dockerd(tmp_path_factory.mktemp("docker")) as engine:
        engine("import", base_archive(STORE), BASE)
        yield engine


@pytest.fixture
def port() -> int:
    """A port that nobody listens on."""
    return free_port()
