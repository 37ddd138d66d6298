"""What a worker says of a load that failed, from errors that really happen."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from adapters.base import LoadFailed, Refused
from runtime.errors import SamplesDiffer
from runtime.link.messages import Failed
from runtime.worker.failures import failed

MANY = 10**14


def python() -> object:
    return bytearray(MANY)


def numpy() -> object:
    return np.zeros(MANY)


def pytorch() -> object:
    return pytest.importorskip("torch").zeros(MANY)


def wrapped() -> object:
    try:
        return bytearray(MANY)
    except MemoryError as error:
        raise LoadFailed("model.pkl is not a pickle of a model") from error


def in_a_sample() -> object:
    try:
        return wrapped()
    except LoadFailed:
        raise SamplesDiffer("sample 1: the model does not answer its request")  # noqa: B904 - the context tells it


def cpp() -> object:
    raise RuntimeError("[ONNXRuntimeError] : 6 : RUNTIME_EXCEPTION : std::bad_alloc")


@pytest.mark.parametrize(
    "fail",
    [python, numpy, pytest.param(pytorch, marks=pytest.mark.slow), wrapped, in_a_sample, cpp],
    ids=lambda fail: fail.__name__,
)
def test_too_little_memory_is_said_in_its_own_words(fail: Callable[[], object]) -> None:
    with pytest.raises(Exception) as raised:  # noqa: PT011 - each raises its own
        fail()
    said = failed("m", raised.value)
    assert (said.model, said.cause) == ("m", "LoadFailed")
    assert said.message.startswith("the model does not fit into memory")
    assert said.message.endswith("; give the process more, or serve a smaller model")
    assert "\n" not in said.message


def test_other_failures_keep_their_kind_and_line() -> None:
    assert failed("m", Refused("no")) == Failed("m", "Refused", "no")
    reason = "the runtime failed while loading the model: KeyError: 'x'; --log-level debug says more"
    assert failed("m", KeyError("x")) == Failed("m", "Failure", reason)
