"""Trains an iris classifier, exports it to ONNX, and writes the folder that `kit pack` makes a ModelKit of.

    pip install scikit-learn skl2onnx
    python examples/train_iris.py /tmp/iris
    kit pack /tmp/iris -t registry.example.com/org/iris:v1 && kit push registry.example.com/org/iris:v1
    runtime --kit registry.example.com/org/iris:v1      # or, without a registry: runtime --kit /tmp/iris

The Kitfile beside this script says what is what; `samples.json` holds answers that the runtime checks before it serves.
`examples/iris-onnx` is such a kit, packed by the real `kit` and stored as an OCI layout.
"""

import json
import shutil
import sys
from pathlib import Path

import numpy as np
from skl2onnx import to_onnx
from sklearn.datasets import load_iris
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler


def train(features: np.ndarray, species: np.ndarray) -> Pipeline:
    """Give a fitted pipeline. Shapes: (flowers, 4) float32 and (flowers,) int64."""
    return make_pipeline(StandardScaler(), LogisticRegression()).fit(features, species)


def export(pipeline: Pipeline, example: np.ndarray) -> bytes:
    """Give the pipeline as ONNX: one input `X`, outputs `label` and `probabilities` (a tensor, not a list of maps)."""
    options = {id(pipeline): {"zipmap": False}}
    model = to_onnx(pipeline, example, options=options, target_opset={"": 17, "ai.onnx.ml": 1})
    return bytes(model.SerializeToString())


def sample(pipeline: Pipeline, rows: np.ndarray) -> dict[str, object]:
    """Give one request with the answer the pipeline has for it: the contract that the kit carries to its server."""
    label, probabilities = pipeline.predict(rows), pipeline.predict_proba(rows)
    return {
        "request": {"inputs": [tensor("X", "FP32", rows)]},
        "response": {"outputs": [tensor("label", "INT64", label), tensor("probabilities", "FP32", probabilities)]},
        "rtol": 1e-4,
        "atol": 1e-5,
    }


def tensor(name: str, datatype: str, array: np.ndarray) -> dict[str, object]:
    """Give an array as the Open Inference Protocol writes it."""
    return {"name": name, "datatype": datatype, "shape": list(array.shape), "data": array.ravel().tolist()}


def main(folder: Path) -> None:
    """Write `folder` with model, samples, data and Kitfile."""
    iris = load_iris()
    features, species = iris.data.astype(np.float32), iris.target.astype(np.int64)
    pipeline = train(features, species)
    for name in ("model", "data"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    (folder / "model/iris.onnx").write_bytes(export(pipeline, features[:1]))
    samples = [sample(pipeline, features[[0, 60, 120]]), sample(pipeline, features[:1])]
    (folder / "model/samples.json").write_text(json.dumps({"samples": samples}, indent=1))
    np.savetxt(folder / "data/iris.csv", np.column_stack([features, species]), delimiter=",", fmt="%g")
    shutil.copy(Path(__file__).with_name("Kitfile"), folder)
    print(f"{folder}: {pipeline.score(features, species):.0%} of the training flowers are named right")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
