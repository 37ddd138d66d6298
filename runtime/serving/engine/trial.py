"""Finds out whether a model may be batched: do joined rows get the answers of single ones, and does it pay?

What a model says of its first axis is not believed: there are models whose first axis is a state, or that give two
values a row. So rows that differ are predicted one by one, then joined, in several numbers, and compared. Pure: a trial
is a generator that yields requests, and is sent what the model made of them.
"""

from collections.abc import Generator, Sequence
from typing import Final, NamedTuple

import numpy as np

from adapters.base import Model
from adapters.values import DTYPES, Array, Arrays
from runtime.serving.engine.batches import Shape, Verdict, joined
from runtime.serving.engine.request import Request

CLOSE: Final = 1e-5
"""Floats may differ by this, relative to the largest one at that place in all rows tried."""
_SINGLES: Final = 8
_SIZES: Final = (2, 3, 8, 32)
_TELLING: Final = 8
"""Rows of a batch that shows whether batches pay."""
_PAYS, _REPEATS = 0.8, 5
"""A batch has to take less than this part of the time of as many single predictions, one of the times it is tried."""
_STEP_SECONDS: Final = 0.1
"""What is expected to take longer, and longer than three single predictions, is not tried: clients may wait for it."""
_ODD_SECONDS: Final = 0.25
"""A row that was made up and takes longer, and longer than three that are as given, ends the trial: others may take any
time. Rows depart from those given step by step, so that the first one to do so is not much longer."""
_SCALES: Final = tuple(10 ** (3 * step / _SINGLES - 2) for step in range(1, _SINGLES + 1))
"""How far they do, where nothing tells how far values are apart: from 0.02 to 10."""
_TEXTS: Final = (b"a", b"1", b"good", b"bad", b"free money, win now", b"see you at the meeting tomorrow")


class Wish(NamedTuple):
    """What the operator and the kit say about batching."""

    most_rows: int = 64
    delay_seconds: float = 0.0
    exact: bool = False
    """Only what is equal bit for bit."""
    must_pay: bool = True


class Ran(NamedTuple):
    """What a prediction gave: None if the model raised."""

    outputs: Arrays | None
    seconds: float


Trial = Generator[Request, Ran, Verdict]
Answers = list[tuple[Arrays, Arrays]]
"""Inputs of one row, and what the model made of them alone."""


class _Refuted(Exception):
    """The model is not batched; the text says why."""


def trial(model: Model, given: Sequence[Arrays], wish: Wish) -> Trial:
    """Tries the model on rows like those of `given`, inputs that it takes."""
    if not model.batch:
        return Verdict(reason="the model has no batch axis")
    shapes, most, worst = list[Shape](), wish.most_rows, 0.0
    try:
        for bases in _forms(model, given):
            shape, most, difference = yield from _tried(model, bases, wish._replace(most_rows=most))
            shapes.append(shape)
            worst = max(worst, difference)
    except _Refuted as refuted:
        if not shapes:
            return Verdict(reason=str(refuted))
    return Verdict(tuple(shapes), most, wish.delay_seconds, worst)


def _forms(model: Model, given: Sequence[Arrays]) -> list[list[Arrays]]:
    """Returns inputs with the same names and shapes together: those given, and all that the model has."""
    forms: dict[frozenset[str], list[Arrays]] = {}
    for inputs in given:
        same = forms.setdefault(frozenset(inputs), [])
        if not same or all(inputs[name].shape[1:] == same[0][name].shape[1:] for name in inputs):
            same.append(inputs)
    whole = {**_zeros(model), **given[0]}
    forms.setdefault(frozenset(whole), [whole])
    return list(forms.values())


def _zeros(model: Model) -> Arrays:
    return {
        spec.name: np.zeros([max(size, 1) for size in spec.shape], DTYPES[spec.datatype])
        for spec in model.inputs
        if spec.datatype != "BYTES"
    }


