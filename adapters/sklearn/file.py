"""From a joblib, pickle or skops file to an estimator, as the trust level allows it."""

import sys
import warnings
import zipfile
from typing import Any, Final

from adapters.base import LoadFailed, ModelFiles, Options
from adapters.imports import framework, kit_on_path
from adapters.pickles.file import FREE_BYTES, RATIO, looks_like_skops
from adapters.pickles.rules import COMPILED, permitted
from adapters.pickles.unpickler import CONVERT, load_pickle
from adapters.sklearn.conduct import check_conduct
from adapters.sklearn.skops_schema import refused_names
from adapters.sklearn.structures import check_structures
from adapters.trust import allows_code, kind_refused, names_refused
from adapters.wording import failing

SKOPS_TRUSTED: Final = {name for name in COMPILED if not name.startswith("sklearn.linear_model.")} | {
    "sklearn.ensemble._hist_gradient_boosting.predictor.TreePredictor"
}
"""Types that skops leaves to its caller, because it does not check their contents: `structures` does.
https://skops.readthedocs.io/en/stable/persistence.html"""
_FROM_SKOPS: Final = "export it to ONNX with skl2onnx"


def load_estimator(files: ModelFiles, options: Options) -> tuple[Any, str | None]:
    """Returns the checked estimator in `files.path`, and which scikit-learn saved it. Raises LoadFailed, Refused."""
    with (files.root / files.path).open("rb") as file:
        head = file.read(4096)
    convert = CONVERT.format(file=files.path)
    kind, allowed = "a pickle", frozenset(options.allow_globals)
    if looks_like_skops(head):
        kind, convert = "a skops file", _FROM_SKOPS
        estimator, version = _skops(files, options)
    elif allows_code(options.trust):
        return _any_pickle(files)
    elif options.trust == "data":
        raise kind_refused(files.path, "a pickle", "data", "a pickle can run code", convert, "restricted")
    else:
        estimator, versions = load_pickle(files, trust=options.trust, allowed=allowed)
        version = min(versions, default=None)
    check_structures(estimator, files.path)
    if not allows_code(options.trust):
        check_conduct(estimator, files.path, kind, options.trust, allowed, convert)
    return estimator, version


def _any_pickle(files: ModelFiles) -> tuple[Any, str | None]:
    joblib = framework("joblib", "sklearn")
    recorded = warnings.catch_warnings(record=True, action="always")
    with kit_on_path(files), recorded as caught, failing(f"{files.path} cannot be unpickled"):
        return joblib.load(files.root / files.path), _version(caught)


def _version(caught: list[warnings.WarningMessage] | None) -> str | None:
    """Returns the version in scikit-learn's warning that another one saved the model."""
    found = [getattr(w.message, "original_sklearn_version", None) for w in caught or ()]
    return next((v for v in found if v), None)


def _skops_io() -> Any:
    """Returns `skops.io`. Its import walks all of scikit-learn, one module of which imports torch: that takes 2 s."""
    unneeded = "sklearn.externals.array_api_compat.torch"
    hidden = unneeded not in sys.modules
    if hidden:
        sys.modules[unneeded] = None  # type: ignore[assignment]  # the documented way to make an import fail
    try:
        return framework("skops.io", "sklearn")
    finally:
        if hidden:
            del sys.modules[unneeded]


def _skops(files: ModelFiles, options: Options) -> tuple[Any, str | None]:
    skops = _skops_io()
    with failing(f"{files.path} cannot be read by skops {sys.modules['skops'].__version__}"):
        untrusted, refused = types_in(files, options)
        if refused:
            raise names_refused(files.path, "a skops file", refused, options.trust, _FROM_SKOPS)
        # never with the kit on the path: its modules could replace any other
        with warnings.catch_warnings(record=True, action="always") as caught:
            return skops.load(files.root / files.path, trusted=sorted(untrusted)), _version(caught)


def types_in(files: ModelFiles, options: Options) -> tuple[set[str], set[str]]:
    """Returns the types that skops leaves to its caller, and those that are refused; makes none. Raises LoadFailed."""
    path = files.root / files.path
    try:
        with zipfile.ZipFile(path) as archive:
            expanded = sum(member.file_size for member in archive.infolist())
    except zipfile.BadZipFile as error:
        raise LoadFailed(f"{files.path} is not a whole skops file: {error}") from error
    if expanded > max(FREE_BYTES, RATIO * path.stat().st_size):
        raise LoadFailed(f"{files.path} says it grows past {RATIO} times its size when decompressed")
    untrusted = set(_skops_io().get_untrusted_types(file=path))
    left = set() if allows_code(options.trust) else untrusted - SKOPS_TRUSTED - set(options.allow_globals)
    split = {name: name.rpartition(".") for name in left}
    # What a pickle may name, skops may too: it makes instances and sets their state, and calls nothing else.
    if options.trust != "data":
        left -= {name for name, (module, _, last) in split.items() if permitted(module, last, frozenset())}
    if not allows_code(options.trust):
        left |= refused_names(path, frozenset(options.allow_globals))
    return untrusted, left
