from __future__ import annotations

import platform
import re
import subprocess
import sys
import time

import pytest
from prometheus_client.parser import text_string_to_metric_families

from runtime.link.metrics import BUCKETS, FAMILIES, OUTCOME_RUNS, OUTCOMES, PHASES, WIDTH, Meter, Totals
from runtime.serving.protocols import CODECS
from runtime.serving.scrape import render
from runtime.version import __version__
from tests.places import ROOT
from tests.serving.support import DIGEST, PROVENANCE, Slots

PROTOCOLS = [codec.name for codec in CODECS]
DOC = ROOT / "docs" / "metrics.md"


def samples(text: bytes) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    families = text_string_to_metric_families(text.decode())
    return {(s.name, tuple(sorted(s.labels.items()))): s.value for family in families for s in family.samples}


def rendered(slots: Slots) -> bytes:
    return render(slots, [PROVENANCE], PROTOCOLS)


def value(text: bytes, name: str, **labels: str) -> float:
    return samples(text)[(name, tuple(sorted(labels.items())))]


@pytest.mark.slow
def test_slots_of_all_processes_are_summed_and_gauges_of_loading_take_the_slowest():
    slots = Slots(count=3, ready=2)
    supervisor, first, second = (Meter(slots.slot(index)) for index in range(3))
    supervisor.pull_took("fetch", 1.5)
    supervisor.add("runtime_verified_bytes_total", 1000)
    supervisor.add("runtime_worker_restarts_total", 1)
    for meter, seconds in ((first, 0.0002), (second, 0.3)):
        meter.set("runtime_model_load_seconds", seconds)
        meter.requests(0).begun()
        meter.requests(0).finished(OUTCOME_RUNS["ok"], seconds, 3, 100, 50)
    second.requests(0).begun()
    text = rendered(slots)
    ok = {"model": "iris", "protocol": "v2_json", "outcome": "ok"}
    assert value(text, "runtime_request_duration_seconds_count", **ok) == 2
    assert value(text, "runtime_request_duration_seconds_sum", **ok) == pytest.approx(0.3002)
    assert value(text, "runtime_request_duration_seconds_bucket", le="0.00025", **ok) == 1
    assert value(text, "runtime_request_duration_seconds_bucket", le="0.5", **ok) == 2
    assert value(text, "runtime_rows_total", model="iris") == 6
    assert value(text, "runtime_request_bytes_total", model="iris", protocol="v2_json") == 200
    assert value(text, "runtime_response_bytes_total", model="iris", protocol="v2_json") == 100
    assert value(text, "runtime_requests_in_flight", model="iris") == 1
    assert value(text, "runtime_model_load_seconds", model="iris") == 0.3
    assert value(text, "runtime_pull_seconds", phase="fetch") == 1.5
    assert value(text, "runtime_workers_ready") == 2
    assert value(text, "runtime_worker_restarts_total") == 1


def test_totals_are_those_of_all_processes_and_protocols():
    slots, before = Slots(count=3), time.time()
    first, second = (Meter(slots.slot(index)) for index in (1, 2))
    for requests in (first.requests(0), second.requests(0), second.requests(7)):
        requests.begun()
        requests.finished(OUTCOME_RUNS["ok"], 0.5, 3, 100, 50, 0.125, 0.25)
    for outcome in ("invalid", "deadline"):
        second.requests(1).begun()
        second.requests(1).finished(OUTCOME_RUNS[outcome], 0.25, 0, 100, 50)
    totals = Totals.of(map(slots.slot, range(3)))
    assert totals[:7] == (9, 3, 1.5, 2, 0.5, 0.375, 0.75)
    assert before <= totals.last_answer <= time.time()
    text = rendered(slots)
    assert value(text, "runtime_queue_seconds_total", model="iris") == 0.375
    assert value(text, "runtime_compute_seconds_total", model="iris") == 0.75
    assert value(text, "runtime_last_answer_timestamp_seconds", model="iris") == pytest.approx(totals.last_answer)


