"""Memory of models that processes share: pages of the kit's own files, mapped and never written to."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from sklearn.linear_model import Ridge

from adapters.base import Options, TensorSpec
from adapters.onnx.adapter import load
from adapters.pickles.unpickler import load_pickle
from tests.adapters.kits import files_in
from tests.mapped import of_file

WEIGHTS = np.random.default_rng(0).standard_normal((256, 1024))


@pytest.fixture
def ridge(tmp_path: Path) -> Any:
    model = Ridge().fit(np.eye(4), np.eye(4))
    model.coef_, model.intercept_, model.n_features_in_ = WEIGHTS, np.zeros(len(WEIGHTS)), WEIGHTS.shape[1]
    return model


def test_long_arrays_of_joblib_stay_in_the_file(ridge: Any, tmp_path: Path) -> None:
    path = tmp_path / "m.joblib"
    joblib.dump(ridge, path)
    rows = np.random.default_rng(1).standard_normal((3, WEIGHTS.shape[1]))
    alone, _ = load_pickle(files_in(tmp_path, path.name), trust="restricted")
    assert of_file(path) == (0, 0)
    shared, _ = load_pickle(files_in(tmp_path, path.name), trust="restricted", mapped=True)
    assert np.array_equal(shared.predict(rows), alone.predict(rows))
    resident, copied = of_file(path)
    assert (resident >= WEIGHTS.nbytes // 1024, copied) == (True, 0)
    shared.coef_[0] = 1.0  # some models write into what they have learnt
    assert of_file(path)[1] > 0
    assert np.array_equal(joblib.load(path).coef_, WEIGHTS)


@pytest.mark.parametrize("compress", [0, 1])
def test_short_odd_and_compressed_arrays_are_read(compress: int, tmp_path: Path) -> None:
    path = tmp_path / "m.joblib"
    kept = {"short": np.arange(9.0), "long": WEIGHTS, "swapped": WEIGHTS.astype(">f8"), "fortran": WEIGHTS.T}
    joblib.dump(kept, path, compress=compress)
    got = load_pickle(files_in(tmp_path, path.name), trust="restricted", mapped=True)[0]
    for name, array in kept.items():
        assert got[name].dtype == array.dtype.newbyteorder("=")
        assert np.array_equal(got[name], array)
        assert got[name].flags.writeable


def test_a_file_that_ends_too_early_is_no_model(ridge: Any, tmp_path: Path) -> None:
    path = tmp_path / "m.joblib"
    joblib.dump(ridge, path)
    path.write_bytes(path.read_bytes()[: WEIGHTS.nbytes // 2])
    with pytest.raises(Exception, match=r"m\.joblib is not a whole pickle of a model"):
        load_pickle(files_in(tmp_path, path.name), trust="restricted", mapped=True)


@pytest.mark.slow
@pytest.mark.parametrize(("prefix", "code"), [("", "net_of_weights"), ("module.", "net_of_parallel_weights")])
def test_weights_of_safetensors_stay_in_the_file(prefix: str, code: str, tmp_path: Path) -> None:
    import torch
    from safetensors.torch import save_file

    from adapters.pytorch.file import load_model

    path, weights = tmp_path / "m.safetensors", torch.from_numpy(WEIGHTS.astype(np.float32))
    save_file({f"{prefix}weight": weights, f"{prefix}bias": torch.zeros(len(weights), dtype=torch.float16)}, path)
    (tmp_path / f"{code}.py").write_text("import torch\n\ndef made():\n    return torch.nn.Linear(1024, 256)\n")
    files = replace(files_in(tmp_path, path.name), code=(f"{code}.py",))
    options = Options(
        inputs=(TensorSpec("x", "FP32", (-1, 1024)),), trust="unsafe", own={"entrypoint": f"{code}:made"}, mapped=True
    )
    model = load_model(files, options)
    rows = np.ones((2, 1024), np.float32)
    (answer,) = model.predict({"x": rows}, tuple(spec.name for spec in model.outputs)).values()
    assert np.allclose(answer, rows @ weights.numpy().T, rtol=1e-3, atol=1e-3)
    assert answer.dtype == np.float32
    resident, copied = of_file(path)
    assert (resident >= weights.nbytes // 1024, copied) == (True, 0)


@pytest.mark.parametrize("prepacking", [True, False])
def test_external_data_of_onnx_stays_in_its_file_where_nothing_is_packed(*, prepacking: bool, tmp_path: Path) -> None:
    weights, data = WEIGHTS.astype(np.float32), tmp_path / "m.data"
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["x", "w"], ["y"])],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 256])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 1024])],
        [numpy_helper.from_array(weights, "w")],
    )
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    onnx.save(made, tmp_path / "m.onnx", save_as_external_data=True, location=data.name)
    model = load(files_in(tmp_path, "m.onnx"), Options(own={"prepacking": prepacking}))
    rows = np.ones((2, 256), np.float32)
    assert np.allclose(model.predict({"x": rows}, ("y",))["y"], rows @ weights, rtol=1e-4, atol=1e-4)
    resident, copied = of_file(data)
    assert (resident >= weights.nbytes // 1024, copied) == (not prepacking, 0)
