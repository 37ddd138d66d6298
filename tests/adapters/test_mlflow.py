"""MLflow folders as the real package writes them: its answers, names and datatypes, examples and refusals."""

from __future__ import annotations

import io
import shutil
from pathlib import Path
from typing import Any

import catboost
import lightgbm
import numpy as np
import pandas as pd
import pytest
import skl2onnx
import torch
import xgboost
from PIL import Image
from sklearn.compose import make_column_transformer
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler
from starlette.testclient import TestClient

import runtime
from adapters import load
from adapters.base import LoadFailed, Model, Options, Refused
from adapters.inspection import verdicts
from tests.lazy import Lazy

from .kits import files_in
from .test_huggingface import saved, saved_images

mlflow, transformers = Lazy("mlflow"), Lazy("transformers")

pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning", "ignore::UserWarning"),
]
RNG = np.random.default_rng(0)
TABLE = pd.DataFrame({
    "size": RNG.normal(size=40).round(2), "colour": RNG.choice(["red", "green"], 40), "n": RNG.integers(0, 9, 40),
})  # fmt: skip
NUMBERS = TABLE[["size", "n"]]
LABELS = np.where(TABLE["size"] > 0, "big", "small")
SAVED = Path(__file__).parent / "saved"
PLAIN: dict[str, Any] = {"pip_requirements": []}  # else MLflow starts a process to find them out


def opened(root: Path, *, trust: str = "restricted", **options: Any) -> Model:
    warned: list[str] = []
    adapter, model = load(
        files_in(root, "."),
        Options(trust=trust, confined=True, **options),
        framework=None,
        format=None,
        warn=warned.append,
    )
    assert (adapter.name, warned) == ("mlflow", [])
    return model


def columns(model: Model, table: pd.DataFrame) -> dict[str, Any]:
    texts = {spec.name for spec in model.inputs if spec.datatype == "BYTES"}
    return {
        name: np.array([text.encode() for text in table[name]], object) if name in texts else table[name].to_numpy()
        for name in table.columns
    }


def texts(array: Any) -> list[str]:
    return [value.decode() for value in array.tolist()]


def pipeline() -> Any:
    encoder = OneHotEncoder(handle_unknown="ignore")
    steps = make_column_transformer((StandardScaler(), ["size", "n"]), (encoder, ["colour"]))
    return make_pipeline(steps, LogisticRegression())


def save(flavour: Any, model: Any, root: Path, table: Any, answers: Any, **more: Any) -> None:
    signature = mlflow.models.infer_signature(table, answers)
    flavour.save_model(model, str(root), signature=signature, input_example=table[:2], **PLAIN, **more)


@pytest.mark.parametrize("how", ["skops", "cloudpickle"])
def test_sklearn_takes_the_columns_and_datatypes_of_the_signature(how: str, tmp_path: Path) -> None:
    made = pipeline().fit(TABLE, LABELS)
    save(mlflow.sklearn, made, tmp_path / "m", TABLE, made.predict(TABLE), serialization_format=how)
    model = opened(tmp_path / "m")
    said = [(spec.name, spec.datatype, spec.shape) for spec in model.inputs]
    assert said == [("size", "FP64", (-1,)), ("colour", "BYTES", (-1,)), ("n", "INT64", (-1,))]
    got = model.predict(columns(model, TABLE), ("predict", "predict_proba"))
    assert texts(got["predict"]) == made.predict(TABLE).tolist()
    assert got["predict_proba"].tobytes() == made.predict_proba(TABLE).tobytes()
    row = TABLE.iloc[0]
    assert model.example == {"size": [row["size"]], "colour": [row["colour"]], "n": [row["n"]]}
    assert (model.properties["mlflow_version"], model.properties["mlflow_flavor"]) == (mlflow.__version__, "sklearn")


@pytest.mark.parametrize("name", ["mlflow2", "mlflow2-lightgbm"])
def test_folders_of_mlflow_2_are_read(name: str) -> None:
    model = opened(SAVED / name)
    table = pd.DataFrame({"size": [1.0, 2, 3, 4], "colour": ["red", "green"] * 2, "n": [1, 2, 3, 4]})
    taken = table[[spec.name for spec in model.inputs]]
    got = texts(model.predict(columns(model, taken), ("predict",))["predict"])
    assert got == (["big", "small"] * 2 if name == "mlflow2" else ["big"] * 3 + ["small"])
    assert model.properties["mlflow_version"].startswith("2.")
    assert model.example["size"] == [1.0]


