"""Every golden kit that is not plain ONNX, from a registry or its layout: served, and right, at the lowest level of trust.

What each framework does in the sandbox of a worker, tests/adapters/test_confined.py shows; `make campaigns` asks servers of most.
That every tag of a kit is the same tree, from its layout too, tests/kit/test_pull.py shows.
"""

import json
import sys

import httpx
import pytest
from starlette.testclient import TestClient

import runtime
from adapters.base import LoadFailed, NoAdapter, Refused
from runtime.exits import exit_code
from tests.adapters.kits import unpack
from tests.e2e.server import Server, run
from tests.expected import ask_as_documented, ask_both_ways, cases, fitted, needs_code, probabilities, refused_global
from tests.kit.made import made_kit
from tests.places import KITS

UNSAFE = ("--trust", "unsafe")
DATA = ("zipmap", "diabetes-skops", "iris-xgboost", "iris-lightgbm")
LEVELS = {
    **dict.fromkeys(DATA, "data"),
    **dict.fromkeys(("wine-sklearn", "titanic-sklearn", "spam-sklearn", "mlp-pt2"), "restricted"),
    **dict.fromkeys(("mlp-statedict", "mlp-safetensors", "cnn-torchscript"), "unsafe"),
}
"""TorchScript needs less where a worker is confined, which this process is not."""
OTHERS = {"zipmap": "onnx", "iris-xgboost": "xgboost", "iris-lightgbm": "lightgbm"}

pytestmark = pytest.mark.slow


def answers(client: httpx.Client, kit: str) -> dict[str, str]:
    """All cases of the kit are answered rightly. Returns what is said of the model."""
    answered = client.get(f"/v2/models/{kit}")
    metadata, facts = answered.json(), answered.json()["properties"]
    for case in (fitted(case, metadata) for case in cases(kit)):
        ask_both_ways(client, f"/v2/models/{kit}/infer", case)
    ask_as_documented(client, kit)
    assert answered.headers["modelkit-digest"] == facts["digest"]
    adapter = OTHERS.get(kit, "pytorch" if kit.startswith(("mlp", "cnn")) else "sklearn")
    assert f'adapter="{adapter}"' in client.get("/metrics").text
    return facts


def maps_of_a_converted_classifier_are_a_tensor_with_labels(client: httpx.Client, facts: dict[str, str]) -> None:
    request = {"inputs": cases("zipmap")[0]["request"]["inputs"]}
    _, maps = client.post("/v2/models/zipmap/infer", json=request).json()["outputs"]
    wanted = probabilities("zipmap")
    assert maps["shape"] == [len(wanted), 3]
    assert maps["data"] == pytest.approx([value for row in wanted for value in row], abs=1e-4)
    assert facts["labels"] == '["setosa","versicolor","virginica"]'


@pytest.mark.filterwarnings(
    "ignore:`torch.jit.load` is deprecated:DeprecationWarning", "ignore:`isinstance:FutureWarning"
)
@pytest.mark.parametrize(("kit", "trust"), LEVELS.items())
def test_a_golden_kit_answers_right(kit, trust, registry, tmp_path, monkeypatch):
    assert needs_code(kit) <= (trust == "unsafe")
    monkeypatch.delitem(sys.modules, "net", raising=False)  # another kit's code
    tmp_path.chmod(0o700)
    reference = f"oci:{KITS / kit}:v1" if kit == "mlp-pt2" else registry.push(KITS / kit, "v1")
    with TestClient(runtime.app(reference, cache_dir=tmp_path, trust=trust)) as client:
        facts = answers(client, kit)
        assert facts["trust"] == trust
        if kit == "zipmap":
            maps_of_a_converted_classifier_are_a_tensor_with_labels(client, facts)


# the trust ladder

RAN = "THIS KIT RAN CODE ON LOAD"
WAYS_OUT = ["--allow-global builtins.print", "--trust unsafe"]
REFUSED = [
    ("evil-pickle", "restricted", ["evil.pkl", refused_global("evil-pickle"), "--trust restricted", *WAYS_OUT]),
    ("evil-pickle", "data", ["evil.pkl is a pickle", "--trust data", "--trust restricted"]),
    ("wine-sklearn", "data", ["models/wine.joblib is a pickle", "--trust data", "--trust restricted"]),
    ("mlp-statedict", "restricted", ["weights.pth", "net:Net", "torch.export", "--trust unsafe"]),
    ("mlp-safetensors", "restricted", ["net:Net", "torch.export", "--trust unsafe"]),
    ("cnn-torchscript", "restricted", ["model/cnn.pt is TorchScript", "not confined by Landlock"]),
    ("cnn-torchscript", "data", ["model/cnn.pt is TorchScript", "--trust restricted"]),
    ("mlp-pt2", "data", ["mlp.pt2 is an exported program", "is pickled"]),
]


def refused(kit, trust, words, reason):
    assert [word for word in words if word not in reason] == [], reason
    assert "\n" not in reason
    assert f"(layer {_model_layer(kit)})" in reason


@pytest.mark.parametrize(("kit", "trust", "words"), REFUSED)
def test_what_the_trust_level_does_not_load_ends_in_one_line(kit, trust, words, tmp_path):
    tmp_path.chmod(0o700)
    with pytest.raises(Refused) as error:
        runtime.load(f"oci:{KITS / kit}:v1", trust=trust, cache_dir=tmp_path)
    assert exit_code(error.value) == 79
    refused(kit, trust, words, str(error.value))