def _tried(model: Model, bases: list[Arrays], wish: Wish) -> Generator[Request, Ran, tuple[Shape, int, float]]:
    outputs, most, difference = yield from _compared(model, bases, wish, (*_SIZES, wish.most_rows))
    first = bases[0]
    trailing = frozenset((name, array.shape[1:]) for name, array in first.items())
    if longer := _longer(model, first):
        try:
            others, _, more = yield from _compared(model, [longer], wish._replace(most_rows=3, must_pay=False), (2, 3))
            return Shape(frozenset(first), outputs & others, None), most, max(difference, more)
        except _Refuted:
            return Shape(frozenset(first), outputs, trailing), most, difference
    return Shape(frozenset(first), outputs, None), most, difference


def _longer(model: Model, inputs: Arrays) -> Arrays | None:
    """Returns one row with the axes behind the first that may have any size two longer; None if there are none."""
    sizes = {spec.name: spec.shape[1:] for spec in model.inputs}
    pads = {name: [(0, 0), *((0, 2 * (size < 0)) for size in sizes[name])] for name in inputs}
    if not any(pad for pairs in pads.values() for _, pad in pairs):
        return None
    return {name: np.pad(array[:1], pads[name], mode="wrap") for name, array in inputs.items()}


def _compared(model: Model, bases: list[Arrays], wish: Wish,
              sizes: Sequence[int]) -> Generator[Request, Ran, tuple[frozenset[str], int, float]]:  # fmt: skip
    """Returns the outputs that are the same in batches, the most rows of one, and the largest difference."""
    rng = np.random.default_rng(1)
    singles, same, one = yield from _alone(model, bases, rng)
    last, seconds, worst = 1, one, 0.0
    wanted = tuple(spec.name for spec in model.outputs if spec.name in same)
    for size in sorted({size for size in sizes if 2 <= size <= wish.most_rows}):
        more = (seconds - one) / (last - 1) if last > 1 else one
        if seconds + more * (size - last) > max(_STEP_SECONDS, 3 * one):
            break
        pays = _PAYS * size * one
        found, took = yield from _together(singles, wanted, rng.permutation(size), pays)
        close = {name for name, difference in found.items() if difference <= (0.0 if wish.exact else CLOSE)}
        if last >= 3 and not same <= close:
            break
        same &= close
        if not same:
            raise _Refuted("joined rows got other answers than single ones")
        last, seconds, worst = size, took, max(worst, *(found[name] for name in same))
        if size == _TELLING and wish.must_pay and seconds > pays:
            break
    if wish.must_pay and seconds > _PAYS * last * one:
        raise _Refuted(f"it does not pay: {last} rows took {seconds / one:.1f} times as long as one")
    if not any(_vary([outputs[name] for _, outputs in singles]) for name in same):
        raise _Refuted("rows that differ got the same answer: a mix-up would not show")
    return frozenset(same), last, worst


def _together(singles: Answers, wanted: tuple[str, ...], order: Array,
              pays: float) -> Generator[Request, Ran, tuple[dict[str, float], float]]:  # fmt: skip
    """Returns how far the outputs of joined rows are from those of the rows alone, and the seconds that they take. What
    takes longer than `pays` is run again: something else may have had the processor."""
    chosen = [singles[index % len(singles)] for index in order]
    request = joined([Request(inputs, wanted) for inputs, _ in chosen])
    ran = yield request
    if ran.outputs is None:
        return {}, ran.seconds
    seconds = ran.seconds
    for _ in range(_REPEATS):
        if seconds > pays:
            seconds = min(seconds, (yield request).seconds)
    return _differences(ran.outputs, [outputs for _, outputs in chosen]), seconds


