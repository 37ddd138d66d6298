"""Models that nobody here trained, from packages on PyPI, packed into kits and served, against the packages' own answers.

Those that import more than ONNX Runtime answer in the sandbox of a worker in tests/adapters/test_confined.py.
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import pytest
from starlette.testclient import TestClient

import runtime
from adapters import load
from adapters.base import Model, Options, TensorSpec
from tests.adapters.kits import files_in, folder_of
from tests.clients import environments
from tests.kit.made import made_kit

pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning", "ignore::FutureWarning"),
]
DTYPES = {"FP32": np.float32, "FP64": np.float64, "INT64": np.int64}


class Served:
    """A served model, called with arrays. `metadata` is what it says of itself."""

    def __init__(self, client: Any, name: str) -> None:
        self._client, self._path = client, f"/v2/models/{name}"
        self.metadata = client.get(self._path).json()

    def __call__(self, **given: Any) -> dict[str, Any]:
        """The answer's outputs by name, from inputs by name (FP32, INT32, INT64 arrays, or lists of texts)."""
        answer = self._client.post(f"{self._path}/infer", json={"inputs": [_tensor(*item) for item in given.items()]})
        assert answer.status_code == 200, answer.text
        outputs = answer.json()["outputs"]
        return {o["name"]: np.array(o["data"], DTYPES[o["datatype"]]).reshape(o["shape"]) for o in outputs}


def _tensor(name: str, value: Any) -> dict[str, Any]:
    if isinstance(value, list):
        return {"name": name, "datatype": "BYTES", "shape": [len(value)], "data": value}
    kind = {"f": "FP", "i": "INT"}[value.dtype.kind] + str(value.dtype.itemsize * 8)
    return {"name": name, "datatype": kind, "shape": value.shape, "data": value.ravel().tolist()}


@contextmanager
def served(tmp_path: Path, file: Path, **serving: Any) -> Iterator[Served]:
    """The model file in a kit of its own, at the default trust level."""
    layout = made_kit(tmp_path / "kit", {file.name: file.read_bytes()}, parameters={"serving": serving})
    with TestClient(runtime.app(f"oci:{layout}:v1", cache_dir=tmp_path / "cache")) as client:
        yield Served(client, "kit")


def test_magika_knows_its_own_files(tmp_path: Path) -> None:
    import magika
    from magika.types import Seekable

    own = magika.Magika()
    texts = (b"import os\nprint(os.name)\n" * 40, b"<html><body>hi</body></html>\n" * 40, b'{"a": [1, 2, 3]}\n' * 40)
    config = own._model_config
    features = [
        own._extract_features_from_seekable(
            Seekable(io.BytesIO(text)), config.beg_size, config.mid_size, config.end_size, config.padding_token,
            config.block_size, config.use_inputs_at_offsets,
        )
        for text in texts
    ]  # fmt: skip
    wanted = own._get_raw_predictions([(Path(str(i)), f) for i, f in enumerate(features)])
    rows = np.array([f.beg + f.mid + f.end for f in features], dtype=np.int32)
    (path,) = (folder_of("magika") / "models").glob("*/model.onnx")
    with served(tmp_path, path, labels=[str(label) for label in config.target_labels_space]) as model:
        made = model(bytes=rows)["target_label"]
        labels = model.metadata["properties"]["labels"]
    np.testing.assert_allclose(made, wanted, rtol=1e-5, atol=1e-6)
    assert [str(config.target_labels_space[i]) for i in made.argmax(axis=1)][:2] == ["python", "html"]
    assert '"html"' in labels


def speech(steps: int) -> Any:
    time = np.arange(512 * steps, dtype=np.float32) / 16000
    sound = 0.4 * np.sin(2 * np.pi * 180 * time) * np.sin(2 * np.pi * 3 * time)
    return sound.astype(np.float32).reshape(steps, 1, 512)


