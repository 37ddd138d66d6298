"""From a joblib, pickle or skops file to an estimator, under the trust level."""

from __future__ import annotations

import sys
import warnings
import zipfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final

from adapters.base import LoadFailed, ModelFiles, Options
from adapters.frameworks import framework
from adapters.pickles.file import FREE_BYTES, RATIO, looks_like_skops
from adapters.pickles.rules import COMPILED, permitted
from adapters.pickles.unpickler import CONVERT, load_pickle, reason
from adapters.sklearn.checks import check_structures
from adapters.trust import allows_code, kind_refused, names_refused

SKOPS_TRUSTED: Final = {name for name in COMPILED if not name.startswith("sklearn.linear_model.")} | {
    "sklearn.ensemble._hist_gradient_boosting.predictor.TreePredictor"
}
"""What skops leaves to its caller because its contents are not checked: `sklearn_checks` checks them."""


@dataclass(frozen=True, slots=True)
class Found:
    """An estimator, and the version of scikit-learn that the file says it was saved by."""

    estimator: Any
    version: str | None


def load_estimator(files: ModelFiles, options: Options) -> Found:
    """The estimator in `files.path`, its structures checked. Raises LoadFailed, Refused."""
    with (files.root / files.path).open("rb") as file:
        head = file.read(4096)
    if looks_like_skops(head):
        found = _skops(files, options)
    elif allows_code(options.trust):
        return _any_pickle(files)
    elif options.trust == "data":
        convert = CONVERT.format(file=files.path)
        raise kind_refused(files.path, "a pickle", "data", "a pickle can run code", convert, "restricted")
    else:
        made, versions = load_pickle(files, trust=options.trust, allowed=frozenset(options.allow_globals))
        found = Found(made, min(versions, default=None))
    check_structures(found.estimator, files.path)
    return found


def _any_pickle(files: ModelFiles) -> Found:
    joblib = framework("joblib", "sklearn")
    with _kit_on_path(files), _recorded() as caught:
        try:
            made = joblib.load(files.root / files.path)
        except Exception as error:  # what a pickle does is the kit's business at this level
            raise LoadFailed(f"{files.path} cannot be unpickled: {reason(error)}") from error
    return Found(made, _version(caught))


@contextmanager
def _kit_on_path(files: ModelFiles) -> Iterator[None]:
    from adapters.kit_code import on_path

    with on_path(files):
        yield


@contextmanager
def _recorded() -> Iterator[list[warnings.WarningMessage]]:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        yield caught


def _version(caught: list[warnings.WarningMessage]) -> str | None:
    found = [getattr(w.message, "original_sklearn_version", None) for w in caught]
    return next((v for v in found if v), None)


def _skops(files: ModelFiles, options: Options) -> Found:
    skops = framework("skops.io", "sklearn")
    path = files.root / files.path
    try:
        untrusted = untrusted_types(files)
        if refused := refused_types(untrusted, options):
            raise names_refused(files.path, "a skops file", refused, options.trust, "export it to ONNX with skl2onnx")
        with _recorded() as caught:  # never with the kit on the path: its modules could stand in for any other
            made = skops.load(path, trusted=sorted(untrusted))
    except (ImportError, AttributeError, zipfile.BadZipFile, KeyError, ValueError, TypeError, OSError) as error:
        raise LoadFailed(
            f"{files.path} cannot be read by skops {sys.modules['skops'].__version__}: {reason(error)}"
        ) from error
    return Found(made, _version(caught))


def untrusted_types(files: ModelFiles) -> set[str]:
    """The types in a skops file that skops leaves to its caller; nothing of it is made. Raises LoadFailed."""
    _check_size(files)
    return set(framework("skops.io", "sklearn").get_untrusted_types(file=files.root / files.path))


def refused_types(untrusted: Iterable[str], options: Options) -> set[str]:
    """Those of the types in a skops file which skops does not vouch for, that the trust level does not allow either."""
    return {name for name in untrusted if not _skops_may(name, options)}


def _skops_may(name: str, options: Options) -> bool:
    if name in SKOPS_TRUSTED or name in options.allow_globals or allows_code(options.trust):
        return True
    module, _, attribute = name.rpartition(".")
    # What a pickle may name, skops may too: it makes instances and sets their state, and calls nothing else.
    return options.trust != "data" and permitted(module, attribute, frozenset()) is not None


def _check_size(files: ModelFiles) -> None:
    path = files.root / files.path
    try:
        with zipfile.ZipFile(path) as archive:
            expanded = sum(member.file_size for member in archive.infolist())
    except zipfile.BadZipFile as error:
        raise LoadFailed(f"{files.path} is not a whole skops file: {error}") from error
    if expanded > max(FREE_BYTES, RATIO * path.stat().st_size):
        raise LoadFailed(f"{files.path} says it grows past {RATIO} times its size when decompressed")
