"""A fitted estimator as a `Model`: its methods are the outputs."""

import re
import warnings
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from functools import partial
from typing import Any, Final

import numpy as np

from adapters import checks
from adapters.base import LoadFailed, Model, ModelFiles, Options, TensorSpec, WrongInput
from adapters.dry import unknown
from adapters.sklearn.input import inputs_of
from adapters.sklearn.learnt import framework_of, is_boosted
from adapters.sklearn.walk import walk
from adapters.trust import allows_code
from adapters.values import DATATYPE, DTYPES, Arrays, Rows, to_protocol, twice
from adapters.wording import listed, reason

METHODS: Final = (
    "predict", "predict_proba", "predict_log_proba", "decision_function", "score_samples", "transform", "apply",
)  # fmt: skip
"""The methods of scikit-learn that take rows and return rows; the first that a model has is its default output."""

_LONG_TEXT: Final = 1 << 16
"""Characters, 3 ms of a regular expression."""

AGAIN: Final = "save it again, or serve it with the version that saved it"
_SAY_COLUMNS: Final = (
    "if a column holds something else than numbers, say the columns in a Kitfile beside it: "
    "model.parameters.serving.inputs"
)

_Outputs = dict[str, tuple[TensorSpec, ...]]
"""By method."""


def as_model(estimator: Any, version: str | None, files: ModelFiles, options: Options) -> Model:
    """Returns the model of the estimator, with an output for each method; scikit-learn `version` saved it."""
    own = checks.check(options.own, {"n_jobs": checks.THREADS}, "sklearn")
    methods = [name for name in METHODS if callable(getattr(estimator, name, None))]
    if not methods:
        raise LoadFailed(_cannot_predict(estimator, files.path))
    jobs = own.get("n_jobs", 1)  # starting threads costs more than most predictions
    for part in walk(estimator):
        _prepare(part, jobs)
    # a matrix in the order of the columns is what inputs_of promises; scikit-learn would warn of it at each place once
    warnings.filterwarnings("ignore", message="X does not have valid feature names")
    inputs, classes = inputs_of(estimator, options), getattr(estimator, "classes_", None)
    for part in walk(estimator):
        _mend(part)
    tried = _tried(estimator, methods, inputs, options, _other_version(version))

    def made(outputs: _Outputs, row: Mapping[str, Sequence[Any]] = inputs.row) -> Model:
        return Model(
            platform="sklearn",
            inputs=inputs.specs,
            also=inputs.also,
            example=row,
            outputs=tuple(spec for specs in outputs.values() for spec in specs),
            predict=_predict(estimator, inputs.build, outputs),
            default_outputs=tuple(spec.name for spec in next(iter(outputs.values()), ())),
            batch=True,
            fresh_outputs=True,
            labels=tuple(map(str, classes.tolist())) if isinstance(classes, np.ndarray) and classes.ndim == 1 else None,
            properties={**inputs.properties, **_properties(estimator, version)},
        )

    def learn(arrays: Arrays) -> Model:
        try:
            return made(_outputs(estimator, methods, lambda: inputs.build(twice(arrays))))
        except ValueError as error:
            raise WrongInput(reason(error)) from error

    return unknown(made({}), learn, reason(tried)) if isinstance(tried, Exception) else made(*tried)


def _cannot_predict(made: Any, path: str) -> str:
    """Returns a line about an object that is no model, and about what it holds instead."""
    parts = made.items() if isinstance(made, Mapping) else enumerate(made) if isinstance(made, list | tuple) else ()
    models = [(key, part) for key, part in parts if any(callable(getattr(part, name, None)) for name in METHODS)]
    if not models:
        itself = "" if hasattr(made, "fit") else "; save the fitted estimator itself"
        return f"{path} holds a {type(made).__name__}, which has none of {', '.join(METHODS)}{itself}"
    held = listed(f"a {type(part).__name__} as {key!r}" for key, part in models)
    key, _ = next((pair for pair in models if hasattr(pair[1], "predict")), models[0])
    save = f"joblib.dump(joblib.load({path!r})[{key!r}], 'model.joblib')"
    several = ", of several make a Pipeline" if len(models) > 1 else ""
    return f"{path} holds a {type(made).__name__} with {held}: save the model alone{several}: {save}"


def _prepare(part: Any, jobs: int) -> None:
    """Sets the threads that a part of the model uses, and what its framework loses when it loads it."""
    if framework_of(part) == "catboost" and getattr(part, "n_features_in_", None) == 0:
        part._n_features_in = len(part.feature_names_)  # noqa: SLF001 - CatBoost 1.2.10 has no other way
    if framework_of(part) == "xgboost" and hasattr(part, "set_param"):
        part.set_param({"nthread": jobs})
    elif getattr(part, "n_jobs", None) is not None or (is_boosted(part) and hasattr(part, "n_jobs")):
        part.n_jobs = jobs
    if hasattr(part, "_n_threads"):  # those of the machine that KMeans was trained on
        part._n_threads = max(jobs, 1)  # noqa: SLF001 - it has no public name
    if hasattr(part, "build_tokenizer") and part.tokenizer is None and isinstance(part.token_pattern, str):
        with suppress(re.error):  # scikit-learn says it
            part.tokenizer = _tokenizer(part.token_pattern)


def _tokenizer(pattern: str) -> Callable[[str], list[str]] | None:
    """Returns what finds the words that scikit-learn's own finds, which holds the GIL meanwhile: 0.7 s for 15 MiB."""
    compiled = re.compile(pattern)
    group = compiled.groups
    if group > 1:
        return None  # scikit-learn refuses it

    def words(text: str) -> list[str]:
        if len(text) < _LONG_TEXT:
            return compiled.findall(text)
        return [match[group] or "" for match in compiled.finditer(text)]

    return words