@pytest.mark.parametrize("bound", BUCKETS)
def test_an_observation_at_a_bound_belongs_to_its_bucket(bound: float):
    slots = Slots(1)
    meter = Meter(slots.slot(0)).requests(0)
    meter.begun()
    meter.finished(OUTCOME_RUNS["deadline"], bound, 0, 0, 0)
    labels = {"model": "iris", "protocol": "v2_json", "outcome": "deadline"}
    assert value(rendered(slots), "runtime_request_duration_seconds_bucket", le=str(bound), **labels) == 1


def test_counters_survive_a_replaced_worker_and_what_it_had_in_flight_does_not():
    slots = Slots(2)
    dead = Meter(slots.slot(1)).requests(0)
    dead.begun()
    dead.finished(OUTCOME_RUNS["ok"], 0.001, 5, 1, 1)
    dead.begun()
    Meter(slots.slot(1))
    text = rendered(slots)
    assert value(text, "runtime_rows_total", model="iris") == 5
    assert value(text, "runtime_requests_in_flight", model="iris") == 0


def test_the_kit_is_named_by_an_info_metric():
    facts = {
        "model": "iris",
        "reference": PROVENANCE.reference,
        "digest": DIGEST,
        "framework": "onnx",
        "adapter": "onnx",
    }
    for verified in ("true", "receipt", "false"):
        text = render(Slots(), [PROVENANCE._replace(verified=verified)], PROTOCOLS)
        assert value(text, "runtime_kit_info", verified=verified, **facts) == 1


def test_the_limits_of_all_workers_and_the_build_are_there_before_a_model_is():
    slots = Slots(count=3)
    for index in (1, 2):
        Meter(slots.slot(index)).set("runtime_in_flight_limit", 256)
    text = render(slots, [], PROTOCOLS)
    assert value(text, "runtime_in_flight_limit") == 512
    assert value(text, "runtime_build_info", version=__version__, python=platform.python_version()) == 1


def test_before_a_model_is_known_only_the_metrics_of_the_process_appear():
    names = {name for name, _ in samples(render(Slots(), [], PROTOCOLS))}
    assert "runtime_verified_bytes_total" in names
    assert not any(name.startswith(("runtime_request", "runtime_kit")) for name in names)


def test_the_number_of_series_is_fixed():
    assert (
        len(samples(rendered(Slots())))
        == len(PROTOCOLS) * (len(OUTCOMES) * (len(BUCKETS) + 3) + 2) + 3 + len(PHASES) + 11 + 3 + len(BUCKETS) + 3
    )


def test_promtool_finds_nothing_to_say():
    text = rendered(Slots())
    checked = subprocess.run(["promtool", "check", "metrics"], input=text, capture_output=True, timeout=60, check=False)
    assert (checked.returncode, checked.stdout + checked.stderr) == (0, b"")


def test_the_page_lists_the_metrics_as_they_are():
    rows = re.findall(r"^\| `(runtime_\w+)` \| (\w+) \| (.*?) \| (.*?) \| (.*?) \|$", DOC.read_text(), re.MULTILINE)
    table = [
        (f.name, f.kind, ", ".join(f"`{label}`" for label in f.labels) or "none", f.unit, f.help) for f in FAMILIES
    ]
    assert rows == table


def test_a_slot_that_is_too_small_is_refused():
    with pytest.raises(ValueError, match=f"a slot is {WIDTH} doubles, got 3 of format 'd'"):
        Meter(memoryview(bytearray(24)).cast("d"))


def test_the_supervisor_can_import_metrics_without_numpy_or_the_server():
    program = (
        "import sys, runtime.link.metrics; "
        "print([m for m in ('numpy', 'orjson', 'uvicorn', 'starlette', 'prometheus_client', 'asyncio') if m in sys.modules])"
    )
    shown = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=60)
    assert shown.stdout.strip() == "[]"