def _alone(model: Model, bases: list[Arrays],
           rng: "np.random.Generator") -> Generator[Request, Ran, tuple[Answers, set[str], float]]:  # fmt: skip
    """Returns rows with the answers that they get alone, the outputs to compare, and the seconds that one row takes."""
    pool = {name: np.concatenate([inputs[name] for inputs in bases]) for name in bases[0]}
    first = {name: rows[:1] for name, rows in pool.items()}
    wanted = tuple(spec.name for spec in model.outputs)
    ran = yield Request(first, wanted)
    if ran.outputs is None and model.default_outputs:
        ran = yield Request(first, wanted := model.default_outputs)
    answers, one = Answers(), np.inf
    made = (_varied(pool, rng, scale) for scale in _SCALES + _SCALES[-1:] * 2 * _SINGLES)
    for inputs in (first, *made):
        again = yield Request(inputs, wanted)
        if again.seconds > max(_ODD_SECONDS, 3 * ran.seconds):
            raise _Refuted(f"a row that it was tried on took {again.seconds:.2g} s, the one before {ran.seconds:.2g} s")
        if again.outputs is not None:
            answers.append((inputs, again.outputs))
            one = min(one, again.seconds)
        if len(answers) == _SINGLES:
            break
    if ran.outputs is None or not answers:
        raise _Refuted("the model does not take the row that it was tried on")
    twice = _differences(ran.outputs, [answers[0][1]])
    if steady := {name for name, difference in twice.items() if not difference}:
        return answers, steady, one
    raise _Refuted("a row got not one row of answers, or others the second time")


def _varied(pool: Arrays, rng: "np.random.Generator", scale: float) -> Arrays:
    """Returns a row whose values come from rows of `pool`, each from any of them, and differ a little from them: by
    `scale` where all rows are the same."""
    made: Arrays = {}
    for name, rows in pool.items():
        row = np.take_along_axis(rows, rng.integers(len(rows), size=(1, *rows.shape[1:])), axis=0)
        many, kind = bool((rows != rows[:1]).any()), row.dtype.kind
        if kind == "f":
            spread = 0.01 * rows.std(axis=0) if many else scale
            row = (row + spread * rng.standard_normal(row.shape)).astype(row.dtype)
        elif kind == "b":
            row = rng.integers(2, size=row.shape).astype(bool)
        elif kind in "iu" and not many:
            row += rng.integers(3, size=row.shape).astype(row.dtype)
        elif kind == "O" and not many:
            choice = np.array([*_TEXTS, *rows.ravel()[:1]], object)
            row = choice[rng.integers(len(choice), size=row.shape)]
        made[name] = row
    return made


def _differences(outputs: Arrays, singles: Sequence[Arrays]) -> dict[str, float]:
    """Returns how far each output of joined rows is from those of the rows alone; without those of other shapes."""
    found = {}
    for name, array in outputs.items():
        alone = [single[name] for single in singles]
        if all(part.ndim and len(part) == 1 for part in alone) and len({part.shape for part in alone}) == 1:
            right = np.concatenate(alone)
            if right.shape == array.shape:
                found[name] = _difference(array, right)
    return found


def _difference(got: Array, right: Array) -> float:
    """Returns the largest difference, relative to the largest value at that place in all rows; inf for another kind."""
    if got.tobytes() == right.tobytes() if got.dtype.kind != "O" else np.array_equal(got, right):
        return 0.0
    if got.dtype.kind != "f":
        return np.inf
    finite = np.isfinite(right)
    if not np.array_equal(got[~finite], right[~finite], equal_nan=True) or not np.isfinite(got[finite]).all():
        return np.inf
    wide = np.where(finite, right, 0).astype(np.float64)
    far = np.abs(np.where(finite, got, 0).astype(np.float64) - wide)
    scale = np.broadcast_to(np.abs(wide).max(axis=0), far.shape)
    tiny = np.finfo(float).tiny
    return max(tiny, float((far / np.where(scale == 0, tiny, scale)).max()))


def _vary(answers: list[Array]) -> bool:
    return any(not np.array_equal(answers[0], other) for other in answers[1:])
