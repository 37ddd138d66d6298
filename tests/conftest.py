"""What all tests may ask for: the golden kits, real registries, and one that lies."""

from __future__ import annotations

import gc
import io
import logging
import os
import re
import signal
import sys
from collections import Counter
from collections.abc import Callable, Generator, Iterator
from contextlib import ExitStack
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import httpx
import pytest
from hypothesis import HealthCheck, is_hypothesis_test, settings

from tests.campaign import Campaign
from tests.extras import FRAMEWORKS, MISSING
from tests.installed import Installed
from tests.lying_registry import LyingRegistry
from tests.places import KITS, ROOT
from tests.registries import Registry, TokenService

# threads of OpenMP would spin while they wait, on processors that others want; OpenBLAS starts its own with each process;
# programs in Go (a registry, skopeo) take a quarter less time where their threads are on one processor
os.environ |= {"OMP_WAIT_POLICY": "passive", "OPENBLAS_NUM_THREADS": "1", "GOMAXPROCS": "1"}
os.environ["RUNTIME_GRPC_PORT"] = "off"  # one port for all tests that say nothing else would be taken
signal.signal(signal.SIGHUP, signal.SIG_DFL)  # under nohup servers would inherit that it is ignored, as they should

sys.modules["rfc3987_syntax"] = None  # type: ignore[assignment]  # jsonschema would compile its grammars, for a second
# each client would read the certificates of all authorities, for 30 ms
httpx._transports.default.create_ssl_context = cache(httpx.create_ssl_context)  # type: ignore[attr-defined]


def pytest_addoption(parser: pytest.Parser) -> None:
    """Adds the sizes of campaigns, and the two halves of a run."""
    parser.addoption("--ci", action="store_true", help="as many random cases as a change has to pass")
    parser.addoption("--long", action="store_true", help="as many as take hours")
    parser.addoption(
        "--frameworks",
        choices=["only", "never"],
        help="tests of adapters and others that import a framework, or the rest",
    )


def pytest_configure(config: pytest.Config) -> None:
    """Says how many examples hypothesis tries, before modules of tests are imported."""
    calm = [HealthCheck.too_slow]  # on a busy machine any example may take long
    examples = _campaign(config)(30, 300, 10_000)
    settings.register_profile("calm", deadline=None, suppress_health_check=calm, max_examples=examples)
    settings.load_profile("calm")


@pytest.hookimpl(wrapper=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> Generator[None, None, None]:
    """Marks the tests that have more cases in CI (`make campaigns`). Of those that are chosen then, puts the modules with
    the most slow tests first: workers that take one after the other end together."""
    for item in items:
        if "campaign" in getattr(item, "fixturenames", ()) or is_hypothesis_test(getattr(item, "obj", None)):
            item.add_marker("campaign")
    yield
    slow = Counter(item.path for item in items if item.get_closest_marker("slow"))
    items.sort(key=lambda item: -slow[item.path])


@pytest.fixture
def campaign(request: pytest.FixtureRequest) -> Campaign:
    """Returns what chooses a number of random cases: that of every run, of CI, and of a run for hours."""
    return _campaign(request.config)


def _campaign(config: pytest.Config) -> Campaign:
    option = config.option
    return lambda usual, ci, long: long if option.long else ci if option.ci else usual


def pytest_report_header() -> str:
    """Says what is not tested, if anything."""
    return f"not installed, and left out with the tests that need them: {', '.join(sorted(MISSING)) or 'nothing'}"


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Leaves out modules that import what is not there, those of the other half of a run (`--frameworks`), and in the
    fast suite those with slow tests only."""
    if collection_path.suffix != ".py":
        return None
    text = collection_path.read_text()
    if config.option.markexpr == "not slow" and re.search(
        r"^pytestmark = \[?\s*pytest.mark.slow\b", text, re.MULTILINE
    ):
        return True
    head, _, _ = text.partition("\n\n\n")  # programs in strings, further down, have imports of their own
    imported = set(re.findall(r"^(?:from|import) (\w+)", head, re.MULTILINE))
    half = "only" if imported & FRAMEWORKS or collection_path.is_relative_to(ROOT / "tests/adapters") else "never"
    return True if config.option.frameworks not in (None, half) or imported & MISSING else None


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, object, object]:
    """Keeps the garbage collector away from what the tests import, which takes a quarter longer with it, and from
    that for ever: with all frameworks, a look takes 0.3 seconds."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.freeze()
        gc.enable()


@pytest.fixture(scope="session")
def kits() -> Path:
    """The folder of the golden kits, one OCI layout each."""
    return KITS


@pytest.fixture(scope="session")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Installed:
    """The wheel of this tree, and environments that have it: one of each for all processes of the run."""
    base = tmp_path_factory.getbasetemp()
    return Installed((base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "installed")


@pytest.fixture
def memory(tmp_path: Path) -> Iterator[Path]:
    """A folder in memory where there can be one: for what makes and removes thousands of files."""
    with TemporaryDirectory(dir="/dev/shm" if os.access("/dev/shm", os.W_OK) else tmp_path) as text:
        yield Path(text)


@pytest.fixture
def written() -> Iterator[io.StringIO]:
    """What the logger of the library writes, from INFO on."""
    logger, text = logging.getLogger("modelkit_runtime"), io.StringIO()
    handler = logging.StreamHandler(text)
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    yield text
    logger.setLevel(logging.NOTSET)
    logger.removeHandler(handler)


@pytest.fixture(scope="module")
def registry(make_registry: Callable[..., Registry]) -> Registry:
    """A real registry without a login, empty, for one module."""
    return make_registry()


@pytest.fixture(scope="module")
def make_registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., Registry]]:
    """Starts real registries: `make_registry(auth="basic")`, or with the TokenService of `make_token_service`."""
    with ExitStack() as stack:
        yield lambda **options: stack.enter_context(Registry(tmp_path_factory.mktemp("registry"), **options))


@pytest.fixture(scope="module")
def make_token_service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., TokenService]]:
    """Starts token services: `make_token_service(anonymous=True)`."""
    with ExitStack() as stack:
        yield lambda **options: stack.enter_context(TokenService(tmp_path_factory.mktemp("tokens"), **options))


@pytest.fixture
def lying(kits: Path) -> Iterator[Callable[..., LyingRegistry]]:
    """Starts registries that lie: `lying("iris-onnx")` serves that golden kit, `lying(None)` nothing."""
    with ExitStack() as stack:

        def start(kit: str | Path | None, **options: Any) -> LyingRegistry:
            layout = kits / kit if isinstance(kit, str) else kit
            return stack.enter_context(LyingRegistry(layout, **options))

        yield start
