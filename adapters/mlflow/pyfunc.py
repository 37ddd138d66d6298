"""Folders with the flavour python_function alone: MLflow itself loads them, and runs the code in them."""

from typing import Any

from adapters.base import LoadFailed, MissingFramework, Model, ModelFiles, Options, Refused
from adapters.mlflow.mlmodel import ALONE, MLmodel
from adapters.python import as_model
from adapters.trust import UNSAFE, allows_code
from adapters.values import Arrays, to_text
from adapters.wording import failing, with_class


def load(files: ModelFiles, options: Options, said: MLmodel) -> Model:
    """Returns what `mlflow.pyfunc.load_model` makes of the folder. Raises LoadFailed, Refused, MissingFramework."""
    if not allows_code(options.trust):
        why = f"{said.path} has no flavour but python_function, whose Python code would run"
        instead = "save the model inside with its own flavour (mlflow.sklearn.save_model, …)"
        raise Refused(f"{why}, which --trust {options.trust} does not allow; {instead}, {UNSAFE}", file=said.path)
    try:
        import mlflow.pyfunc
    except ModuleNotFoundError as error:
        raise MissingFramework(f"{said.path} needs the package 'mlflow', which is not installed") from error
    inputs = options.inputs or said.columns or said.tensors or options.sampled
    if not inputs:
        raise LoadFailed(f"{said.path} has no signature; save the model with one, or say serving.inputs")
    with failing(f"MLflow {mlflow.__version__} cannot load {said.path}", with_class):
        loaded: Any = mlflow.pyfunc.load_model(str((files.root / said.path).parent))

    def call(arrays: Arrays) -> Any:
        texts = {spec.name for spec in inputs if spec.datatype == "BYTES"}
        given = {name: to_text(array, f"input {name!r}") if name in texts else array for name, array in arrays.items()}
        made = loaded.predict(given[ALONE] if [*given] == [ALONE] and not said.columns else given)
        return {str(name): made[name].to_numpy() for name in made.columns} if hasattr(made, "columns") else made

    with failing(f"what {said.path} holds cannot be run", with_class):
        return as_model(call, inputs, options, {"mlflow_version": said.version, "mlflow_flavor": "python_function"})
