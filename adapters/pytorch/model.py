"""A callable module as a `Model`: named tensors in, named tensors out."""

import copy
import dataclasses
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final, NamedTuple

import numpy as np
import torch

from adapters import dry
from adapters.base import LoadFailed, Model, ModelFiles, Options, TensorSpec, WrongInput
from adapters.values import Arrays
from adapters.wording import reason

WIDER: Final = {torch.bfloat16: torch.float32}
"""Types without a datatype in the protocol, and the type that holds their values without loss."""
HINT: Final = "give the kit a sample, or an input another number than 0 in model.parameters.serving.options.example"


class Loaded(NamedTuple):
    """A module, and what its file says about its inputs."""

    module: Callable[..., Any]
    inputs: tuple[TensorSpec, ...] = ()
    arrange: Callable[[list[Any]], tuple[tuple[Any, ...], Mapping[str, Any]]] | None = None
    """Turns the tensors, in the order of `inputs`, into (args, kwargs); None: one positional argument each."""
    outputs: tuple[TensorSpec, ...] = ()
    """What the file says of the outputs, in case that no dry run succeeds."""
    dtypes: tuple[torch.dtype | None, ...] = ()
    """What the inputs are cast to, where the protocol has no datatype for it."""
    warning: str = ""
    steady: bool = True
    """False if it has loops: what inputs say may decide how often they run."""


def as_model(loaded: Loaded, files: ModelFiles, options: Options, device: torch.device, kind: str) -> Model:
    """Returns the model of a module, with the outputs that a dry run shows."""
    inputs = _inputs(loaded, options, files.path)
    dtype = getattr(torch, own) if isinstance(own := options.own.get("dtype"), str) else None
    module = _prepared(loaded.module, options, device, dtype)
    run = _runner(module, loaded, inputs, device, dtype)
    apart = _runner(copied(module), loaded, inputs, device, dtype)

    def try_run(arrays: Arrays) -> Arrays:
        return {name: to_array(tensor) for name, tensor in apart(arrays).items()}

    def predict(arrays: Arrays, wanted: tuple[str, ...]) -> Arrays:
        made = run(arrays)
        return {name: to_array(made[name]) for name in wanted}

    found = dry.shown(try_run, inputs, options)
    outputs = loaded.outputs if isinstance(found, Exception) else found
    facts = {"torch_version": torch.__version__, "device": str(device), "torch_file": kind}
    model = Model(
        platform="pytorch",
        inputs=inputs,
        outputs=outputs,
        predict=predict,
        batch=dry.has_rows(inputs, outputs),
        steady=loaded.steady,
        properties=facts | ({"warning": loaded.warning} if loaded.warning else {}),
    )
    if outputs or not isinstance(found, Exception):
        return model
    return dry.learning(model, try_run, found, HINT, _why)


def _why(error: BaseException) -> str:
    """Returns why a run failed: of TorchScript's report the last line, which comes after its source."""
    return reason(RuntimeError(str(error).strip().rpartition("\n")[2])) if "<--- HERE" in str(error) else reason(error)


def _inputs(loaded: Loaded, options: Options, name: str) -> tuple[TensorSpec, ...]:
    specs = options.inputs or loaded.inputs or options.sampled
    if not specs:
        serving = "{inputs: [{name: x, datatype: FP32, shape: [-1, 4]}]}"
        kitfile = f"{{manifestVersion: 1.0.0, model: {{path: {name}, parameters: {{serving: {serving}}}}}}}"
        said = "say it in a Kitfile beside it: model.parameters.serving.inputs (name, datatype, shape), for instance"
        raise LoadFailed(f"{name} does not say what it takes; {said} {kitfile}, and serve the folder")
    if loaded.inputs and len(specs) != len(loaded.inputs):
        raise LoadFailed(
            f"model.parameters.serving.inputs names {len(specs)} inputs; {name} takes {len(loaded.inputs)}"
        )
    if texts := [spec.name for spec in specs if spec.datatype == "BYTES"]:
        raise LoadFailed(f"model.parameters.serving.inputs says {texts[0]!r} is BYTES, which PyTorch has no tensors of")
    return specs


def _prepared(module: Any, options: Options, device: torch.device, dtype: torch.dtype | None) -> Any:
    if isinstance(module, torch.nn.Module):
        module.to(device=device, dtype=dtype)
    if not options.own.get("compile"):
        return module
    if options.confined:
        said = (
            "model.parameters.serving.options.compile runs a C++ compiler, which a worker confined by Landlock may not"
        )
        raise LoadFailed(f"{said}; serve with --sandbox off, or without compile")
    return torch.compile(module)


def copied(module: Any) -> Any:
    """Returns a copy for the dry run, so that a module with state starts its first request in the state of its file."""
    try:
        return copy.deepcopy(module)
    except (RuntimeError, TypeError, AttributeError):  # not every module can be copied; most keep no state
        return module


Run = Callable[[Arrays], dict[str, torch.Tensor]]


def _runner(module: Any, loaded: Loaded, inputs: tuple[TensorSpec, ...], device: torch.device, dtype: Any) -> Run:
    def tensor(array: Any, own: torch.dtype | None) -> torch.Tensor:
        made = torch.from_numpy(array if array.flags.writeable else array.copy()).to(device)
        wanted = dtype or own
        return made.to(wanted) if wanted is not None and made.is_floating_point() else made

    dtypes = loaded.dtypes or (None,) * len(inputs)

    def run(arrays: Arrays) -> dict[str, torch.Tensor]:
        tensors = [tensor(arrays[spec.name], own) for spec, own in zip(inputs, dtypes, strict=True)]
        args, kwargs = (tuple(tensors), {}) if loaded.arrange is None else loaded.arrange(tensors)
        try:
            with torch.inference_mode():
                return dict(named(module(*args, **kwargs)))
        except IndexError as error:  # an index beyond the rows of an embedding
            raise WrongInput(reason(error)) from error

    return run


def named(made: Any, prefix: str = "") -> Iterator[tuple[str, torch.Tensor]]:
    """Yields (name, tensor) of what a module returned, named by keys, fields or positions; a single one is `output`.
    Leaves out None. Raises TypeError for anything but tensors, numbers and containers of them."""
    if isinstance(made, torch.Tensor):
        yield prefix or "output", made
    elif isinstance(made, bool | int | float):
        yield prefix or "output", torch.tensor(made)
    elif isinstance(made, Mapping):
        for key, value in made.items():
            yield from named(value, f"{prefix}.{key}" if prefix else str(key))
    elif dataclasses.is_dataclass(made) or hasattr(made, "_fields"):
        names = getattr(made, "_fields", None) or [f.name for f in dataclasses.fields(made)]
        for key in names:
            yield from named(getattr(made, key), f"{prefix}.{key}" if prefix else key)
    elif isinstance(made, tuple | list):
        for i, value in enumerate(made):
            yield from named(value, f"{prefix}.{i}" if prefix else f"output_{i}")
    elif made is not None:
        raise TypeError(f"the model returned a {type(made).__name__}")


def to_array(tensor: torch.Tensor) -> Any:
    """Returns the tensor as an array of the protocol: on the CPU, dense, without gradients, C-contiguous."""
    plain = tensor.detach()
    plain = plain.to_dense() if plain.layout != torch.strided else plain
    return np.asarray(plain.to("cpu", WIDER.get(plain.dtype, plain.dtype)).resolve_conj().numpy(), order="C")