def test_a_matrix_has_the_datatype_of_the_signature(tmp_path: Path) -> None:
    x = NUMBERS.to_numpy(np.float32)
    made = LogisticRegression().fit(x, LABELS)
    save(mlflow.sklearn, made, tmp_path / "m", x, made.predict(x))
    model = opened(tmp_path / "m")
    assert [(s.name, s.datatype, s.shape) for s in model.inputs] == [("x", "FP32", (-1, 2))]
    assert texts(model.predict({"x": x}, ("predict",))["predict"]) == made.predict(x).tolist()
    assert model.example == {"x": x[0].tolist()}


def test_optional_columns_may_be_left_out(tmp_path: Path) -> None:
    made = HistGradientBoostingClassifier(max_iter=5, min_samples_leaf=2).fit(NUMBERS, LABELS)
    types = mlflow.types
    specs = [types.ColSpec(types.DataType.double, "size"), types.ColSpec(types.DataType.long, "n", required=False)]
    signature = mlflow.models.ModelSignature(inputs=types.Schema(specs))
    mlflow.sklearn.save_model(
        made, str(tmp_path / "m"), signature=signature, serialization_format="cloudpickle", **PLAIN
    )
    model = opened(tmp_path / "m")
    assert [(spec.name, spec.optional) for spec in model.inputs] == [("size", False), ("n", True)]
    got = texts(model.predict({"size": NUMBERS["size"].to_numpy()}, ("predict",))["predict"])
    assert got == made.predict(NUMBERS.assign(n=np.nan)).tolist()


def xgboost_classifier(root: Path) -> Any:
    made = xgboost.XGBClassifier(n_estimators=4).fit(NUMBERS, LABELS == "big")
    save(mlflow.xgboost, made, root, NUMBERS, made.predict(NUMBERS))
    return made.predict(NUMBERS)


def xgboost_booster(root: Path) -> Any:
    matrix = xgboost.DMatrix(NUMBERS, LABELS == "big")
    made = xgboost.train({"objective": "binary:logistic"}, matrix, 4)
    save(mlflow.xgboost, made, root, NUMBERS, made.predict(matrix))
    return made.predict(matrix)


def lightgbm_booster(root: Path) -> Any:
    made = lightgbm.LGBMClassifier(n_estimators=4, min_child_samples=2, verbose=-1).fit(NUMBERS, LABELS)
    save(mlflow.lightgbm, made.booster_, root, NUMBERS, made.booster_.predict(NUMBERS))
    return made.booster_.predict(NUMBERS)


def lightgbm_with_blanks(root: Path) -> Any:
    named = NUMBERS.rename(columns={"size": "the size"})
    made = lightgbm.train({"verbose": -1, "min_data_in_leaf": 2}, lightgbm.Dataset(named, TABLE["size"]), 4)
    save(mlflow.lightgbm, made, root, named, made.predict(named))
    return made.predict(named)


def lightgbm_wrapper_with_blanks(root: Path) -> Any:
    named = NUMBERS.rename(columns={"size": "the size"})
    made = lightgbm.LGBMRegressor(n_estimators=4, min_child_samples=2, verbose=-1).fit(named, TABLE["size"])
    save(mlflow.lightgbm, made, root, named, made.predict(named))
    return made.predict(named)


def catboost_regressor(root: Path) -> Any:
    made = catboost.CatBoostRegressor(iterations=4, verbose=0, allow_writing_files=False).fit(NUMBERS, TABLE["size"])
    save(mlflow.catboost, made, root, NUMBERS, made.predict(NUMBERS))
    return made.predict(NUMBERS)


def lightgbm_classifier(root: Path) -> Any:
    made = lightgbm.LGBMClassifier(n_estimators=4, min_child_samples=2, verbose=-1).fit(NUMBERS, LABELS == "big")
    save(mlflow.lightgbm, made, root, NUMBERS, made.predict(NUMBERS))
    assert (root / "model.skops").exists()
    return made.predict(NUMBERS)


@pytest.mark.parametrize(
    "save_it", [lightgbm_classifier, xgboost_classifier, xgboost_booster, lightgbm_booster, catboost_regressor]
)
def test_boosted_trees_answer_as_what_was_saved(save_it: Any, tmp_path: Path) -> None:
    want = save_it(tmp_path / "m")
    model = opened(tmp_path / "m")
    assert [(spec.name, spec.datatype) for spec in model.inputs] == [("size", "FP64"), ("n", "INT64")]
    got = model.predict(columns(model, NUMBERS), ("predict",))["predict"]
    assert got.tolist() == want.tolist()
    assert model.example == {"size": [NUMBERS["size"][0]], "n": [NUMBERS["n"][0]]}


