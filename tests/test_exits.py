import inspect

import pytest

from adapters import base
from runtime import errors
from runtime.exits import exit_code

NAMED = [
    kind
    for module in (errors, base)
    for _, kind in inspect.getmembers(module, inspect.isclass)
    if issubclass(kind, errors.Failure | base.AdapterError) and not issubclass(kind, errors.RequestFailed)
]


@pytest.mark.parametrize(
    ("kind", "code"),
    [
        (errors.InvalidReference, 2),
        (errors.CannotListen, 3),
        (errors.DigestMismatch, 65),
        (base.AmbiguousModel, 65),
        (errors.NotFound, 66),
        (errors.RegistryUnavailable, 69),
        (base.LoadFailed, 70),
        (errors.CrashLoop, 71),
        (errors.StorageFailed, 74),
        (errors.SamplesDiffer, 76),
        (errors.LoginRefused, 77),
        (base.MissingFramework, 78),
        (base.NoAdapter, 78),
        (base.Refused, 79),
        (errors.Cancelled, 0),
        (ZeroDivisionError, 1),
    ],
)
def test_a_failure_has_its_documented_code(kind, code):
    assert exit_code(kind("x")) == code


@pytest.mark.parametrize("kind", NAMED, ids=lambda kind: kind.__name__)
def test_every_failure_has_a_code_of_its_own(kind):
    if kind not in (errors.Failure, base.AdapterError):
        assert exit_code(kind("x")) != 1