def test_silero_onnx_carries_its_state_as_inputs(tmp_path: Path) -> None:
    import torch
    from silero_vad.utils_vad import OnnxWrapper

    path = folder_of("silero_vad") / "data" / "silero_vad.onnx"
    own = OnnxWrapper(str(path), force_onnx_cpu=True)
    state, context = np.zeros((2, 1, 128), np.float32), np.zeros((1, 64), np.float32)
    with served(tmp_path, path) as model:
        assert [spec["name"] for spec in model.metadata["inputs"]] == ["input", "state", "sr"]
        for chunk in speech(8):
            whole = np.concatenate([context, chunk], axis=1)
            made = model(input=whole, state=state, sr=np.array(16000, np.int64))
            assert made["output"].tolist() == own(torch.from_numpy(chunk), 16000).numpy().tolist()
            state, context = made["stateN"], whole[:, -64:]


def test_silero_torchscript_begins_as_its_file_left_it() -> None:
    import torch

    path = folder_of("silero_vad") / "data" / "silero_vad.jit"
    inputs = TensorSpec("x", "FP32", (-1, 512)), TensorSpec("sr", "INT64", ())
    own = torch.jit.load(str(path))
    model = opened(
        path, confined=True, inputs=inputs, own={"example": {"sr": 16000}}
    )  # in a worker, the sandbox is real
    assert model.outputs == (TensorSpec("output", "FP32", (-1, 1)),)
    for chunk in speech(4):
        made = model.predict({"x": chunk, "sr": np.array(16000)}, ("output",))["output"]
        with torch.inference_mode():
            want = own(torch.from_numpy(chunk), 16000).numpy()
        np.testing.assert_allclose(made, want, rtol=1e-5)


def test_profanity_check_answers_as_its_package(tmp_path: Path) -> None:
    import profanity_check

    data = folder_of("profanity_check") / "data"
    texts = ["hello there", "you idiot", "what a lovely day", "go to hell"]
    with served(tmp_path / "v", data / "vectorizer.joblib") as vectorizer:
        rows = vectorizer(text=texts)["transform"]
    with served(tmp_path / "m", data / "model.joblib", outputs=["predict", "predict_proba"]) as model:
        made = model(x=rows)
    assert made["predict"].tolist() == profanity_check.predict(texts).tolist()
    np.testing.assert_allclose(made["predict_proba"][:, 1], profanity_check.predict_prob(texts), rtol=1e-12)


@pytest.fixture(scope="session")
def packages() -> Path:
    """Where the packages are that only their files are used of."""
    environments.make("models")
    (found,) = environments.place("models").glob("lib/*/site-packages")
    return found


def opened(path: Path, **options: Any) -> Model:
    return load(files_in(path.parent, path.name), Options(**options), framework=None, format=None, warn=print)[1]


@pytest.mark.parametrize(
    "pattern",
    [
        "yasa/classifiers/clf_eeg_lgb_*.joblib",
        "lncrnapi/models/catboost_model_rapid.joblib",
        "DORA_XGB/models/main/*_add_subtract.pkl",
    ],
    ids=["LightGBM", "CatBoost", "XGBoost"],
)
def test_wrappers_in_real_pickles_answer_as_in_python(pattern: str, packages: Path) -> None:
    (path,) = packages.glob(pattern)
    model, own = opened(path), joblib.load(path)
    is_matrix = model.inputs[0].name == "x"
    rows = 2 * np.random.default_rng(0).random((50, model.inputs[0].shape[1] if is_matrix else len(model.inputs)))
    columns = {spec.name: rows[:, i] for i, spec in enumerate(model.inputs)}
    got = model.predict({"x": rows} if is_matrix else columns, ("predict", "predict_proba"))
    assert [value.decode() if isinstance(value, bytes) else value for value in got["predict"]] == [*own.predict(rows)]
    assert got["predict_proba"].tolist() == own.predict_proba(rows).tolist()
    assert len({*map(tuple, got["predict_proba"])}) > 40


def test_a_real_file_of_xgboost_answers_as_its_booster(packages: Path) -> None:
    import xgboost

    path = packages / "aisafe_xgboost/models/model_lab.ubj"
    own, rows = xgboost.Booster(model_file=path), np.random.default_rng(0).random((50, 19), np.float32) * 10
    got = opened(path).predict({"x": rows}, ("predict",))["predict"]
    assert got.tolist() == own.predict(xgboost.DMatrix(rows, feature_names=own.feature_names)).tolist()
