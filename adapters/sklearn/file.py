"""From a joblib, pickle or skops file to an estimator, as the trust level allows it."""

import sys
import warnings
import zipfile
from contextlib import nullcontext
from typing import Any, Final

from adapters.base import LoadFailed, ModelFiles, Options
from adapters.imports import framework, hidden, kit_on_path
from adapters.pickles.file import FREE_BYTES, RATIO
from adapters.pickles.foreign import is_unused
from adapters.pickles.gradient_boosting import BOOSTERS
from adapters.pickles.head import looks_like_skops
from adapters.pickles.names import names_in
from adapters.pickles.rules import COMPILED, permitted
from adapters.pickles.unpickler import load_pickle
from adapters.sklearn.conduct import check_conduct
from adapters.sklearn.skops_schema import refused_names, states_checked
from adapters.sklearn.structures import check_structures
from adapters.trust import allows_code, kind_refused, names_refused
from adapters.wording import failing

PICKLES_ONLY: Final = "builtins.getattr"
"""What the unpickler replaces by something narrower, and skops would not."""
NATIVE: Final = {
    "lightgbm.sklearn": "booster_.save_model('model.txt')",
    "lightgbm": "save_model('model.txt')",
    "xgboost": "save_model('model.ubj')",
    "catboost": "save_model('model.cbm')",
}
"""How the wrappers and boosters of these modules are saved as data."""
SKOPS_TRUSTED: Final = {name for name in COMPILED if not name.startswith("sklearn.linear_model.")} | {
    "sklearn.ensemble._hist_gradient_boosting.predictor.TreePredictor"
}
"""Types that skops leaves to its caller, because it does not check their contents: `structures` does.
https://skops.readthedocs.io/en/stable/persistence.html"""


def load_estimator(files: ModelFiles, options: Options) -> tuple[Any, str | None]:
    """Returns the checked estimator in `files.path`, and which scikit-learn saved it. Raises LoadFailed, Refused."""
    with (files.root / files.path).open("rb") as file:
        head = file.read(4096)
    kind, allowed = "a pickle", frozenset(options.allow_globals)
    if looks_like_skops(head):
        kind = "a skops file"
        estimator, version = _skops(files, options)
    elif allows_code(options.trust):
        return _any_pickle(files)
    elif options.trust == "data":
        why = "a pickle can run code"
        raise kind_refused(files.path, "a pickle", "data", why, _conversion(files), "restricted")
    else:
        estimator, versions = load_pickle(files, trust=options.trust, allowed=allowed, mapped=options.mapped)
        version = min(versions, default=None)
    if not allows_code(options.trust):
        check_conduct(estimator, files.path, kind, options.trust, allowed)
    check_structures(estimator, files.path)  # it calls methods of the model
    return estimator, version


def _conversion(files: ModelFiles) -> str | None:
    """Returns the command that makes a file of data of this pickle: of a booster, its framework's own; None for a
    booster inside another estimator, which no file of data holds."""
    named = {module for module, _ in names_in(files.root / files.path, files.path)}
    around = any(module.startswith("sklearn.") for module in named - {"sklearn.preprocessing._label"})
    for module, save in NATIVE.items():
        if any(f"{name}.".startswith(f"{module}.") for name in named):
            if around:
                return None
            return f'python -c "import joblib; joblib.load({files.path!r}).{save}"'
    return f"python -c \"import joblib, skops.io as s; s.dump(joblib.load({files.path!r}), 'model.skops')\""


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
    with hidden("sklearn.externals.array_api_compat.torch"):
        return framework("skops.io", "sklearn")


def _skops(files: ModelFiles, options: Options) -> tuple[Any, str | None]:
    skops = _skops_io()
    with failing(f"{files.path} cannot be read by skops {sys.modules['skops'].__version__}"):
        untrusted, refused = types_in(files, options)
        if refused:
            raise names_refused(files.path, "a skops file", refused, options.trust)
        # never with the kit on the path: its modules could replace any other
        checked = nullcontext() if allows_code(options.trust) else states_checked(options.allow_globals)
        with warnings.catch_warnings(record=True, action="always") as caught, checked:
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
        split.pop(PICKLES_ONLY, None)
        left -= {name for name, (module, _, last) in split.items() if permitted(module, last, frozenset())}
        left = {name for name in left if name not in BOOSTERS and not is_unused(name)}
    if not allows_code(options.trust):
        left |= refused_names(path, frozenset(options.allow_globals))
    return untrusted, left