@pytest.mark.parametrize("save_it", [lightgbm_with_blanks, lightgbm_wrapper_with_blanks])
def test_names_with_blanks_are_those_of_the_signature(save_it: Any, tmp_path: Path) -> None:
    want = save_it(tmp_path / "m")  # LightGBM's file has `the_size`
    model = opened(tmp_path / "m")
    assert [spec.name for spec in model.inputs] == ["the size", "n"]
    given = columns(model, NUMBERS.rename(columns={"size": "the size"}))
    assert model.predict(given, ("predict",))["predict"].tolist() == want.tolist()


def test_a_signature_may_leave_out_what_the_model_drops(tmp_path: Path) -> None:
    made = pipeline().fit(TABLE.assign(note="x"), LABELS)
    save(mlflow.sklearn, made, tmp_path / "m", TABLE, made.predict(TABLE), serialization_format="cloudpickle")
    model = opened(tmp_path / "m")
    assert [spec.name for spec in model.inputs] == ["size", "colour", "n"]
    got = model.predict(columns(model, TABLE), ("predict",))["predict"]
    assert texts(got) == made.predict(TABLE).tolist()


def test_catboost_takes_texts_and_none_that_is_missing(tmp_path: Path) -> None:
    made = catboost.CatBoostClassifier(iterations=4, verbose=0, allow_writing_files=False)
    made.fit(TABLE, LABELS, cat_features=["colour"])
    save(mlflow.catboost, made, tmp_path / "m", TABLE, made.predict(TABLE))
    model = opened(tmp_path / "m")
    said = [(spec.name, spec.datatype, spec.nullable) for spec in model.inputs]
    assert said == [("size", "FP64", False), ("colour", "BYTES", False), ("n", "INT64", False)]
    assert texts(model.predict(columns(model, TABLE), ("predict",))["predict"]) == made.predict(TABLE).tolist()


def test_onnx_says_its_own_inputs(tmp_path: Path) -> None:
    x = NUMBERS.to_numpy(np.float32)
    made = LogisticRegression().fit(x, LABELS)
    mlflow.onnx.save_model(skl2onnx.to_onnx(made, x[:1]), str(tmp_path / "m"), **PLAIN)
    model = opened(tmp_path / "m")
    assert texts(model.predict({"X": x}, ("output_label",))["output_label"]) == made.predict(x).tolist()


@pytest.mark.parametrize("how", ["pt2", "torchscript"])
def test_pytorch_is_served_from_its_folder(how: str, tmp_path: Path) -> None:
    module, x = torch.nn.Linear(2, 3).eval(), NUMBERS.to_numpy(np.float32)
    want = module(torch.from_numpy(x)).detach().numpy()
    kind = {"pt2": module, "torchscript": torch.jit.script(module)}[how]
    more = {"serialization_format": "pt2" if how == "pt2" else "pickle"}
    save(mlflow.pytorch, kind, tmp_path / "m", x, want, **more)
    model = opened(tmp_path / "m")
    (spec,) = model.inputs
    assert (spec.datatype, spec.shape, model.example[spec.name]) == ("FP32", (-1, 2), x[0].tolist())
    assert model.predict({spec.name: x}, ("output",))["output"].tolist() == want.tolist()


@pytest.mark.parametrize("kind", ["text", "image"])
def test_transformers_pipelines_are_served_from_their_folders(kind: str, tmp_path: Path) -> None:
    if kind == "text":
        made = transformers.pipeline(
            "text-classification", str(saved(tmp_path / "hub", "BertForSequenceClassification"))
        )
        given, one, example = np.array([b"the film is good"], object), "the film is good", ["the film is good"]
    else:
        made = transformers.pipeline("image-classification", str(saved_images(tmp_path / "hub")))
        given = np.random.default_rng(0).integers(0, 256, (1, 40, 50, 3), np.uint8)
        one, example = Image.fromarray(given[0]), None
    mlflow.transformers.save_model(made, str(tmp_path / "m"), input_example=example, **PLAIN)
    model, want = opened(tmp_path / "m"), made(one)[0]
    got = model.predict({kind: given}, ("label", "score"))
    assert (got["label"][0].decode(), got["score"][0]) == (want["label"], np.float32(want["score"]))
    assert (model.example.get("text"), model.properties["mlflow_flavor"]) == (example, "transformers")
    looked = verdicts(files_in(tmp_path / "m", "."), Options(), ("MLmodel", "mlflow"))
    assert [one.refused for one in looked if one.path.startswith("model/")] == [None, None]
    text = (tmp_path / "m" / "MLmodel").read_text()
    for old, new, words in (
        ("model_binary: model", "source: hub", "does not say model_binary of its flavour transformers: save it with"),
        ("model_binary: model", "model_binary: model\n    peft_adaptor: peft", "has a PEFT adapter beside its model"),
    ):
        (tmp_path / "m" / "MLmodel").write_text(text.replace(old, new))
        with pytest.raises(LoadFailed, match=words):
            opened(tmp_path / "m")


