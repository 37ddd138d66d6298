"""What each adapter costs a worker: seconds to import and load, MB resident, each in a process of its own.

    python -m loadtests.adapters [NAME …]

Prints the table of docs/adapters.md. The models are the golden kits in tests/kits; CatBoost's is trained here.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

KITS = Path(__file__).parents[1] / "tests" / "kits"
# name -> (kit, adapter, serving.inputs as name, datatype, shape; trust)
CASES = {
    "onnx": ("iris-onnx", "onnx", None, "restricted"),
    "sklearn, joblib": ("wine-sklearn", "sklearn", None, "restricted"),
    "sklearn, with pandas": ("titanic-sklearn", "sklearn", None, "restricted"),
    "sklearn, skops": ("diabetes-skops", "sklearn", None, "restricted"),
    "xgboost": ("iris-xgboost", "xgboost", None, "restricted"),
    "lightgbm": ("iris-lightgbm", "lightgbm", None, "restricted"),
    "catboost": ("", "catboost", None, "restricted"),
    "pytorch, .pt2": ("mlp-pt2", "pytorch", None, "restricted"),
    "pytorch, TorchScript": ("cnn-torchscript", "pytorch", ("image", "FP32", [-1, 3, 32, 32]), "unsafe"),
}
CHILD = """
import json, sys, time, warnings
from pathlib import Path
warnings.simplefilter("ignore")
import numpy
from adapters import ADAPTERS, load
from adapters.base import ModelFiles, Options, TensorSpec
name, root, path, spec, trust = json.loads(sys.argv[1])
files = tuple(p.relative_to(root).as_posix() for p in sorted(Path(root).rglob("*")) if p.is_file())
begin = time.perf_counter()
next(a for a in ADAPTERS if a.name == name).prepare()
imported = time.perf_counter()
inputs = (TensorSpec(spec[0], spec[1], tuple(spec[2])),) if spec else ()
options = Options(inputs=inputs, trust=trust, threads=1)
load(ModelFiles(Path(root), path, files=files), options, framework=None, format=None, adapter=name, warn=print)
loaded = time.perf_counter()
status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
print(json.dumps([imported - begin, loaded - imported, int(status["VmRSS"].split()[0]) / 1024]))
"""


def unpacked(kit: str, root: Path) -> str:
    """Unpacks the model of the golden `kit` into `root` and returns the model's path."""
    index = json.loads((KITS / kit / "index.json").read_text())["manifests"]
    manifest = json.loads(blob(kit, index[0]["digest"]).read_bytes())
    for layer in manifest["layers"]:
        if layer["mediaType"].endswith(".model.v1.tar"):
            with tarfile.open(blob(kit, layer["digest"])) as archive:
                archive.extractall(root, filter="data")
    model = json.loads(blob(kit, manifest["config"]["digest"]).read_bytes())["model"]
    return Path(model["path"]).as_posix()


def blob(kit: str, digest: str) -> Path:
    """Where the layout of `kit` keeps `digest`."""
    return KITS / kit / "blobs" / "sha256" / digest.removeprefix("sha256:")


def trained(root: Path) -> str:
    """Trains a small CatBoost model into `root`."""
    import catboost
    import numpy as np

    rows = np.random.default_rng(0).normal(size=(80, 6))
    model = catboost.CatBoostRegressor(iterations=20, allow_writing_files=False)
    model.fit(rows, rows[:, 0], verbose=False)
    model.save_model(str(root / "m.cbm"))
    return "m.cbm"


def main(wanted: list[str]) -> None:
    """Prints a row for each case, or for those whose name begins with one of `wanted`."""
    print("| | Import (s) | Load (s) | Resident (MB) |\n|---|---|---|---|")
    for case, (kit, adapter, spec, trust) in CASES.items():
        if wanted and not case.startswith(tuple(wanted)):
            continue
        with tempfile.TemporaryDirectory() as folder:
            path = unpacked(kit, Path(folder)) if kit else trained(Path(folder))
            told = json.dumps([adapter, folder, path, spec, trust])
            command = [sys.executable, "-c", CHILD, told]
            runs = [json.loads(subprocess.check_output(command, text=True).splitlines()[-1]) for _ in range(3)]
        imported, loaded, resident = (min(run[i] for run in runs) for i in range(3))
        print(f"| {case} | {imported:.2f} | {loaded:.2f} | {resident:.0f} |")


if __name__ == "__main__":
    main(sys.argv[1:])
