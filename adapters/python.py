"""Any Python: the kit's own `load(path, options)`, for what nothing else covers. Kit code: only where trusted."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from adapters.base import Adapter, LoadFailed, Model, ModelFiles, Options, TensorSpec
from adapters.trust import allows_code, code_refused

if TYPE_CHECKING:
    from adapters.base import Arrays


def load(files: ModelFiles, options: Options) -> Model:
    """What the kit's `serving.options.entrypoint` (module:callable) makes of `files.path`. Raises LoadFailed, Refused.

    It is called with the path (a file or a folder) and the other keys of `serving.options`, and returns a `Model`, or a
    callable from arrays by name to arrays by name (or one array, or several in a tuple).
    """
    from adapters import kit_code

    text = options.own.get("entrypoint")
    if not isinstance(text, str):
        raise LoadFailed("the python adapter needs serving.options.entrypoint: module:callable, in the kit's code")
    if not allows_code(options.trust):
        raise code_refused(files.path, f"the entry point {text!r}", options.trust, "export the model to ONNX")
    make = kit_code.entrypoint(files, text)
    rest = {key: value for key, value in options.own.items() if key != "entrypoint"}
    with kit_code.on_path(files):
        try:
            made = make(files.root / files.path, rest)
        except Exception as error:  # the kit's own code may raise anything
            said = " ".join(str(error).split())[:200]
            raise LoadFailed(f"the entry point {text!r} failed: {type(error).__name__}: {said}") from error
    if isinstance(made, Model):
        return made
    if not callable(made):
        raise LoadFailed(f"the entry point {text!r} made a {type(made).__name__}, neither a Model nor a callable")
    return _from_callable(made, options, text)


def _from_callable(call: Callable[[Any], Any], options: Options, text: str) -> Model:
    if not options.inputs:
        raise LoadFailed(f"{text!r} made a plain callable, whose inputs serving.inputs must say: name, datatype, shape")
    try:
        first, second = (_named(call(_example(options.inputs, size))) for size in (2, 3))
    except Exception as error:  # as above
        said = " ".join(str(error).split())[:200]
        raise LoadFailed(f"what {text!r} made cannot be run on zeros: {type(error).__name__}: {said}") from error
    outputs = tuple(_spec(name, array, second[name]) for name, array in first.items())

    def predict(arrays: Arrays, wanted: tuple[str, ...]) -> Arrays:
        made = _named(call(arrays))
        return {name: made[name] for name in wanted}

    batch = all(spec.shape[:1] == (-1,) for spec in (*options.inputs, *outputs))
    return Model("python", options.inputs, outputs, predict, batch=batch, properties={"entrypoint": text})


def _named(made: Any) -> dict[str, Any]:
    import numpy as np

    from adapters.values import to_protocol

    if isinstance(made, Mapping):
        return {str(name): to_protocol(np.asarray(value)) for name, value in made.items()}
    if isinstance(made, tuple):
        return {f"output_{i}": to_protocol(np.asarray(value)) for i, value in enumerate(made)}
    return {"output": to_protocol(np.asarray(made))}


def _example(inputs: tuple[TensorSpec, ...], size: int) -> dict[str, Any]:
    import numpy as np

    from adapters.values import DTYPES

    made = {}
    for spec in inputs:
        array = np.zeros(tuple(size if d < 0 else d for d in spec.shape), dtype=DTYPES[spec.datatype])
        if spec.datatype == "BYTES":
            array.fill(b"")
        made[spec.name] = array
    return made


def _spec(name: str, first: Any, second: Any) -> TensorSpec:
    from adapters.values import DATATYPE

    shape = tuple(a if a == b else -1 for a, b in zip(first.shape, second.shape, strict=True))
    return TensorSpec(name, DATATYPE[first.dtype], shape)


def sniff(_head: bytes) -> bool:
    """Never: it serves what the kit says, not what a file looks like."""
    return False


ADAPTER = Adapter(
    name="python",
    frameworks=("python", "custom", "pyfunc"),
    suffixes=(),
    sniff=sniff,
    load=load,
)
