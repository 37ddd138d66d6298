"""From a joblib, pickle or skops file to an estimator, as the trust level allows it."""

from __future__ import annotations

import sys
import warnings
import zipfile
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Final

from adapters.base import LoadFailed, ModelFiles, Options
from adapters.frameworks import framework
from adapters.kit_code import on_path
from adapters.pickles.file import FREE_BYTES, RATIO, looks_like_skops
from adapters.pickles.rules import COMPILED, permitted
from adapters.pickles.unpickler import CONVERT, load_pickle
from adapters.sklearn.structures import check_structures
from adapters.trust import allows_code, kind_refused, names_refused
from adapters.wording import failing

SKOPS_TRUSTED: Final = {name for name in COMPILED if not name.startswith("sklearn.linear_model.")} | {
    "sklearn.ensemble._hist_gradient_boosting.predictor.TreePredictor"
}
"""Types that skops leaves to its caller, because it does not check their contents: `structures` does.

https://skops.readthedocs.io/en/stable/persistence.html
"""


@dataclass(frozen=True, slots=True)
class Found:
    """An estimator, and the version of scikit-learn that saved it, if its file says so."""

    estimator: Any
    version: str | None


def load_estimator(files: ModelFiles, options: Options) -> Found:
    """Returns the estimator in `files.path`, its structures checked. Raises LoadFailed, Refused."""
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
    recorded = warnings.catch_warnings(record=True, action="always")
    with on_path(files), recorded as caught, failing(f"{files.path} cannot be unpickled"):
        made = joblib.load(files.root / files.path)
    return Found(made, _version(caught))


def _version(caught: list[warnings.WarningMessage] | None) -> str | None:
    """Returns the version in scikit-learn's warning that another one saved the model."""
    found = [getattr(w.message, "original_sklearn_version", None) for w in caught or ()]
    return next((v for v in found if v), None)


def _skops(files: ModelFiles, options: Options) -> Found:
    skops = framework("skops.io", "sklearn")
    with failing(f"{files.path} cannot be read by skops {sys.modules['skops'].__version__}"):
        untrusted = untrusted_types(files)
        if refused := refused_types(untrusted, options):
            raise names_refused(files.path, "a skops file", refused, options.trust, "export it to ONNX with skl2onnx")
        # never with the kit on the path: its modules could replace any other
        with warnings.catch_warnings(record=True, action="always") as caught:
            made = skops.load(files.root / files.path, trusted=sorted(untrusted))
    return Found(made, _version(caught))


def untrusted_types(files: ModelFiles) -> set[str]:
    """Returns the types in a skops file that skops leaves to its caller, without making any. Raises LoadFailed."""
    path = files.root / files.path
    try:
        with zipfile.ZipFile(path) as archive:
            expanded = sum(member.file_size for member in archive.infolist())
    except zipfile.BadZipFile as error:
        raise LoadFailed(f"{files.path} is not a whole skops file: {error}") from error
    if expanded > max(FREE_BYTES, RATIO * path.stat().st_size):
        raise LoadFailed(f"{files.path} says it grows past {RATIO} times its size when decompressed")
    return set(framework("skops.io", "sklearn").get_untrusted_types(file=path))


def refused_types(untrusted: Iterable[str], options: Options) -> set[str]:
    """Returns those of the untrusted types of a skops file that the trust level does not allow either."""
    return {name for name in untrusted if not _may_be_made(name, options)}


def _may_be_made(name: str, options: Options) -> bool:
    if name in SKOPS_TRUSTED or name in options.allow_globals or allows_code(options.trust):
        return True
    module, _, attribute = name.rpartition(".")
    # What a pickle may name, skops may too: it makes instances and sets their state, and calls nothing else.
    return options.trust != "data" and permitted(module, attribute, frozenset()) is not None
