from __future__ import annotations

import os
import platform
import re
import resource
import subprocess
import sys
import time
from functools import cache

import psutil
import pytest
from prometheus_client.parser import text_string_to_metric_families

from runtime.link.limits import Limits
from runtime.link.meter import Meter
from runtime.link.metrics import BUCKETS, FAMILIES, OUTCOMES, PHASES, PROTOCOL_NAMES, REASONS, STAGES, WIDTH, reason_of
from runtime.link.totals import Totals
from runtime.link.usage import usage
from runtime.serving.accounts import Account
from runtime.serving.codec_table import CODECS
from runtime.serving.http.head import Refused
from runtime.serving.protocol.grpc.codec import GRPC
from runtime.serving.scrape import render
from runtime.serving.statuses import STATUSES
from runtime.version import __version__
from tests.places import ROOT
from tests.serving.support import DIGEST, PROVENANCE, Slots

PROTOCOLS = [codec.name for codec in CODECS]
DOC = ROOT / "docs" / "metrics.md"


@cache
def samples(text: bytes) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    families = text_string_to_metric_families(text.decode())
    return {(s.name, tuple(sorted(s.labels.items()))): s.value for family in families for s in family.samples}


def rendered(slots: Slots) -> bytes:
    return render(slots, [PROVENANCE], PROTOCOLS)


def answer(meter: Meter, seconds: float, rows: int, *, protocol: int = 0, queued: float = 0.0) -> None:
    account = Account(meter, protocol)
    account.answered(seconds, queued, seconds / 8, seconds / 4, seconds / 16, rows, 100, 50)
    account.settle()
    if queued:
        meter.ran(rows, seconds / 4)


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
        answer(meter, seconds, 3)
    first.in_flight(2, 6, 200)
    second.in_flight(1, 3, 100)
    second.running(1)
    text = rendered(slots)
    ok = {"model": "iris", "protocol": "v2_json", "outcome": "ok"}
    assert value(text, "runtime_request_duration_seconds_count", **ok) == 2
    assert value(text, "runtime_request_duration_seconds_sum", **ok) == pytest.approx(0.3002)
    assert value(text, "runtime_request_duration_seconds_bucket", le="0.00025", **ok) == 1
    assert value(text, "runtime_request_duration_seconds_bucket", le="0.5", **ok) == 2
    assert value(text, "runtime_rows_total", model="iris") == 6
    assert value(text, "runtime_request_bytes_total", model="iris", protocol="v2_json") == 200
    assert value(text, "runtime_response_bytes_total", model="iris", protocol="v2_json") == 100
    assert value(text, "runtime_requests_in_flight", model="iris") == 3
    assert value(text, "runtime_requests_running", model="iris") == 1
    assert value(text, "runtime_requests_waiting", model="iris") == 2
    assert value(text, "runtime_in_flight_rows", model="iris") == 9
    assert value(text, "runtime_in_flight_bytes", model="iris") == 300
    assert value(text, "runtime_model_load_seconds", model="iris") == 0.3
    assert value(text, "runtime_pull_seconds", phase="fetch") == 1.5
    assert value(text, "runtime_workers_ready") == 2
    assert value(text, "runtime_worker_restarts_total") == 1


def test_totals_are_those_of_all_processes_and_protocols():
    slots, before = Slots(count=3), time.time()
    first, second = (Meter(slots.slot(index)) for index in (1, 2))
    for meter, protocol, queued in ((first, 0, 0.125), (second, 0, 0.0), (second, 7, 0.25)):
        answer(meter, 0.5, 3, protocol=protocol, queued=queued)
    for outcome in ("invalid", "deadline"):
        Account(second, 1).failed(outcome, 0.25, 100, 50)
    totals = Totals.of(map(slots.slot, range(3)))
    assert totals[:5] == (9, 3, 1.5, 2, 0.5)
    assert totals.stages == {"queue": 0.375, "decode": 0.1875, "compute": 0.375, "encode": 0.09375}
    assert totals.batches == [(3, 3, 0.375)]
    assert before <= totals.last_answer <= time.time()
    text = rendered(slots)
    for stage, seconds in totals.stages.items():
        assert value(text, "runtime_request_stage_seconds_sum", model="iris", stage=stage) == seconds
    assert value(text, "runtime_request_stage_seconds_bucket", model="iris", stage="queue", le="0.0001") == 1
    assert value(text, "runtime_batch_rows_bucket", model="iris", le="4.0") == 3
    assert value(text, "runtime_batch_rows_sum", model="iris") == 9
    assert value(text, "runtime_last_answer_timestamp_seconds", model="iris") == pytest.approx(totals.last_answer)


@pytest.mark.parametrize("bound", BUCKETS)
def test_an_observation_at_a_bound_belongs_to_its_bucket(bound: float):
    slots = Slots(1)
    meter = Meter(slots.slot(0))
    answer(meter, bound, 1)
    Account(meter, 0).failed("deadline", bound, 0, 0)
    text, labels = rendered(slots), {"model": "iris", "protocol": "v2_json"}
    for outcome in ("ok", "deadline"):
        name = "runtime_request_duration_seconds_bucket"
        assert value(text, name, le=str(bound), outcome=outcome, **labels) == 1


