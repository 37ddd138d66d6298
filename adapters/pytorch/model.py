"""A callable module as a `Model`: named tensors in, named tensors out."""

import copy
import dataclasses
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final, NamedTuple

import numpy as np
import torch

from adapters.base import LoadFailed, Model, ModelFiles, Options, TensorSpec, WrongInput
from adapters.values import DTYPES, Arrays, spec_of
from adapters.wording import reason

WIDER: Final = {torch.bfloat16: torch.float32}
"""Types without a datatype in the protocol, and the type that holds their values without loss."""
FREE: Final = ((2, 3), (17, 18), (64, 65), (224, 225), (1600, 1601))
"""Sizes of free dimensions in the dry run, in pairs: an output dimension that differs between the two runs is free."""


class Loaded(NamedTuple):
    """A module, and what its file says about its inputs."""

    module: Callable[..., Any]
    inputs: tuple[TensorSpec, ...] = ()
    arrange: Callable[[list[Any]], tuple[tuple[Any, ...], Mapping[str, Any]]] | None = None
    """Turns the tensors, in the order of `inputs`, into (args, kwargs); None: one positional argument each."""


def as_model(loaded: Loaded, files: ModelFiles, options: Options, device: torch.device, kind: str) -> Model:
    """Returns the model of a module, with the outputs that a dry run shows."""
    inputs = _inputs(loaded, options, files.path)
    dtype = getattr(torch, own) if isinstance(own := options.own.get("dtype"), str) else None
    module = _prepared(loaded.module, options, device, dtype)
    run = _runner(module, loaded, inputs, device, dtype)
    outputs = _dry_run(_runner(_copied(module), loaded, inputs, device, dtype), inputs, options, files.path)

    def predict(arrays: Arrays, wanted: tuple[str, ...]) -> Arrays:
        made = run(arrays)
        return {name: to_array(made[name]) for name in wanted}

    return Model(
        platform="pytorch",
        inputs=inputs,
        outputs=outputs,
        predict=predict,
        batch=all(spec.shape[:1] == (-1,) for spec in (*inputs, *outputs)),
        properties={"torch_version": torch.__version__, "device": str(device), "torch_file": kind},
    )


def _inputs(loaded: Loaded, options: Options, name: str) -> tuple[TensorSpec, ...]:
    specs = options.inputs or loaded.inputs or options.sampled
    if not specs:
        raise LoadFailed(f"{name} does not say what it takes; say it in serving.inputs: name, datatype, shape of each")
    if loaded.inputs and len(specs) != len(loaded.inputs):
        raise LoadFailed(f"serving.inputs names {len(specs)} inputs; {name} takes {len(loaded.inputs)}")
    if texts := [spec.name for spec in specs if spec.datatype == "BYTES"]:
        raise LoadFailed(f"serving.inputs says {texts[0]!r} is BYTES, which PyTorch has no tensors of")
    return specs


def _prepared(module: Any, options: Options, device: torch.device, dtype: torch.dtype | None) -> Any:
    if isinstance(module, torch.nn.Module):
        module.to(device=device, dtype=dtype)
    if not options.own.get("compile"):
        return module
    if options.confined:
        said = "serving.options.compile wants to run a C++ compiler, which a worker confined by Landlock may not"
        raise LoadFailed(f"{said}; serve with --sandbox off, or without compile")
    return torch.compile(module)


def _copied(module: Any) -> Any:
    """Returns a copy for the dry run, so that a module with state starts its first request in the state of its file."""
    try:
        return copy.deepcopy(module)
    except (RuntimeError, TypeError, AttributeError):  # not every module can be copied; most keep no state
        return module


Run = Callable[[Arrays], dict[str, torch.Tensor]]


def _runner(module: Any, loaded: Loaded, inputs: tuple[TensorSpec, ...], device: torch.device, dtype: Any) -> Run:
    def tensor(array: Any) -> torch.Tensor:
        made = torch.from_numpy(array if array.flags.writeable else array.copy()).to(device)
        return made.to(dtype) if dtype is not None and made.is_floating_point() else made

    def run(arrays: Arrays) -> dict[str, torch.Tensor]:
        tensors = [tensor(arrays[spec.name]) for spec in inputs]
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


def _dry_run(run: Run, inputs: tuple[TensorSpec, ...], options: Options, name: str) -> tuple[TensorSpec, ...]:
    error: Exception | None = None
    for sizes in FREE if any(-1 in spec.shape for spec in inputs) else FREE[:1]:
        try:
            first, second = ({n: to_array(t) for n, t in run(_example(inputs, options, s)).items()} for s in sizes)
        except (RuntimeError, ValueError, WrongInput, TypeError) as caught:
            error = caught
        else:
            return tuple(spec_of(key, array, second[key]) for key, array in first.items())
    assert error is not None  # FREE is not empty
    hint = "serving.options.example gives inputs another number than 0"
    said = f"{name} cannot be run on zeros, so its outputs are not known ({hint})"
    raise LoadFailed(f"{said}: {reason(error, longest=10_000)[-200:]}") from error


def _example(inputs: tuple[TensorSpec, ...], options: Options, free: int) -> dict[str, Any]:
    values: Any = options.own.get("example", {})
    # the first axis is a batch, which needs no size to be useful
    return {
        spec.name: np.full(
            tuple(d if d >= 0 else (2 + free % 2 if i == 0 else free) for i, d in enumerate(spec.shape)),
            values.get(spec.name, 0),
            dtype=DTYPES[spec.datatype],
        )
        for spec in inputs
    }
