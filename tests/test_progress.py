import json
import re

import pytest

from runtime.kit.format.digest import Digest
from runtime.kit.format.kitfile import Entry
from runtime.kit.format.manifest import Descriptor, Layer, Manifest
from runtime.kit.format.placing import Placed
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


def test_an_event_every_five_seconds_says_how_far_it_is_and_how_long_it_takes_also_after_a_resume(capfd):
    now = [0.0]
    log = Log(2, style="json")
    progress = Progress(log, clock=lambda: now[0])
    progress.progress("", 0, 1000)
    progress.progress("m", 500, 1000)  # from an earlier pull
    for now[0], done in ((1.0, 510), (4.9, 549), (5.5, 555), (6.0, 560), (10.6, 606)):
        progress.progress("m", done, 1000)
    log.close()
    first, second = map(json.loads, capfd.readouterr().err.splitlines())
    assert (first["event"], first["layer"], first["done_bytes"], first["total_bytes"]) == (
        "pull.progressed",
        "m",
        555,
        1000,
    )
    assert (first["bytes_per_second"], first["left_seconds"]) == (10, 44)
    assert (second["bytes_per_second"], second["left_seconds"]) == (10, 39)


@pytest.mark.parametrize(
    ("style", "shown"), [("plain", "50%: 1 B of 2 B, 0 B/s, m"), ("json", '"event":"pull.progressed"')]
)
def test_events_can_be_had_in_either_form_and_not_at_all(capfd, style, shown):
    for each in (style, "none", "bar"):
        clock = iter((0.0, 5.0))
        progress = Progress(Log(2, style="text"), style=each, clock=clock.__next__)
        progress.progress("m", 1, 2)
        progress.phase("fetch", 5.0)
    (line,) = capfd.readouterr().err.splitlines()
    assert shown in line


def test_what_is_not_fetched_is_said_with_its_reason(terminal):
    log, text = terminal
    blob = Descriptor("x", Digest.of(b""), 5, {})
    layers = [
        Placed(Entry("d"), section, Layer(blob, section, "tar", "", False)) for section in ("docs", "dataset", "docs")
    ]
    Progress(log).left_out(layers)
    assert text() == "left out 3 of its layers, 15 B: serving needs no dataset or docs\n"
