import re

import pytest

from runtime.kit.format.manifest import Manifest
from runtime.kit.format.reference import Reference
from runtime.log import Log
from runtime.progress import Progress, human_bytes
from tests.places import KITS
from tests.terminal import Terminal


@pytest.mark.parametrize(
    ("count", "shown"),
    [
        (0, "0 B"),
        (999, "999 B"),
        (1000, "1.0 kB"),
        (761_344, "761.3 kB"),
        (9.9e6, "9.9 MB"),
        (7e9, "7.0 GB"),
        (2e12, "2.0 TB"),
    ],
)
def test_bytes_for_people(count, shown):
    assert human_bytes(count) == shown


@pytest.fixture
def terminal():
    screen = Terminal()
    log = Log(screen.fd, style="text")

    def text(*, after: str = "") -> str:
        screen.wait_for(after)
        log.close()
        return screen.shown()

    return log, text


def test_a_pull_on_a_terminal_is_a_bar_with_share_bytes_rate_and_layer(terminal):
    log, text = terminal
    progress = Progress(log)
    progress.progress("model/weights.bin", 0, 10_000_000)
    progress.progress("model/weights.bin", 10_000_000, 10_000_000)
    *_, shown, after = text(after="100%").split("\r\x1b[K")
    assert after == "", "the bar is removed in the end"
    assert re.fullmatch(r"  █{24} 100%  10\.0 MB of 10\.0 MB  \S+ [kMGT]B/s  model/weights\.bin", shown)


def test_the_bar_goes_when_the_phase_is_over(terminal):
    log, text = terminal
    progress = Progress(log)
    progress.progress("m", 1, 1)
    progress.phase("fetch", 0.1)
    assert not text().endswith("m")


def test_what_was_found_is_said_with_its_size(terminal):
    log, text = terminal
    reference = Reference.parse(f"oci:{KITS / 'iris-bare'}:v1")
    blobs = KITS / "iris-bare" / "blobs" / "sha256"
    raw = (blobs / "83f09597ebd7b562386310c5ad2ccf0e2dffe0b899a1a84fee2ec04d377a5efc").read_bytes()
    Progress(log).resolved(reference, Manifest.parse(raw, expected=None))
    assert re.fullmatch(r"found oci:.+/iris-bare:v1, 1 layer, \d\.\d kB\n", text())


def test_numbers_go_to_whoever_asked_and_cancelling_is_seen():
    log = Log(2, style="json")
    seen: list[object] = []
    progress = Progress(
        log, on_bytes=lambda done, total: seen.append((done, total)), on_phase=lambda name, seconds: seen.append(name)
    )
    progress.progress("m", 1, 2)
    progress.phase("fetch", 0.1)
    assert seen == [(1, 2), "fetch"]
    assert not progress.cancelled()
    progress.cancel()
    assert progress.cancelled()
