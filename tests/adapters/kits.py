"""The golden kits as the adapters get them: an unpacked folder and a Kitfile; and their right answers."""

from __future__ import annotations

import json
import tarfile
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from adapters import load
from adapters.base import Model, ModelFiles, Options, TensorSpec
from adapters.values import DTYPES
from tests.places import KITS


@dataclass(frozen=True)
class Unpacked:
    files: ModelFiles
    model: dict[str, Any]
    serving: dict[str, Any]

    def load(self, *, adapter: str | None = None, **changes: Any) -> tuple[str, Model, list[str]]:
        """(adapter, model, warnings); `changes` are fields of Options."""
        warnings: list[str] = []
        chosen, model = load(
            self.files,
            options_of(self.serving, **changes),
            framework=self.model.get("framework"),
            format=self.model.get("format"),
            adapter=adapter,
            warn=warnings.append,
        )
        return chosen.name, model, warnings


def options_of(serving: dict[str, Any], **changes: Any) -> Options:
    inputs = tuple(TensorSpec(i["name"], i["datatype"], tuple(i["shape"])) for i in serving.get("inputs", ()))
    labels = serving.get("labels")
    said: dict[str, Any] = {
        "inputs": inputs,
        "outputs": tuple(serving.get("outputs", ())),
        "labels": tuple(labels) if labels else None,
        "own": serving.get("options", {}),
    }
    return Options(**(said | changes))


def unpack(name: str, root: Path, tag: str = "v1") -> Unpacked:
    layout = KITS / name
    index = json.loads((layout / "index.json").read_text())["manifests"]
    wanted = next(m for m in index if m["annotations"]["org.opencontainers.image.ref.name"] == tag)
    manifest = json.loads(_blob(layout, wanted["digest"]).read_bytes())
    for layer in manifest["layers"]:
        if "dataset" not in layer["mediaType"] and "docs" not in layer["mediaType"]:
            with tarfile.open(_blob(layout, layer["digest"])) as archive:
                archive.extractall(root, filter="data")
    model = json.loads(_blob(layout, manifest["config"]["digest"]).read_bytes())
    return Unpacked(_model_files(root, model), model["model"], _serving(model["model"]))


def _serving(model: dict[str, Any]) -> dict[str, Any]:
    parameters = model.get("parameters")
    found = parameters.get("serving", {}) if isinstance(parameters, dict) else {}
    assert isinstance(found, dict)
    return found


def _blob(layout: Path, digest: str) -> Path:
    return layout / "blobs" / "sha256" / digest.removeprefix("sha256:")


def _model_files(root: Path, kitfile: dict[str, Any]) -> ModelFiles:
    def clean(entries: list[dict[str, Any]]) -> tuple[str, ...]:
        return tuple(Path(entry["path"]).as_posix() for entry in entries)

    return files_in(
        root,
        Path(kitfile["model"]["path"]).as_posix(),
        parts=clean(kitfile["model"].get("parts", [])),
        code=clean(kitfile.get("code", [])),
    )


def files_in(root: Path, path: str, *, parts: tuple[str, ...] = (), code: tuple[str, ...] = ()) -> ModelFiles:
    found = sorted(p.relative_to(root).as_posix() for p in root.rglob("*") if p.is_file())
    return ModelFiles(root, path, parts, code, tuple(found))


def folder_of(package: str) -> Path:
    """Returns where an installed package is, which is not imported."""
    found = find_spec(package)
    assert found is not None
    assert found.submodule_search_locations, f"the package {package} is not installed"
    return Path(found.submodule_search_locations[0])


def expected(name: str) -> dict[str, Any]:
    found = json.loads((KITS / "expected" / f"{name}.json").read_text())
    assert isinstance(found, dict)
    return found


def array(tensor: dict[str, Any]) -> np.ndarray[Any, Any]:
    data = tensor["data"]
    if tensor["datatype"] == "BYTES":
        made = np.empty(len(data), dtype=object)
        made[:] = [text.encode() for text in data]
    else:
        made = np.array(data, dtype=DTYPES[tensor["datatype"]])
    return made.reshape(tensor["shape"])


def check_case(model: Model, case: dict[str, Any]) -> None:
    """Holds one case of an expected/NAME.json against the model, called as the runtime calls it."""
    given = {t["name"]: array(t) for t in case["request"]["inputs"]}
    if case.get("input_name_free"):
        given = {model.inputs[0].name: next(iter(given.values()))}
    specs = {spec.name: spec for spec in model.inputs}
    given = {name: value.astype(DTYPES[specs[name].datatype], casting="safe") for name, value in given.items()}
    for value in given.values():
        value.flags.writeable = False  # as views of a request's body are
    asked = tuple(o["name"] for o in case["request"].get("outputs", ()))
    wanted = asked or model.default_outputs or tuple(spec.name for spec in model.outputs)
    answers = model.predict(given, wanted)
    assert set(answers) == set(wanted)
    for tensor in case["outputs"]:
        name = wanted[0] if case.get("output_name_free") else tensor["name"]
        check_tensor(answers[name], tensor, case["rtol"], case["atol"])
        assert {s.name: s.datatype for s in model.outputs}[name] == tensor["datatype"]


def check_tensor(got: np.ndarray[Any, Any], want: dict[str, Any], rtol: float, atol: float) -> None:
    right = array(want)
    assert got.shape == right.shape
    assert got.dtype == right.dtype
    assert got.flags.c_contiguous
    if right.dtype.kind == "f" and (rtol or atol):
        np.testing.assert_allclose(got, right, rtol=rtol, atol=atol)
    elif right.dtype.kind == "f":
        assert got.tobytes() == right.tobytes()
    else:
        assert got.tolist() == right.tolist()