def test_a_refused_pickle_ends_a_server_in_the_same_line_and_never_runs(registry, tmp_path):
    kit, trust, words = REFUSED[0]
    reference, printed = registry.push(KITS / kit, "v1"), tmp_path / "printed"
    with printed.open("wb") as out, Server(reference, "--trust", trust, cache=tmp_path / "cache", stdout=out) as server:
        code, reason = server.failure()
    assert code == 79, reason
    refused(kit, trust, words, reason)
    assert RAN not in str(server.events)
    assert printed.read_bytes() == b""


def test_a_refused_pickle_is_not_run_by_who_looks_at_it(tmp_path):
    done = run("inspect", f"oci:{KITS / 'evil-pickle'}:v1", "--files", "--cache-dir", str(tmp_path))
    assert done.returncode == 79
    assert "builtins.print" in done.stdout + done.stderr
    assert RAN not in done.stdout + done.stderr


def _model_layer(kit: str) -> str:
    blobs = KITS / kit / "blobs"
    index = json.loads((KITS / kit / "index.json").read_text())["manifests"]
    manifest = json.loads((blobs / index[0]["digest"].replace(":", "/")).read_text())
    return next(layer["digest"] for layer in manifest["layers"] if ".model." in layer["mediaType"])


def test_what_the_operator_allows_by_name_may_be_called(tmp_path, capfd):
    tmp_path.chmod(0o700)
    with pytest.raises(LoadFailed, match=r"evil\.pkl") as error:
        runtime.load(f"oci:{KITS / 'evil-pickle'}:v1", allow_global="builtins.print", cache_dir=tmp_path)
    assert exit_code(error.value) == 70  # it is let run, and what it makes is no model
    assert RAN in capfd.readouterr().out


def unsafe_is_said_aloud(server: Server, client: httpx.Client, kit: str) -> None:
    """By the log, in the metadata and in a gauge."""
    assert server.event("trust.unsafe")["level"] == "warning"
    assert client.get(f"/v2/models/{kit}").json()["properties"]["trust"] == "unsafe"
    assert "runtime_unsafe_loading 1.0" in client.get("/metrics").text


# what kits may hold beside the golden ones


@pytest.mark.parametrize(
    ("path", "content", "words"),
    [
        ("llama.gguf", b"GGUF\x03\x00\x00\x00", ["GGUF", "llama.cpp"]),
        ("saved_model.pb", b"\x08\x01\x12", ["TensorFlow", "tf2onnx"]),
        ("model.keras", b"PK\x03\x04", ["Keras", "ONNX"]),
    ],
)
def test_what_is_served_elsewhere_says_what_to_use(path, content, words, tmp_path):
    layout = made_kit(tmp_path / "kit", {path: content})
    with pytest.raises(NoAdapter) as error:
        runtime.load(f"oci:{layout}:v1", cache_dir=tmp_path / "cache")
    assert exit_code(error.value) == 78
    assert [word for word in words if word not in str(error.value)] == []


def test_a_model_of_another_scikit_learn_is_served_with_a_warning(tmp_path):
    golden = unpack("wine-sklearn", tmp_path / "golden")
    model = (golden.files.root / golden.files.path).read_bytes().replace(b"1.9.1", b"1.8.0")
    layout = made_kit(tmp_path / "kit", {golden.files.path: model})
    with TestClient(runtime.app(f"oci:{layout}:v1", cache_dir=tmp_path / "cache")) as client:
        properties = client.get("/v2/models/kit").json()["properties"]
    assert properties["sklearn_version_saved"] == "1.8.0"
    assert "its answers may differ" in properties["warning"]


@pytest.mark.parametrize("kit", ["iris-onnx", "mlp-pt2"])
def test_a_device_that_is_not_there_is_an_error_when_loading(kit, tmp_path):
    golden = unpack(kit, tmp_path / "golden")
    model = {golden.files.path: (golden.files.root / golden.files.path).read_bytes()}
    layout = made_kit(tmp_path / "kit", model, parameters={"serving": {"options": {"device": "cuda"}}})
    with pytest.raises(LoadFailed, match="'cuda' was asked for") as error:
        runtime.load(f"oci:{layout}:v1", cache_dir=tmp_path / "cache")
    assert exit_code(error.value) == 70


KIT_CODE = b"""
def load(path, options):
    factor = float(path.read_text()) * options["times"]
    return lambda arrays: {"y": arrays["x"] * factor}
"""


def test_any_python_of_the_kit_is_served_where_it_may_run_and_each_start_says_so(tmp_path):
    serving = {
        "inputs": [{"name": "x", "datatype": "FP64", "shape": [-1]}],
        "options": {"entrypoint": "serve:load", "times": 2},
    }
    layout = made_kit(
        tmp_path / "kit",
        {"factor.txt": b"1.5", "serve.py": KIT_CODE},
        framework="python",
        parameters={"serving": serving},
    )
    verified = run("verify", f"oci:{layout}:v1", "--cache-dir", str(tmp_path / "cache"))
    assert (verified.returncode, "its entry point would run Python code from the kit" in verified.stdout) == (79, True)
    for kit in (layout, KITS / "iris-onnx"):
        with Server(f"oci:{kit}:v1", "--drain-delay", "0", *UNSAFE, cache=tmp_path / "cache") as server:
            with server.ready() as client:
                unsafe_is_said_aloud(server, client, kit.name)
                if kit == layout:
                    request = {"inputs": [{"name": "x", "datatype": "FP64", "shape": [2], "data": [1.0, 2.0]}]}
                    assert client.post("/v2/models/kit/infer", json=request).json()["outputs"][0]["data"] == [3.0, 6.0]
            assert server.stop() == 0