@pytest.mark.parametrize(
    ("rows", "size"), [(0, 1), (1, 1), (63, 63), (64, 64), (65, 128), (128, 128), (129, 256), (100_000, 65_536)]
)
def test_batches_are_counted_by_their_size(rows: int, size: int):
    slots = Slots(1)
    meter = Meter(slots.slot(0))
    answer(meter, 1.0, rows)
    answer(meter, 1.0, rows, queued=0.5)
    assert Totals.of([slots.slot(0)]).batches == [(size, 2, 0.5)]


def test_errors_are_counted_by_status_and_reason():
    slots = Slots(2)
    for status, reason in REASONS:
        Meter(slots.slot(1)).error(reason)
        assert value(rendered(slots), "runtime_errors_total", status=status, reason=reason) == 1
    assert len({reason for _, reason in REASONS}) == len(REASONS)
    assert {(str(row.http), row.reason) for row in STATUSES} < set(REASONS)


def test_every_refusal_of_a_connection_has_a_reason():
    sources = "".join(path.read_text() for path in (ROOT / "runtime/serving/http").glob("*.py"))
    statuses = {int(status) for status in re.findall(r"(?:Refused\(|_need\([^,]+, )(\d{3})", sources)}
    assert len(statuses) > 8
    assert {reason_of(status) for status in statuses - {400}} & {"invalid_request"} == set()
    assert (reason_of(400), reason_of(200), Refused(408, "").status) == ("invalid_request", "invalid_request", 408)


def test_every_process_says_what_it_uses():
    slots = Slots(3)
    assert "process_open_fds{" not in rendered(slots).decode()
    for index in (0, 2):
        Meter(slots.slot(index)).uses(usage())
    text = rendered(slots)
    for process in ("supervisor", "worker-2"):
        assert 0 < value(text, "process_cpu_seconds_total", process=process) <= sum(os.times()[:2])
        assert value(text, "process_resident_memory_bytes", process=process) > 2**20
        assert abs(value(text, "process_open_fds", process=process) - psutil.Process().num_fds()) < 3
        assert value(text, "process_max_fds", process=process) > 100
        assert abs(value(text, "process_start_time_seconds", process=process) - psutil.Process().create_time()) < 2
    assert b'process="worker-1"' not in text


def test_counters_survive_a_replaced_worker_and_what_it_had_in_flight_does_not():
    slots = Slots(2)
    dead = Meter(slots.slot(1))
    answer(dead, 0.001, 5)
    dead.in_flight(2, 10, 200)
    dead.running(1)
    Meter(slots.slot(1))
    text = rendered(slots)
    assert value(text, "runtime_rows_total", model="iris") == 5
    for gauge in ("runtime_requests_in_flight", "runtime_requests_running", "runtime_in_flight_rows"):
        assert value(text, gauge, model="iris") == 0


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
        Meter(slots.slot(index)).limits(Limits())
    text = render(slots, [], PROTOCOLS)
    assert value(text, "runtime_in_flight_limit") == 2 * Limits().in_flight
    assert value(text, "runtime_in_flight_rows_limit") == 2 * Limits().in_flight_rows
    assert value(text, "runtime_in_flight_bytes_limit") == 2 * Limits().in_flight_bytes
    assert value(text, "runtime_build_info", version=__version__, python=platform.python_version()) == 1


def test_before_a_model_is_known_only_the_metrics_of_the_process_appear():
    names = {name for name, _ in samples(render(Slots(), [], PROTOCOLS))}
    assert "runtime_verified_bytes_total" in names
    assert not any(name.startswith(("runtime_request", "runtime_kit")) for name in names)


def test_the_number_of_series_is_fixed():
    histogram = len(BUCKETS) + 3
    per_protocol, others = len(OUTCOMES) * histogram + 2, 8 + 14 + 2  # of the model, of the server, infos
    histograms = (len(STAGES) + 1) * histogram
    assert len(samples(rendered(Slots()))) == (
        len(PROTOCOLS) * per_protocol + histograms + len(PHASES) + len(REASONS) + others
    )


def test_promtool_finds_nothing_to_say():
    text = rendered(Slots())
    checked = subprocess.run(["promtool", "check", "metrics"], input=text, capture_output=True, timeout=60, check=False)
    assert (checked.returncode, checked.stdout + checked.stderr) == (0, b"")


def test_the_page_lists_the_metrics_as_they_are():
    rows = re.findall(
        r"^\| `((?:runtime|process)_\w+)` \| (\w+) \| (.*?) \| (.*?) \| (.*?) \|$", DOC.read_text(), re.MULTILINE
    )
    table = [
        (f.name, f.kind, ", ".join(f"`{label}`" for label in f.labels) or "none", f.unit, f.help) for f in FAMILIES
    ]
    assert rows == table


def test_a_slot_that_is_too_small_is_refused():
    with pytest.raises(ValueError, match=f"a slot is {WIDTH} doubles, got 3 of format 'd'"):
        Meter(memoryview(bytearray(24)).cast("d"))


def test_the_supervisor_can_import_metrics_without_numpy_or_the_server():
    program = (
        "import sys, runtime.link.meter, runtime.link.totals; "
        "print([m for m in ('numpy', 'orjson', 'uvicorn', 'starlette', 'prometheus_client', 'asyncio') if m in sys.modules])"
    )
    shown = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=60)
    assert shown.stdout.strip() == "[]"


def test_protocols_are_named_alike_where_only_their_numbers_are_known():
    assert (*PROTOCOLS, GRPC.name) == PROTOCOL_NAMES


def test_a_process_without_a_descriptor_left_says_nothing_new():
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (0, hard))
        found = usage()
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert found == {}
    assert usage()["process_open_fds"] > 0
