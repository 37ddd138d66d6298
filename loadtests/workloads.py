"""What is measured: a model, the request that is sent, and the answers that are right."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from time import thread_time
from typing import Any, Final

import numpy as np
import onnxruntime as ort

from loadtests import startup
from loadtests.servers import Server, ask

Array = np.ndarray[Any, Any]
Predict = Callable[[Array], list[Array]]
_AT_ONCE: Final = 16
"""Requests under way at once when answers are checked: enough that batches form."""
_MLP: Final = (64, 2048, 2048, 2048, 8)
"""Widths of the layers: 32 MiB of weights."""
_SQUARE: Final = 1024
_TRIED: Final = 3
"""Products that are timed."""
_ECHO: Final = (16, 2048, 2048, 16)


@dataclass(frozen=True)
class Workload:
    """A model and its requests."""

    title: str
    make: Callable[[Path], tuple[Path, Predict]]
    """Writes the model into a folder; returns its file, and a function that predicts in this process."""
    inputs: Callable[[], Array]
    """Returns different inputs, along the first axis."""
    name: str = "X"
    datatype: str = "FP32"
    binary: bool = False
    digits: int = 3
    """How many digits after the point JSON has."""
    batches: bool = False
    """Whether the floor with a batcher, and the runtime without batches, are measured too."""
    wanted: Mapping[int, float] = field(default_factory=dict)
    """Requests a second for each of the floor's, by the number of clients."""


@dataclass(frozen=True)
class Made:
    """A workload whose model is there."""

    workload: Workload
    folder: Path
    model: Path
    predict: Predict
    bodies: list[bytes]
    headers: dict[str, str]
    inputs: Array

    @property
    def head(self) -> str:
        """The headers as lines of a request."""
        return "".join(f"{name}: {value}\r\n" for name, value in self.headers.items())

    def check(self, server: Server) -> int:
        """Compares the answers to all requests, many under way at once, with the model's own. Returns how many."""
        with ThreadPoolExecutor(_AT_ONCE) as pool:
            answers = list(pool.map(lambda body: ask(server.port, server.path, body, self.headers), self.bodies))
        for given, answer in zip(self.inputs, answers, strict=True):
            outputs = json.loads(answer)["outputs"]
            for right, output in zip(self.predict(given), outputs, strict=True):
                if not np.allclose(np.reshape(output["data"], output["shape"]), right, rtol=1e-4, atol=1e-5):
                    raise RuntimeError(f"{server.name} gives a wrong answer: {output['name']} is not {right.tolist()}")
        return len(answers)


def made(workload: Workload, folder: Path) -> Made:
    """Makes the model of a workload, and a kit of it, in `folder`."""
    folder.mkdir()
    model, predict = workload.make(folder)
    (folder / "Kitfile").write_text(f"manifestVersion: 1.0.0\npackage: {{name: m}}\nmodel: {{path: {model.name}}}\n")
    inputs = workload.inputs()
    if not workload.binary:
        inputs = inputs.round(workload.digits)
    bodies = [_body(workload, given) for given in inputs]
    head = {"Inference-Header-Content-Length": str(bodies[0][1])} if workload.binary else {}
    return Made(workload, folder, model, predict, [body for body, _ in bodies], head, inputs)


def _body(workload: Workload, given: Array) -> tuple[bytes, int]:
    """Returns a request, and the bytes of JSON in front of its tensor."""
    tensor = {"name": workload.name, "datatype": workload.datatype, "shape": given.shape}
    if workload.binary:
        tensor["parameters"] = {"binary_data_size": given.nbytes}
    else:
        tensor["data"] = [round(value, workload.digits) for value in given.ravel().tolist()]
    text = json.dumps({"inputs": [tensor]}, separators=(",", ":")).encode()
    return (text + given.tobytes() if workload.binary else text), len(text)


# models


def _session(file: Path, name: str) -> tuple[Path, Predict]:
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    session = ort.InferenceSession(file, options, providers=["CPUExecutionProvider"])

    def predict(given: Array) -> list[Array]:
        arrays: list[Array] = session.run(None, {name: given})
        return arrays

    return file, predict


def iris(folder: Path) -> tuple[Path, Predict]:
    """The example's ONNX model."""
    return _session(startup.model_file(folder), "X")


def logistic(folder: Path) -> tuple[Path, Predict]:
    """A logistic regression of scikit-learn."""
    import joblib
    from sklearn.linear_model import LogisticRegression

    rows = np.random.default_rng(0).normal(size=(150, 4))
    model = LogisticRegression().fit(rows, rows[:, :3].argmax(axis=1))
    joblib.dump(model, folder / "model.joblib")
    return folder / "model.joblib", lambda given: [model.predict(given)]


def forest(folder: Path) -> tuple[Path, Predict]:
    """A forest of 100 trees over 50 columns, as ONNX."""
    from skl2onnx import to_onnx  # type: ignore[import-untyped]  # it has none
    from sklearn.ensemble import RandomForestClassifier

    rows = np.random.default_rng(0).normal(size=(500, 50)).astype(np.float32)
    model = RandomForestClassifier(max_depth=6, random_state=0).fit(rows, rows[:, :3].argmax(axis=1))
    options = {id(model): {"zipmap": False}}
    exported = to_onnx(model, rows[:1], options=options, target_opset={"": 17, "ai.onnx.ml": 1})
    (folder / "forest.onnx").write_bytes(exported.SerializeToString())
    return _session(folder / "forest.onnx", "X")


