"""Dry runs: the outputs of a model that does not say them, from made-up rows, or else from its first answer."""

import re
from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import product
from typing import Final

import numpy as np

from adapters.base import LoadFailed, Model, Options, TensorSpec
from adapters.values import DTYPES, Array, Arrays, spec_of
from adapters.wording import reason, with_class

FREE: Final = ((2, 3), (17, 18), (64, 65), (224, 225), (1600, 1601))
"""Sizes of free dimensions, in pairs: an output dimension that differs between the two runs is free."""
ROWS: Final = ((2, 3), (4, 8), (16, 32), (1, 1))
"""Sizes of a free first axis: a model may reshape its rows in groups, or take one alone."""
CERTAIN: Final = (TypeError, AttributeError, NameError, ImportError)
"""Failures that no other row would mend."""
MISFIT: Final = re.compile(
    r"shapes cannot be multiplied|size mismatch|must match the size of tensor|normalized_shape|to have \d+ channels"
    r"|Expected .*D .*input|expected scalar type|same dtype"  # PyTorch
    r"|not aligned|could not be broadcast|mismatch in its core dimension"  # numpy
)
"""Words of failures for inputs of a shape or datatype that the model does not take, whatever the values."""
HINT: Final = "give the kit a sample"
UNKNOWN: Final = "unknown until the first answer"

Run = Callable[[Arrays], Arrays]


def shown(run: Run, inputs: tuple[TensorSpec, ...], options: Options) -> tuple[TensorSpec, ...] | Exception:
    """Returns the outputs that two runs show, or why the first one failed: with a sample's inputs, else with zeros or
    ones in several sizes."""
    failed: Exception | None = None
    for pair in _pairs(inputs, options):
        try:
            first, second = map(run, pair)
        except (MemoryError, LoadFailed):
            raise
        except Exception as error:  # noqa: BLE001 - a model can raise anything for a row that it does not take
            failed = failed or error
        else:
            return tuple(_spec(name, array, second[name], inputs) for name, array in first.items())
    assert failed is not None  # there are always pairs
    return failed


def learning(
    model: Model, run: Run, failed: Exception, hint: str = HINT, say: Callable[[BaseException], str] = reason
) -> Model:
    """Returns the model with outputs that its first answer shows, as no dry run did: the first one `failed`.
    Raises LoadFailed if no other row would mend that."""
    if isinstance(failed, CERTAIN):
        raise LoadFailed(f"the model cannot be run: {with_class(failed)}") from failed
    if MISFIT.search(str(failed)):
        said = "the model takes other inputs than model.parameters.serving.inputs says"
        raise LoadFailed(f"{said}: {say(failed)}") from failed

    def learn(arrays: Arrays) -> Model:
        outputs = tuple(_spec(name, array, array, model.inputs) for name, array in run(arrays).items())
        if any(-1 in spec.shape[1:] for spec in model.inputs):  # which of the others they decide, one answer cannot say
            outputs = tuple(replace(spec, shape=(-1,) * len(spec.shape)) for spec in outputs)
        return replace(model, outputs=outputs, batch=has_rows(model.inputs, outputs))

    return unknown(model, learn, say(failed), hint)


def unknown(model: Model, learn: Callable[[Arrays], Model], why: str, hint: str = HINT) -> Model:
    """Returns the model with outputs that only `learn` shows, and a property that says so."""
    said = f"{UNKNOWN}: no row that could be made up is one of this model's ({why}); {hint}"
    return replace(model, outputs=(), batch=False, learn=learn, properties={**model.properties, "outputs": said})


def has_rows(*specs: tuple[TensorSpec, ...]) -> bool:
    """True if the first axis of all of them is free."""
    return all(spec.shape[:1] == (-1,) for group in specs for spec in group)


def _spec(name: str, first: Array, second: Array, inputs: tuple[TensorSpec, ...]) -> TensorSpec:
    spec = spec_of(name, first, second)
    free = bool(spec.shape) and first.shape == second.shape and has_rows(inputs)
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
    values = options.own.get("example")
    given = values if isinstance(values, dict) else {}
    return {
        spec.name: np.full(
            tuple(d if d >= 0 else (rows if i == 0 else free) for i, d in enumerate(spec.shape)),
            given.get(spec.name, b"a" * number if spec.datatype == "BYTES" else number),
            dtype=DTYPES[spec.datatype],
        )
        for spec in inputs
    }
