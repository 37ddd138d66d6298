"""Models of every framework in the sandbox of a worker: what they answer there, and what they cannot do."""

from __future__ import annotations

import os
import pickle
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import catboost
import joblib
import numpy as np
import pytest
import torch

from adapters.values import example
from runtime.worker.confinement import landlock_abi
from tests.places import ROOT

from .kits import Unpacked, expected, files_in, folder_of, unpack
from .test_huggingface import real_model, saved_images

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not landlock_abi(), reason="this kernel has no Landlock"),
    pytest.mark.filterwarnings("ignore"),
]
SAVED = Path(__file__).parent / "saved"
DATA = ("diabetes-skops", "iris-xgboost", "iris-lightgbm")
KITS = {
    **dict.fromkeys(DATA, "data"),
    **dict.fromkeys(("wine-sklearn", "titanic-sklearn", "spam-sklearn", "cnn-torchscript", "mlp-pt2"), "restricted"),
    "mlp-safetensors": "unsafe",
}
"""Golden kits, each with the lowest level of trust that serves it."""
Try = tuple[Unpacked, dict[str, Any], list[dict[str, Any]]]
"""A model, fields of Options, and cases that have to come out right."""
SERVING = {"inputs": [{"name": "x", "datatype": "FP32", "shape": [-1]}]}


def tensor(name: str, datatype: str, array: Any) -> dict[str, Any]:
    """An array as tests/kits/expected/ has it."""
    data = [value.decode() if isinstance(value, bytes) else value for value in array.ravel().tolist()]
    return {"name": name, "datatype": datatype, "shape": array.shape, "data": data}


def as_here(folder: Path, path: str = ".", *, trust: str = "restricted", **serving: Any) -> Try:
    """A model that has to answer two rows, of zeros and words, as it does in this process, where other tests hold it right."""
    kit = Unpacked(files_in(folder, path), {}, serving)
    _, model, _ = kit.load(trust=trust, confined=True)
    given = {
        spec.name: example(spec.datatype, tuple(2 if n < 0 else n for n in spec.shape), b"word")
        for spec in model.inputs
    }
    given |= {name: np.array(value) for name, value in serving.get("options", {}).get("example", {}).items()}
    answers = model.predict(given, model.default_outputs or tuple(spec.name for spec in model.outputs))
    kinds = {spec.name: spec.datatype for spec in (*model.inputs, *model.outputs)}
    sides = [[tensor(name, kinds[name], array) for name, array in arrays.items()] for arrays in (given, answers)]
    return kit, {"trust": trust}, [{"request": {"inputs": sides[0]}, "outputs": sides[1], "rtol": 1e-4, "atol": 1e-6}]


def programs(folder: Path) -> dict[str, Try]:
    """Exported programs and TorchScript: harmless, with options that need more than a worker has, and one that reads."""

    class Reader(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return torch.from_file("/etc/passwd", False, 4, dtype=torch.uint8) + x.sum().to(torch.uint8)

    class Doubler(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x * 2

    free = {"x": {0: torch.export.Dim("n")}}
    torch.export.save(torch.export.export(Doubler(), (torch.zeros(2),), dynamic_shapes=free), folder / "m.pt2")
    torch.jit.script(Doubler()).save(str(folder / "m.pt"))
    torch.jit.script(Reader()).save(str(folder / "reads.pt"))
    x, doubled = tensor("x", "FP32", np.ones(2)), tensor("output", "FP32", np.full(2, 2.0))
    case = {"request": {"inputs": [x]}, "outputs": [doubled], "rtol": 0, "atol": 0}
    return {
        name: (Unpacked(files_in(folder, path), {}, SERVING | {"options": options}), {}, [case])
        for name, path, options in (
            ("pt2", "m.pt2", {}), ("compile", "m.pt2", {"compile": True}), ("cuda", "m.pt2", {"device": "cuda"}),
            ("script", "m.pt", {}), ("reads", "reads.pt", {}),
        )
    }  # fmt: skip


def boosters(folder: Path) -> dict[str, Try]:
    """A model of CatBoost alone, and in a pickle of joblib, out of which it is loaded through a file in memory."""
    rows = np.random.default_rng(0).normal(size=(60, 4))
    made = catboost.CatBoostClassifier(iterations=3, allow_writing_files=False, verbose=False, thread_count=1)
    made.fit(rows, np.where(rows[:, 0] > 0, "yes", "no")).save_model(str(folder / "m.cbm"))
    joblib.dump(made, folder / "m.joblib")
    return {"catboost": as_here(folder, "m.cbm", trust="data"), "wrapper": as_here(folder, "m.joblib")}


def real(folder: Path) -> dict[str, Try]:
    """Models that nobody here trained, of packages on PyPI, and folders of transformers and MLflow."""
    profanity = folder_of("profanity_check") / "data"
    speech = [{"name": "x", "datatype": "FP32", "shape": [-1, 512]}, {"name": "sr", "datatype": "INT64", "shape": []}]
    return {
        "silero": as_here(
            folder_of("silero_vad") / "data", "silero_vad.jit", inputs=speech, options={"example": {"sr": 16000}}
        ),
        "vectorizer": as_here(profanity, "vectorizer.joblib"),
        "profanity": as_here(profanity, "model.joblib", outputs=["predict", "predict_proba"]),
        "sentences": as_here(real_model()),
        "images": as_here(saved_images(folder / "images")),
        "mlflow": as_here(SAVED / "mlflow2"),
    }


def test_models_of_every_framework_answer_in_the_sandbox_of_a_worker(tmp_path: Path) -> None:
    tries = {
        kit: (unpack(kit, tmp_path / kit), {"trust": trust}, expected(kit)["cases"]) for kit, trust in KITS.items()
    }
    tries |= {**programs(tmp_path), **boosters(tmp_path), **real(tmp_path)}
    # torch leaves its cache folder in the environment of this process; a worker starts without
    environ = {key: value for key, value in os.environ.items() if not key.startswith("TORCH")}
    command = [sys.executable, "-W", "ignore", "-m", "tests.adapters.confined", str(tmp_path)]
    done = subprocess.run(
        command, input=pickle.dumps(tries), capture_output=True, timeout=200, env=environ, cwd=ROOT, check=False
    )
    assert (done.returncode, done.stderr.decode()) == (0, "")
    said = pickle.loads(done.stdout)
    refused = {
        "compile": r"LoadFailed: .* runs a C\+\+ compiler, which a worker confined by Landlock may not",
        "cuda": r"LoadFailed: .*--sandbox off",
        "reads": r"Refused: .*torch\.from_file",
    }
    for name, words in refused.items():
        assert re.match(words, said.pop(name)), name
    assert said == dict.fromkeys(tries.keys() - refused.keys(), "right")
