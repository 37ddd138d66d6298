"""A callable module as a `Model`: named tensors in, named tensors out."""

import copy
import dataclasses
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from itertools import product
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
ROWS: Final = ((2, 3), (4, 8), (16, 32), (1, 1))
"""Sizes of a free first axis: a model may reshape its rows in groups, or take one alone."""


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


def as_model(loaded: Loaded, files: ModelFiles, options: Options, device: torch.device, kind: str) -> Model:
    """Returns the model of a module, with the outputs that a dry run shows."""
    inputs = _inputs(loaded, options, files.path)
    dtype = getattr(torch, own) if isinstance(own := options.own.get("dtype"), str) else None
    module = _prepared(loaded.module, options, device, dtype)
    run = _runner(module, loaded, inputs, device, dtype)
    outputs = _dry_run(_runner(_copied(module), loaded, inputs, device, dtype), inputs, options)
    if isinstance(outputs, Exception):
        if not loaded.outputs:
            hint = (
                "give the kit a sample, or an input another number than 0 in model.parameters.serving.options.example"
            )
            said = f"{files.path} cannot be run on zeros or ones, so its outputs are not known ({hint})"
            raise LoadFailed(f"{said}: {reason(outputs, longest=10_000)[-200:]}") from outputs
        outputs = loaded.outputs

    def predict(arrays: Arrays, wanted: tuple[str, ...]) -> Arrays:
        made = run(arrays)
        return {name: to_array(made[name]) for name in wanted}

    facts = {"torch_version": torch.__version__, "device": str(device), "torch_file": kind}
    return Model(
        platform="pytorch",
        inputs=inputs,
        outputs=outputs,
        predict=predict,
        batch=all(spec.shape[:1] == (-1,) for spec in (*inputs, *outputs)),
        properties=facts | ({"warning": loaded.warning} if loaded.warning else {}),
    )


def _inputs(loaded: Loaded, options: Options, name: str) -> tuple[TensorSpec, ...]:
    specs = options.inputs or loaded.inputs or options.sampled
    if not specs:
        raise LoadFailed(
            f"{name} does not say what it takes; say it in model.parameters.serving.inputs (name, datatype, shape)"
        )
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


def _copied(module: Any) -> Any:
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


def _dry_run(run: Run, inputs: tuple[TensorSpec, ...], options: Options) -> tuple[TensorSpec, ...] | Exception:
    """Returns the outputs that two runs show, or why the first one failed: with a sample's inputs, else with zeros or
    ones in several sizes."""
    failed: Exception | None = None
    for pair in _pairs(inputs, options):
        try:
            first, second = ({name: to_array(tensor) for name, tensor in run(made).items()} for made in pair)
        except (RuntimeError, ValueError, WrongInput, TypeError, torch.jit.Error) as error:
            failed = failed or error
        else:
            return tuple(_spec(name, array, second[name], inputs) for name, array in first.items())
    assert failed is not None  # there are always pairs
    return failed


def _spec(name: str, first: Any, second: Any, inputs: tuple[TensorSpec, ...]) -> TensorSpec:
    spec = spec_of(name, first, second)
    free = bool(spec.shape) and first.shape == second.shape and all(i.shape[:1] == (-1,) for i in inputs)
    return replace(spec, shape=(-1, *spec.shape[1:])) if free else spec  # the runs had the same rows


def _pairs(inputs: tuple[TensorSpec, ...], options: Options) -> Iterator[tuple[Arrays, Arrays]]:
    sample = options.sample
    if len(sample) == len(inputs) == 1:
        sample = {inputs[0].name: next(iter(sample.values()))}
    if sample.keys() == {spec.name for spec in inputs}:
        made = {spec.name: sample[spec.name].astype(DTYPES[spec.datatype]) for spec in inputs}
        yield made, made
    sizes = FREE if any(-1 in spec.shape[1:] for spec in inputs) else FREE[:1]
    rows = ROWS if any(spec.shape[:1] == (-1,) for spec in inputs) else ROWS[:1]
    for number, pair, counts in product((0, 1), sizes, rows):
        first, second = (_example(inputs, options, *each, number) for each in zip(pair, counts, strict=True))
        yield first, second


def _example(inputs: tuple[TensorSpec, ...], options: Options, free: int, rows: int, number: int) -> Arrays:
    values: Any = options.own.get("example", {})
    return {
        spec.name: np.full(
            tuple(d if d >= 0 else (rows if i == 0 else free) for i, d in enumerate(spec.shape)),
            values.get(spec.name, number),
            dtype=DTYPES[spec.datatype],
        )
        for spec in inputs
    }