def _mend(part: Any) -> None:
    """Sets what would refuse rows that are in the model's order, after `inputs_of` has read it."""
    if framework_of(part) == "xgboost" and hasattr(part, "feature_names"):
        part.feature_names = None  # XGBoost would ask a matrix for them


def _tried(
    estimator: Any, methods: Sequence[str], inputs: Rows, options: Options, other: str
) -> tuple[_Outputs, Mapping[str, Sequence[Any]]] | Exception:
    """Returns the outputs of each method, and the row of the dry run that showed them; or why the first run failed, if
    no row is one of this model's. Raises LoadFailed if no row can be right."""
    failed: Exception | None = None
    made_up: list[tuple[float, Callable[[], Any]]] = [
        (number, partial(inputs.example, number)) for number in (0, 1, 0.5)
    ]
    if options.sample:
        made_up.insert(0, (0, partial(inputs.sampled, options.sample)))
    for number, rows in made_up:
        try:
            return _outputs(estimator, methods, rows), inputs.filled(number) if number else inputs.row
        except MemoryError:
            raise
        except Exception as error:  # noqa: BLE001 - these rows may be none of this model's: zeros have no logarithm
            failed = failed or error
    # scikit-learn says ValueError of rows; the kit's own code may raise anything
    if isinstance(failed, TypeError | AttributeError) and not allows_code(options.trust):
        advice = f"{other}: {AGAIN}" if other else "" if options.inputs or len(inputs.specs) == 1 else _SAY_COLUMNS
        why = f"{reason(failed)}{'; ' * bool(advice)}{advice}"
        raise LoadFailed(f"a {type(estimator).__name__} that cannot predict: {why}") from failed
    assert failed is not None  # there are always rows
    return failed


def _outputs(estimator: Any, methods: Sequence[str], rows: Callable[[], Any]) -> _Outputs:
    """Returns the outputs that each method has for `rows()`. A method that fails where another one answers is left out,
    as the leaves of a linear booster are. If all fail, raises what the first one does."""
    outputs, failed = _Outputs(), None
    for name in methods:
        try:
            outputs[name] = _specs(estimator, name, rows())
        except MemoryError:
            raise
        except Exception as error:  # noqa: BLE001 - the kit's own code may raise anything
            failed = failed or error
    if failed and not outputs:
        raise failed
    return outputs


def _specs(estimator: Any, method: str, rows: Any) -> tuple[TensorSpec, ...]:
    """Returns names, datatypes and shapes of what a method returns for these rows."""
    with warnings.catch_warnings(action="ignore"):
        made = getattr(estimator, method)(rows)
    if isinstance(made, list | tuple) and made and all(hasattr(m, "shape") for m in made):
        return tuple(_spec(f"{method}_{i}", array) for i, array in enumerate(made))
    return (_spec(method, made),)


def _spec(name: str, made: Any) -> TensorSpec:
    array = dense(made)
    return TensorSpec(name, DATATYPE[array.dtype], (-1, *array.shape[1:]))


def dense(made: Any) -> Any:
    """Returns the answer of a method as an array of the protocol: sparse matrices filled, DataFrames without names."""
    if hasattr(made, "toarray"):
        made = made.toarray()
    elif hasattr(made, "to_numpy"):
        made = made.to_numpy()
    return to_protocol(np.asarray(made))


def _predict(
    estimator: Any, build: Callable[[dict[str, Any]], Any], outputs: dict[str, tuple[TensorSpec, ...]]
) -> Callable[[Arrays, tuple[str, ...]], Arrays]:
    bound = {name: getattr(estimator, name) for name in outputs}
    places = {spec.name: (method, i, spec) for method, specs in outputs.items() for i, spec in enumerate(specs)}

    def predict(arrays: Arrays, wanted: tuple[str, ...]) -> Arrays:
        results: dict[str, Any] = {}
        answers: Arrays = {}
        try:
            rows = build(arrays)
            for method in {places[name][0] for name in wanted}:
                results[method] = bound[method](rows)
        except ValueError as error:  # a category that was not seen when the model was fitted, NaN where it takes none
            raise WrongInput(reason(error)) from error
        for name in wanted:
            method, i, spec = places[name]
            made = results[method] if name == method else results[method][i]  # of several, each has a name of its own
            answers[name] = _as_declared(dense(made), spec)
        return answers

    return predict


def _as_declared(array: Any, spec: TensorSpec) -> Any:
    if array.ndim < len(spec.shape):  # for a single row some estimators drop the first axis
        array = array.reshape(1, *array.shape)
    dtype = DTYPES[spec.datatype]
    return array if array.dtype == dtype else array.astype(dtype)


def _properties(estimator: Any, version: str | None) -> dict[str, str]:
    import sklearn

    steps = ", ".join(type(step).__name__ for _, step in getattr(estimator, "steps", ()))
    described = type(estimator).__name__ + (f"({steps})" if steps else "")
    known = {"sklearn_version": str(sklearn.__version__), "sklearn_estimator": described}
    if other := _other_version(version):
        known |= {"sklearn_version_saved": str(version), "warning": f"{other}: its answers may differ; {AGAIN}"}
    return known


def _other_version(saved: str | None) -> str:
    """Returns what is said of a model that another version than the installed one saved; "" if the same one did."""
    import sklearn

    if saved is None or saved == sklearn.__version__:
        return ""
    return f"the model was saved by scikit-learn {saved} and is served by {sklearn.__version__}"
