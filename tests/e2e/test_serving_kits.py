"""Every golden ONNX kit, from a registry: served, and right. Most without a process of their own.

That every tag of a kit is the same tree, from its layout too, tests/kit/test_pull.py shows.
"""

import json
import subprocess

import httpx
import pytest
from starlette.testclient import TestClient

import runtime
from adapters.base import AdapterError
from runtime.errors import Failure
from runtime.exits import exit_code
from tests.e2e.server import Server
from tests.expected import ask_as_documented, ask_both_ways, assert_right, cases
from tests.places import KITS

IN_PROCESS = [
    ("iris-onnx", "era-0.2"),
    ("base", "1.0"),
    *(
        (kit, "v1")
        for kit in ("iris-onnx", "iris-bare", "iris-liar", "dtypes", "everything", "init-onnx", "init-two", "base")
    ),
]

pytestmark = pytest.mark.slow


def answers(client: httpx.Client, kit: str) -> dict[str, str]:
    """All cases of the kit are answered rightly. Returns what is said of the model."""
    for case in cases(kit):
        ask_both_ways(client, f"/v2/models/{kit}/infer", case)
    ask_as_documented(client, kit)
    metadata = client.get(f"/v2/models/{kit}")
    facts = metadata.json()["properties"]
    assert metadata.headers["modelkit-digest"] == facts["digest"]
    about = [facts.get(name) for name in ("package", "description", "authors", "license")]
    if kit == "iris-onnx":
        assert about == ["iris 1.0.0", "Which iris is it?", "Kit corpus", "Apache-2.0"]
    limits = [facts[name] for name in ("max_body_bytes", "max_in_flight", "inference_timeout")]
    assert limits == ["67108864", "1024", "30.0"]
    return facts


def test_a_golden_kit_is_served_right(registry, tmp_path):
    """A server answers rightly, also from files beside the model, says what it serves, prints nothing but events, and stops."""
    kit = "digits-external"
    with Server(registry.push(KITS / kit, "v1"), "--drain-delay", "0", cache=tmp_path) as server:
        with server.ready() as client:
            assert answers(client, kit)["sandbox"] == server.event("worker.ready")["sandbox"]
        assert server.stop() == 0
        assert server.other_lines == []


@pytest.mark.parametrize(("kit", "tag"), IN_PROCESS)
def test_a_golden_kit_answers_right_in_this_process(kit, tag, registry, tmp_path):
    tmp_path.chmod(0o700)
    with TestClient(runtime.app(registry.push(KITS / kit, tag), cache_dir=tmp_path)) as client:
        answers(client, kit)


REFUSED = [
    ("corrupt-onnx", 70, ["m.onnx is not a whole ONNX model"]),
    ("iris-broken-samples", 76, ["label[0] is 0, the sample says 2"]),
    ("dataset-only", 65, ["no model", "dataset"]),
    ("empty", 65, ["no model"]),
    ("two-weights", 65, ["a.onnx", "b.onnx"]),
    ("unknown-framework", 78, ["Mistral-7B", "onnx"]),
]


def test_a_kit_that_cannot_be_served_ends_in_one_line(registry, tmp_path):
    kit, code, words = REFUSED[0]
    with Server(registry.push(KITS / kit, "v1"), cache=tmp_path) as server:
        seen, reason = server.failure()
    in_one_line(seen, reason, code, words)


@pytest.mark.parametrize(("kit", "code", "words"), REFUSED)
def test_a_kit_that_cannot_be_served_is_not_loaded(kit, code, words, tmp_path):
    is_not_loaded(f"oci:{KITS / kit}:v1", code, words, tmp_path)


def in_one_line(seen, reason, code, words):
    assert seen == code, reason
    assert [word for word in words if word not in reason] == []
    assert "\n" not in reason


def is_not_loaded(reference, code, words, cache):
    """What a server says too (REFUSED), without one."""
    cache.mkdir(0o700, exist_ok=True)
    cache.chmod(0o700)
    with pytest.raises((Failure, AdapterError)) as caught:
        runtime.load(reference, cache_dir=cache)
    in_one_line(exit_code(caught.value), str(caught.value), code, words)


