"""Pulls from Debian's docker-registry through a proxy that cuts, stalls, drips, refuses and alters its answers."""

from __future__ import annotations

import os
import random
import re
import shutil
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from runtime.errors import Cancelled, DigestMismatch, RegistryUnavailable
from runtime.exits import exit_code
from runtime.kit import bring, lane, threads
from runtime.kit.cache import store
from runtime.kit.registry import client, download, retry
from tests.campaign import Campaign
from tests.faulty_proxy import FaultyProxy
from tests.kit.made import made_kit
from tests.kit.pulling import Recorder, leftovers, pulled, tree, unverified
from tests.lying_registry import Lie, cut, flipped, refusal, slow, stalled
from tests.registries import Registry

FILES = {"m.onnx": os.urandom(3_000_000), "labels.txt": b"a\nb\n"}
SMALL = {"m.onnx": os.urandom(200_000), "part": os.urandom(3000)}
Proxied = Callable[[dict[str, bytes]], FaultyProxy]


@pytest.fixture
def proxied(registry: Registry, tmp_path: Path) -> Iterator[Proxied]:
    """Returns what pushes a kit of these files as `kits/m:v1`, and starts a proxy in front of its registry."""
    with FaultyProxy(registry.host) as proxy:

        def push(files: dict[str, bytes]) -> FaultyProxy:
            registry.push(made_kit(tmp_path / "layout", files), "v1", "kits/m")
            return proxy

        yield push


@pytest.fixture(autouse=True)
def short_times(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retry, "_FIRST_PAUSE_SECONDS", 0.02)
    monkeypatch.setattr(client, "STALL_SECONDS", 1.0)
    monkeypatch.setattr(download, "WINDOW_SECONDS", 0.3)


def model_path(proxy: FaultyProxy, cache: Path) -> str:
    """Pulls once, and returns the pattern of the address of the largest blob."""
    pulled(f"{proxy.host}/kits/m:v1", cache)
    largest = max((cache / "blobs/sha256").iterdir(), key=lambda path: path.stat().st_size)
    proxy.requests.clear()
    return f"/blobs/sha256:{largest.name}"


@pytest.mark.parametrize(
    ("lie", "second"),
    [
        pytest.param(cut(1_500_000), r"bytes=1500000-", id="18 cut"),
        pytest.param(stalled(1_500_000), r"bytes=1500000-", id="20 stalled", marks=pytest.mark.slow),
        pytest.param(slow(5, 0.01), r"bytes=\d+-", id="21 dripping", marks=pytest.mark.slow),
        pytest.param(refusal(503, Retry_After="0"), "", id="22 refused"),
        pytest.param(flipped(1_500_000), "", id="36 flipped"),
    ],
)
def test_18_20_21_22_36_a_fault_on_the_way_costs_one_more_request(
    proxied: Proxied, tmp_path: Path, lie: Lie, second: str
) -> None:
    proxy = proxied(FILES)
    path = model_path(proxy, tmp_path / "before")
    proxy.lie(path, lie, times=1)
    assert tree(pulled(f"{proxy.host}/kits/m:v1", tmp_path / "cache", min_rate=10_000).root) == FILES
    first, again = proxy.seen(path)
    assert "range" not in first.headers
    assert re.fullmatch(second, again.headers.get("range", ""))
    assert unverified(tmp_path / "cache") == leftovers(tmp_path / "cache") == []


@pytest.mark.parametrize(
    ("lie", "kind", "line", "code"),
    [
        (refusal(503), RegistryUnavailable, r"503.*--retry-budget 0\.1\); is the host right", 69),
        (flipped(1_500_000), DigestMismatch, r"sha256:[0-9a-f]{64}.*sha256:[0-9a-f]{64}", 65),
    ],
    ids=["23 refused", "36 flipped"],
)
def test_23_36_a_fault_that_stays_ends_with_its_exit_code(
    proxied: Proxied, tmp_path: Path, lie: Lie, kind: type[Exception], line: str, code: int
) -> None:
    proxy = proxied(FILES)
    proxy.lie(model_path(proxy, tmp_path / "before"), lie)
    with pytest.raises(kind, match=line) as failure:
        pulled(f"{proxy.host}/kits/m:v1", tmp_path / "cache", retry_budget_seconds=0.1)
    assert exit_code(failure.value) == code
    assert unverified(tmp_path / "cache") == []


@pytest.mark.slow
def test_18_19_cuts_at_any_byte_and_pulls_that_end_at_any_byte_leave_what_the_next_one_completes(
    proxied: Proxied, tmp_path: Path, memory: Path, monkeypatch: pytest.MonkeyPatch, campaign: Campaign
) -> None:
    monkeypatch.setattr(store, "RESUMED_BYTES", 1)
    monkeypatch.setattr("runtime.kit.source.RESUMED_BYTES", 1)
    for module in (bring, lane):
        monkeypatch.setattr(module, "SMALL_BYTES", 1)
    monkeypatch.setattr(retry, "_FIRST_PAUSE_SECONDS", 0.001)
    monkeypatch.setattr(threads, "_LOOK_SECONDS", 0.0005)  # so that a pull can end at any byte
    proxy, chance = proxied(SMALL), random.Random(20261127)
    for number in range(campaign(10, 300, 10_000)):
        cache = memory / str(number)
        for _ in range(chance.randrange(4)):
            proxy.lie("/blobs/", cut(chance.randrange(200_000), reset=chance.random() < 0.5), times=1)
        end = chance.randrange(200_000)
        with suppress(Cancelled):
            watch = Recorder(stop=lambda: bool(watch.marks) and watch.marks[-1][1] > end)  # noqa: B023 - called here
            pulled(f"{proxy.host}/kits/m:v1", cache, watch, keep_blobs=chance.random() < 0.7)
        assert unverified(cache) == []
        for path in (cache / "kits").glob("[0-9a-f]*"):
            assert tree(path) == SMALL
        assert tree(pulled(f"{proxy.host}/kits/m:v1", cache).root) == SMALL
        assert unverified(cache) == leftovers(cache) == []
        shutil.rmtree(cache)
