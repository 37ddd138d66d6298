"""`runtime verify`, and samples on the way to ready."""

import json
import re

import pytest

from tests.commands.forked import run
from tests.e2e.server import Server
from tests.places import KITS

pytestmark = pytest.mark.slow


def verify(kit, tmp_path, *options):
    return run("verify", f"oci:{KITS / kit}:v1", "--cache-dir", str(tmp_path), *options)


def test_a_kit_that_answers_its_samples_passes(tmp_path):
    done = verify("iris-onnx", tmp_path)
    assert done.returncode == 0
    assert done.stdout.startswith("iris-onnx: passes\n")
    proof = r"  2 of 2 samples answered as their author saw; the onnx adapter loaded it in \d+(\.\d+)? s\n"
    assert re.search(proof, done.stdout)


def test_a_kit_that_answers_otherwise_fails_with_the_values(tmp_path):
    done = verify("iris-broken-samples", tmp_path, "--json")
    report = json.loads(done.stdout)
    assert (done.returncode, report["passed"]) == (76, False)
    assert "label[0] is 0, the sample says 2" in report["reason"]


def test_a_kit_without_samples_says_so(tmp_path):
    done = verify("iris-bare", tmp_path)
    assert done.returncode == 0
    assert "it has no samples" in done.stdout


def test_what_cannot_be_loaded_fails_with_its_own_code(tmp_path):
    done = verify("corrupt-onnx", tmp_path)
    assert done.returncode == 70
    assert done.stdout.startswith("corrupt-onnx: FAILS\n")


def test_a_server_whose_samples_differ_is_never_ready(tmp_path):
    with Server(f"oci:{KITS / 'iris-broken-samples'}:v1", cache=tmp_path) as server:
        code, reason = server.failure()
    assert code == 76
    assert "label[0] is 0, the sample says 2" in reason


@pytest.fixture(scope="module")
def served(tmp_path_factory):
    """A server whose samples were replayed."""
    cache = tmp_path_factory.mktemp("cache")
    with Server(f"oci:{KITS / 'iris-onnx'}:v1", "--drain-delay", "0", cache=cache) as server:
        with server.ready() as client:
            yield server, client
        assert server.stop() == 0
        assert not [event for event in server.events if event["event"] == "request.answered"]


def test_samples_are_in_no_account(served):
    scrape = served[1].get("/metrics").text
    assert 'runtime_request_duration_seconds_count{model="iris-onnx",outcome="ok",protocol="v2_json"} 0.0' in scrape


def test_a_worker_is_confined_and_says_so(served):
    server, client = served
    confined = client.get("/v2/models/iris-onnx").json()["properties"]["sandbox"].startswith("landlock-")
    assert f"runtime_sandboxed {float(confined)}" in client.get("/metrics").text
    assert confined or server.event("worker.not_sandboxed")


def test_off_is_off(tmp_path):
    with Server(f"oci:{KITS / 'iris-onnx'}:v1", "--drain-delay", "0", "--sandbox", "off", cache=tmp_path) as server:
        with server.ready() as client:
            assert client.get("/v2/models/iris-onnx").json()["properties"]["sandbox"] == "off"
        assert server.stop() == 0