def test_python_function_alone_needs_unsafe_and_then_runs(tmp_path: Path) -> None:
    class Doubles(mlflow.pyfunc.PythonModel):  # type: ignore[misc, name-defined]  # the package has no types
        def predict(self, context: Any, model_input: Any, params: Any = None) -> Any:
            return model_input[["size"]] * 2

    signature = mlflow.models.infer_signature(TABLE, TABLE[["size"]])
    mlflow.pyfunc.save_model(str(tmp_path / "m"), python_model=Doubles(), signature=signature, **PLAIN)
    with pytest.raises(Refused, match=r"MLmodel has no flavour but python_function.*; .* --trust unsafe$"):
        opened(tmp_path / "m")
    model = opened(tmp_path / "m", trust="unsafe")
    got = model.predict(columns(model, TABLE), ("size",))["size"]
    assert got.tolist() == (TABLE["size"] * 2).tolist()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ("flavors: [", "MLmodel is not as MLflow writes it"),
        ("flavors: {sklearn: {}}", "MLmodel does not say pickled_model of its flavour sklearn"),
        ("flavors: {sklearn: {pickled_model: ../model.pkl}}", r"its model is \.\./model\.pkl, which holds nothing"),
        ("flavors: {sklearn: {pickled_model: data}}", "its model is data, which holds nothing"),
        ("signature: {inputs: '[{\"type\": \"double\", \"name\": \"weight\", \"required\": true}]'}",
         "^the signature in MLmodel and the columns the model was fitted on differ in 'weight'"),
    ],
)  # fmt: skip
def test_what_is_wrong_with_a_folder_is_said_in_one_line(change: str, words: str, tmp_path: Path) -> None:
    root = Path(shutil.copytree(SAVED / "mlflow2", tmp_path / "m"))
    text = (root / "MLmodel").read_text()
    key = change.partition(":")[0]
    kept = text.partition("signature:")[0] if key == "signature" else ""
    (root / "MLmodel").write_text(f"{kept}{change}\n")
    with pytest.raises(LoadFailed, match=words) as caught:
        opened(root)
    assert "\n" not in str(caught.value)


def test_the_only_folder_below_is_found_and_one_without_mlmodel_is_named(tmp_path: Path) -> None:
    shutil.copytree(SAVED / "mlflow2", tmp_path / "kit" / "model")
    assert opened(tmp_path / "kit").inputs[0].name == "size"
    (tmp_path / "kit" / "model" / "MLmodel").unlink()
    files = files_in(tmp_path / "kit", "model/model.pkl")
    with pytest.raises(LoadFailed, match=r"model/model\.pkl is no folder of MLflow: it holds no MLmodel"):
        load(files, Options(), framework=None, format=None, adapter="mlflow", warn=print)


def test_a_folder_is_served_with_its_example(tmp_path: Path, written: io.StringIO) -> None:
    with TestClient(runtime.app(SAVED / "mlflow2", cache_dir=tmp_path / "cache")) as client:
        row = {"size": ("FP64", 1.0), "colour": ("BYTES", "red"), "n": ("INT64", 1)}
        inputs = [{"name": n, "datatype": d, "shape": [1], "data": [value]} for n, (d, value) in row.items()]
        answer = client.post("/v2/models/mlflow2/infer", json={"inputs": inputs})
        assert answer.json()["outputs"][0]["data"] == ["big"], answer.text
        assert client.get("/v2/models/mlflow2").json()["properties"]["mlflow_flavor"] == "sklearn"
    assert "model.not_warmed_up" not in written.getvalue()
