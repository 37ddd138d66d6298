"""`runtime verify`, and samples on the way to ready."""

import json
import re

import pytest

from tests.adapters.kits import unpack
from tests.e2e.server import Server, run
from tests.expected import assert_right, cases
from tests.kit.made import made_kit
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


# frameworks that say less about themselves than ONNX


def kit_with_samples(kit, tmp_path, *, change=lambda data: data, **serving):
    """The golden kit's model with its right answers as samples, and other words about serving."""
    golden = unpack(kit, tmp_path / kit)
    right = [{"request": {**case["request"], "id": "s"}, "response": {"outputs": case["outputs"]}, "rtol": case["rtol"],
              "atol": case["atol"]} for case in cases(kit)]  # fmt: skip
    model = (golden.files.root / golden.files.path).read_bytes()
    files = {golden.files.path: model, "samples.json": change(json.dumps({"samples": right}).encode())}
    parameters = {"serving": {"samples": "samples.json", **serving}}
    return made_kit(tmp_path / "kit", files, framework=golden.model.get("framework"), parameters=parameters)


def test_samples_of_other_frameworks_are_replayed(tmp_path):
    layout = kit_with_samples("wine-sklearn", tmp_path, outputs=["predict", "predict_proba"])
    done = run("verify", f"oci:{layout}:v1", "--json", "--cache-dir", str(tmp_path / "cache"))
    report = json.loads(done.stdout)
    assert (done.returncode, report["passed"], report["samples"]) == (0, True, len(cases("wine-sklearn"))), report


def test_samples_of_other_frameworks_that_differ_are_shown(tmp_path):
    layout = kit_with_samples(
        "titanic-sklearn", tmp_path, change=lambda data: data.replace(b'"survived"', b'"sank"', 1)
    )
    done = run("verify", f"oci:{layout}:v1", "--cache-dir", str(tmp_path / "cache"))
    assert done.returncode == 76
    assert "the sample says 'sank'" in done.stdout


def test_a_signature_that_no_file_tells_is_that_of_the_samples(tmp_path):
    layout = kit_with_samples("cnn-torchscript", tmp_path, labels=["a", "b", "c"])
    with Server(f"oci:{layout}:v1", "--drain-delay", "0", cache=tmp_path / "cache") as server:
        with server.ready() as client:
            metadata = client.get("/v2/models/kit").json()
            answer = client.post("/v2/models/kit/infer", json=cases("cnn-torchscript")[0]["request"])
            wrong = client.post(
                "/v2/models/kit/infer",
                json={"inputs": [{"name": "image", "datatype": "FP32", "shape": [1, 4], "data": [1, 2, 3, 4]}]},
            )
        assert server.stop() == 0
    assert metadata["inputs"] == [{"name": "image", "datatype": "FP32", "shape": [-1, 3, 32, 32]}]
    assert metadata["properties"]["labels"] == '["a","b","c"]'
    assert_right(answer.json(), cases("cnn-torchscript")[0])
    assert (wrong.status_code, "[-1,3,32,32]" in wrong.text.replace(" ", "")) == (400, True), wrong.text