def picture(folder: Path) -> tuple[Path, Predict]:
    """Averages each colour and makes ten numbers of the three: takes little time itself."""
    from onnx import helper

    weights = np.linspace(-1, 1, 30, dtype=np.float32).reshape(3, 10)
    nodes = [
        helper.make_node("GlobalAveragePool", ["X"], ["mean"]),
        helper.make_node("Flatten", ["mean"], ["flat"]),
        helper.make_node("MatMul", ["flat", "W"], ["y"]),
    ]
    return _saved(folder, nodes, ("n", 3, 224, 224), ("n", 10), {"W": weights})


def mlp(folder: Path) -> tuple[Path, Predict]:
    """Layers with ReLU between them, random weights: 32 rows cost little more than one."""
    nodes, weights = _layers(_MLP)
    nodes[-1].output[0] = "y"
    return _saved(folder, nodes, ("n", _MLP[0]), ("n", _MLP[-1]), weights)


def echo(folder: Path) -> tuple[Path, Predict]:
    """Takes as long as an MLP of 16 MiB, and answers its input, bit for bit."""
    from onnx import helper

    nodes, weights = _layers(_ECHO)
    nodes += [
        helper.make_node("Mul", [nodes[-1].output[0], "zero"], ["nothing"]),
        helper.make_node("Add", ["X", "nothing"], ["y"]),
    ]
    weights["zero"] = np.zeros(1, np.float32)
    return _saved(folder, nodes, ("n", _ECHO[0]), ("n", _ECHO[-1]), weights)


def slow(folder: Path, seconds: float = 2.0) -> tuple[Path, Predict]:
    """Takes so many seconds or more of one thread: products of matrices."""
    from onnx import helper

    ones = np.ones((_SQUARE, _SQUARE), np.float32)

    def multiplied(times: int) -> tuple[Path, Predict]:
        nodes = [helper.make_node("Mul", ["ones", "X"], ["h0"])]
        nodes += [helper.make_node("MatMul", [f"h{at}", "small"], [f"h{at + 1}"]) for at in range(times)]
        nodes.append(helper.make_node("ReduceMean", [f"h{times}"], ["y"], axes=[0]))
        return _saved(folder, nodes, (1,), (1, _SQUARE), {"ones": ones, "small": ones / _SQUARE})

    _, predict = multiplied(_TRIED)
    given = np.ones(1, np.float32)
    predict(given)  # the first time takes longer
    began = thread_time()
    predict(given)
    return multiplied(1 + int(1.1 * seconds * _TRIED / (thread_time() - began)))


def _layers(widths: tuple[int, ...]) -> tuple[list[Any], dict[str, Array]]:
    """Returns the nodes of an MLP that begins with X, and its weights by name."""
    from onnx import helper

    rng, nodes, weights = np.random.default_rng(0), [], {}
    for layer, (width, following) in enumerate(pairwise(widths)):
        weights[f"W{layer}"] = (rng.standard_normal((width, following)) / np.sqrt(width)).astype(np.float32)
        nodes.append(helper.make_node("MatMul", [f"h{layer}" if layer else "X", f"W{layer}"], [f"m{layer}"]))
        nodes.append(helper.make_node("Relu", [f"m{layer}"], [f"h{layer + 1}"]))
    return nodes[:-1], weights


def _saved(folder: Path, nodes: list[Any], takes: tuple[Any, ...], gives: tuple[Any, ...],
           weights: Mapping[str, Array]) -> tuple[Path, Predict]:  # fmt: skip
    """Writes the ONNX model of `nodes`, from X to y."""
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    given = helper.make_tensor_value_info("X", TensorProto.FLOAT, takes)
    made = helper.make_tensor_value_info("y", TensorProto.FLOAT, gives)
    constants = [numpy_helper.from_array(array, name) for name, array in weights.items()]
    graph = helper.make_graph(nodes, folder.name, [given], [made], constants)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    onnx.save(model, str(folder / "model.onnx"))
    return _session(folder / "model.onnx", "X")


def _normal(*shape: int, dtype: type[np.floating[Any]] = np.float32) -> Callable[[], Array]:
    return lambda: np.random.default_rng(1).normal(size=shape).astype(dtype)


def _pictures() -> Array:
    return np.random.default_rng(1).random((4, 1, 3, 224, 224), np.float32)


_BATCHED: Final = {1: 1.0, 8: 1.0, 32: 1.0}
WORKLOADS: Final[Mapping[str, Workload]] = {
    "W1": Workload("tiny ONNX, JSON", iris, _normal(32, 1, 4), wanted={1: 1.4, 8: 2.0, 32: 2.0}),
    "W1s": Workload("tiny scikit-learn, JSON", logistic, _normal(32, 1, 4, dtype=np.float64), name="x", datatype="FP64",
                    wanted={1: 1.25, 8: 1.25, 32: 1.25}),
    "W2": Workload("forest, 100 rows of 50, JSON (39 KB)", forest, _normal(8, 100, 50), digits=5,
                   wanted={1: 1.1, 8: 1.1, 32: 1.1}),
    "W3": Workload("picture, JSON (1 MB)", picture, _pictures, digits=4, wanted={1: 2.0, 8: 2.0, 32: 2.0}),
    "W3b": Workload("picture, binary (602 KB)", picture, _pictures, binary=True),
    "W4": Workload("MLP of 32 MiB, JSON", mlp, _normal(64, 1, 64), batches=True, wanted=_BATCHED),
    "W4b": Workload("MLP of 32 MiB, binary", mlp, _normal(64, 1, 64), binary=True, batches=True, wanted=_BATCHED),
}  # fmt: skip
SLOW: Final = Workload("two seconds", slow, lambda: np.ones((1, 1), np.float32))
ECHO: Final = Workload("echo", echo, lambda: np.arange(16, dtype=np.float32).reshape(1, 1, 16))
