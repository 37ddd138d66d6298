"""Models of every framework in the sandbox of a worker: what they answer there, and what they cannot do."""

from __future__ import annotations

import os
import pickle
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from runtime.worker.confinement import landlock_abi
from tests.places import ROOT

from .kits import Unpacked, expected, files_in, unpack

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not landlock_abi(), reason="this kernel has no Landlock"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning"),
]
DATA = ("diabetes-skops", "iris-xgboost", "iris-lightgbm")
KITS = {
    **dict.fromkeys(DATA, "data"),
    **dict.fromkeys(("wine-sklearn", "titanic-sklearn", "spam-sklearn", "cnn-torchscript", "mlp-pt2"), "restricted"),
    "mlp-safetensors": "unsafe",
}
"""Golden kits, each with the lowest level of trust that serves it."""


Try = tuple[Unpacked, dict[str, Any], list[dict[str, Any]]]
"""A model, fields of Options, and cases that have to come out right."""


def asked(data: list[float], name: str, answer: list[Any], datatype: str = "FP32") -> dict[str, Any]:
    """A case of two rows, as tests/kits/expected/ has them."""
    given = {"name": "x", "datatype": "FP32", "shape": [2, *([len(data) // 2] if len(data) > 2 else [])], "data": data}
    wanted = {"name": name, "datatype": datatype, "shape": [2], "data": answer}
    return {"request": {"inputs": [given]}, "outputs": [wanted], "rtol": 0, "atol": 0, "input_name_free": True}


DOUBLED = [asked([1, 1], "output", [2, 2])]
SERVING = {"inputs": [{"name": "x", "datatype": "FP32", "shape": [-1]}]}


def programs(folder: Path) -> dict[str, Try]:
    """Exported programs and TorchScript: harmless, with options that need more than a worker has, and one that reads."""
    import torch

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
    return {
        name: (Unpacked(files_in(folder, path), {}, SERVING | {"options": options}), {}, DOUBLED)
        for name, path, options in (
            ("pt2", "m.pt2", {}), ("compile", "m.pt2", {"compile": True}), ("cuda", "m.pt2", {"device": "cuda"}),
            ("script", "m.pt", {}), ("reads", "reads.pt", {}),
        )
    }  # fmt: skip


def of_catboost(folder: Path) -> Try:
    import catboost

    rows = np.random.default_rng(0).normal(size=(60, 4))
    own = catboost.CatBoostClassifier(iterations=10, allow_writing_files=False, verbose=False, thread_count=1)
    own.fit(rows, np.where(rows[:, 0] > 0, "yes", "no")).save_model(str(folder / "m.cbm"))
    given = rows[:2].astype(np.float32)
    case = asked(given.ravel().tolist(), "predict", own.predict(given).tolist(), "BYTES")
    return Unpacked(files_in(folder, "m.cbm"), {}, {}), {"trust": "data"}, [case]


def test_models_of_every_framework_answer_in_the_sandbox_of_a_worker(tmp_path: Path) -> None:
    tries = {
        kit: (unpack(kit, tmp_path / kit), {"trust": trust}, expected(kit)["cases"]) for kit, trust in KITS.items()
    }
    tries |= {"catboost": of_catboost(tmp_path), **programs(tmp_path)}
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