def with_sample(folder, name, shape, *, framework="onnx", batching=None, **more):
    """A folder with a model that has to answer one sample; `more` is of the sample's tensor."""
    request = {"inputs": [{"name": name, "datatype": "FP32", "shape": shape, "data": [0.5] * 4, **more}]}
    (folder / "iris.onnx").write_bytes(_model_bytes())
    (folder / "samples.json").write_text(json.dumps({"samples": [{"request": request, "response": {"outputs": []}}]}))
    serving = {"samples": "samples.json", **({"batching": batching} if batching else {})}
    model = {
        "path": "iris.onnx",
        "framework": framework,
        "parts": [{"path": "samples.json"}],
        "parameters": {"serving": serving},
    }
    (folder / "Kitfile").write_text(json.dumps({"package": {"name": "iris"}, "model": model}))
    return str(folder)


@pytest.fixture(scope="module")
def flower(tmp_path_factory):
    """A server of a plain folder under the operator's name."""
    folder = tmp_path_factory.mktemp("iris")
    with_sample(folder, "input_0", [1, 4], framework="lightgbm:4.0", batching={"max_size": 8})
    with Server(f"flower={folder}", "--drain-delay", "0", cache=folder / "cache") as server:
        server.event("server.ready")
        yield server
        assert server.stop() == 0


@pytest.fixture(scope="module")
def client(flower):
    with flower.ready() as client:
        yield client


def test_a_plain_folder_is_served_as_unverified(flower, client):
    assert flower.event("kit.verified")["verified"] == "false"
    assert client.get("/v2/models/flower").json()["properties"]["verified"] == "false"
    for case in cases("iris-onnx"):
        assert_right(client.post("/v2/models/flower/infer", json=case["request"]).json(), case)


def test_a_file_of_another_kind_than_the_kitfile_says_wins_with_a_warning(flower):
    assert "lightgbm:4.0" in flower.event("model.odd")["reason"]


def test_samples_prove_answers_and_say_nothing_of_shapes_or_names(client):
    (seen,) = client.get("/v2/models/flower").json()["inputs"]
    assert seen == {"name": "X", "datatype": "FP32", "shape": [-1, 4]}


def test_batching_that_a_kit_asks_for_is_tried_and_said(flower):
    event = flower.event("batching.on")
    assert (event["model"], event["rows"]) == ("flower", 8)
    assert 0 <= event["difference"] <= 1e-5


def test_the_served_name_is_the_operators(client):
    assert client.get("/v2/models").json() == {"models": ["flower"]}
    assert client.post("/v2/models/iris/infer", json={}).status_code == 404


def test_the_printed_curl_line_works(flower):
    line = flower.event("server.ready")["example"]
    answer = subprocess.run(["bash", "-c", line], capture_output=True, text=True, check=True, timeout=30)
    assert isinstance(json.loads(answer.stdout)["outputs"], list)


@pytest.mark.parametrize(
    ("broken", "code", "words"),
    [
        ({"data": None}, 76, ["sample 1: the model does not answer its request: input 'X': data must be an array"]),
        ({"data": [[0.5] * 5]}, 76, ["sample 1: the model does not answer its request"]),
        ({"data": [{"a": [[]]}, None, "x", 0.5]}, 76, ["element 0", "an object"]),
    ],
)
def test_samples_that_the_model_does_not_answer_end_in_one_line(broken, code, words, tmp_path):
    is_not_loaded(with_sample(tmp_path, "X", [1, 4], **broken), code, words, tmp_path / "cache")


def test_samples_that_are_none_end_in_one_line(tmp_path):
    kit = with_sample(tmp_path, "X", [1, 4])
    (tmp_path / "samples.json").write_text('{"samples": [{"request": {}, "response": {"outputs": [{"name": "y"}]}}]}')
    is_not_loaded(kit, 65, ["samples.json: sample 1: outputs[0]: datatype is missing"], tmp_path / "cache")


def _model_bytes() -> bytes:
    """The model file in the one layer of `iris-bare`: a tar of a single file."""
    import io
    import json
    import tarfile

    layout = KITS / "iris-bare"
    index = json.loads((layout / "index.json").read_text())
    blobs = layout / "blobs" / "sha256"
    manifest = json.loads((blobs / index["manifests"][0]["digest"].removeprefix("sha256:")).read_text())
    layer = (blobs / manifest["layers"][0]["digest"].removeprefix("sha256:")).read_bytes()
    with tarfile.open(fileobj=io.BytesIO(layer)) as archive:
        member = next(member for member in archive.getmembers() if member.name.endswith(".onnx"))
        return archive.extractfile(member).read()
