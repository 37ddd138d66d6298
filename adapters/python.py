"""The Python adapter: any model, loaded by the kit's own code, if that is trusted."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from adapters import imports
from adapters.base import Adapter, LoadFailed, Model, ModelFiles, Options, TensorSpec
from adapters.trust import allows_code, code_refused
from adapters.wording import failing, with_class

if TYPE_CHECKING:
    from adapters.base import Arrays


def check(path: str, trust: str) -> None:
    """Raises Refused if the trust level does not let a kit's own code run."""
    if not allows_code(trust):
        raise code_refused(path, "its entry point", trust, "export the model to ONNX")


def load(files: ModelFiles, options: Options) -> Model:
    """Returns what `serving.options.entrypoint` (module:callable) makes of `files.path`. Raises LoadFailed, Refused.

    The entry point gets the path (a file or a folder) and the other keys of `serving.options`. It returns a `Model`, or
    a callable from arrays by name to arrays by name (or to one array, or to a tuple of arrays).
    """
    text = options.own.get("entrypoint")
    if not isinstance(text, str):
        raise LoadFailed(
            "the python adapter needs model.parameters.serving.options.entrypoint: module:callable, in the kit's code"
        )
    if not allows_code(options.trust):
        raise code_refused(files.path, f"the entry point {text!r}", options.trust, "export the model to ONNX")
    make = imports.entrypoint(files, text)
    rest = {key: value for key, value in options.own.items() if key != "entrypoint"}
    with imports.kit_on_path(files), failing(f"the entry point {text!r} failed", with_class):
        made = make(files.root / files.path, rest)
    if isinstance(made, Model):
        return made
    if not callable(made):
        raise LoadFailed(f"the entry point {text!r} made a {type(made).__name__}, neither a Model nor a callable")
    inputs = options.inputs or options.sampled
    if not inputs:
        raise LoadFailed(
            f"{text!r} made a plain callable: say its inputs in model.parameters.serving.inputs (name, datatype, shape)"
        )
    with failing(f"what {text!r} made cannot be run", with_class):
        return as_model(made, inputs, options, {"entrypoint": text})


def as_model(
    call: Callable[[Any], Any], inputs: tuple[TensorSpec, ...], options: Options, properties: Mapping[str, str]
) -> Model:
    """Returns the model of a callable from arrays by name to arrays. A dry run shows its outputs."""
    from adapters import dry

    def predict(arrays: Arrays, wanted: tuple[str, ...]) -> Arrays:
        answers = _named(call(arrays))
        return {name: answers[name] for name in wanted}

    def run(arrays: Arrays) -> Arrays:
        return _named(call(arrays))

    found = dry.shown(run, inputs, options)
    if isinstance(found, Exception):
        model = Model("python", inputs, (), predict, properties=properties)
        return dry.learning(model, run, found)
    return Model("python", inputs, found, predict, batch=dry.has_rows(inputs, found), properties=properties)


def _named(made: Any) -> dict[str, Any]:
    import numpy as np

    from adapters.values import to_protocol

    if isinstance(made, tuple):
        made = {f"output_{i}": value for i, value in enumerate(made)}
    outputs = made if isinstance(made, Mapping) else {"output": made}
    return {str(name): to_protocol(np.asarray(value)) for name, value in outputs.items()}


ADAPTER = Adapter(
    name="python",
    frameworks=("python", "custom", "pyfunc"),
    suffixes=(),
    sniff=lambda _head: False,  # it serves what the kit says, not what a file looks like
    load=load,
    check=check,
)
