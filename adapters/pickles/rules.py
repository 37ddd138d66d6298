"""The allow-list: the exact names that a scikit-learn pickle may use, and for what.

There are three uses. CLASS: the pickle may make instances, by `cls.__new__(cls)` and their state. CALL: it may call the
function, most of them in `parts`. VALUE: it may hold the object and never call it. Any other name is refused before
its module is imported.
"""

import re
from _compat_pickle import IMPORT_MAPPING, NAME_MAPPING  # what pickle itself uses; it has no public name
from collections.abc import Callable, Mapping
from importlib import import_module
from operator import attrgetter
from typing import Any, Final, NamedTuple

import numpy as np

from adapters.pickles import parts

CLASS, CALL, VALUE = "class", "call", "value"


class Permitted(NamedTuple):
    """What the pickle gets for a name, and its one use. `any`: every use, as the operator allowed the name."""

    use: str
    thing: Any
    any: bool = False
    set_state: Callable[[Any, Any], None] | None = None
    """Sets the state of an instance, in place of its class."""


SKLEARN: Final = re.compile(r"sklearn(\.\w+)+")
CLOSED: Final = frozenset({"tests", "externals", "conftest", "experimental", "datasets", "_build_utils", "_testing"})
"""Parts of scikit-learn that no model needs."""
JOBLIB_ARRAY: Final = ("joblib.numpy_pickle", "NumpyArrayWrapper")
"""The class that joblib writes in place of an array."""

CALLS: Final[Mapping[str, Callable[..., Any]]] = {
    "builtins.set": parts.make_set(set),
    "builtins.frozenset": parts.make_set(frozenset),
    "builtins.slice": slice,
    "builtins.range": range,
    "builtins.complex": complex,
    "builtins.getattr": parts.method_of,
    "builtins.bytes": parts.make_bytes,
    "builtins.bytearray": lambda *args: bytearray(parts.make_bytes(*args)),
    "collections.OrderedDict": parts.ordered_dict,
    "collections.defaultdict": parts.default_dict,
    "_codecs.encode": parts.encode,
    "copyreg._reconstructor": parts.reconstructor,
    "functools.partial": parts.Partial.of,  # HistGradientBoosting has one; of scikit-learn's and numpy's functions
    "numpy.dtype": parts.make_dtype,
    "numpy._core.multiarray._reconstruct": parts.empty_array,
    "numpy._core.multiarray.scalar": parts.make_scalar,
    "numpy._core.numeric._frombuffer": parts.array_from_buffer,
    "numpy.ma.core._mareconstruct": parts.empty_masked_array,
    "numpy.random._pickle.__randomstate_ctor": parts.drawing(np.random.RandomState),
    "numpy.random._pickle.__generator_ctor": parts.drawing(np.random.Generator),
    "numpy.random._pickle.__bit_generator_ctor": parts.bit_generator,
    "numpy.random.bit_generator.__pyx_unpickle_SeedSequence": parts.seed_sequence,
}

_NUMPY_FUNCTIONS: Final = (
    "exp", "expm1", "exp2", "log", "log1p", "log2", "log10", "sqrt", "square", "cbrt", "power", "float_power",
    "abs", "absolute", "fabs", "sign", "negative", "positive", "reciprocal", "maximum", "minimum", "fmax", "fmin",
    "add", "subtract", "multiply", "divide", "true_divide", "floor_divide", "mod", "remainder", "fmod", "hypot",
    "sin", "cos", "tan", "arcsin", "arccos", "arctan", "arctan2", "sinh", "cosh", "tanh", "arcsinh", "arccosh",
    "arctanh", "deg2rad", "rad2deg", "degrees", "radians", "ceil", "floor", "trunc", "rint", "round", "around", "fix",
    "isnan", "isfinite", "isinf", "logical_not", "nan_to_num", "clip", "heaviside", "signbit", "cumsum", "diff",
    "ravel", "squeeze", "atleast_2d", "asarray", "nanmean", "nanmedian", "nanmax", "nanmin", "nansum", "nanstd",
)  # fmt: skip
"""Of numbers alone: what FunctionTransformer is documented and used with, and aggregations of columns."""

_VALUES: Final[Mapping[str, tuple[str, ...]]] = {
    "builtins": ("bool", "dict", "float", "int", "list", "object", "str", "tuple"),
    "numpy": (
        "ndarray", "memmap", "matrix",  # the mean of a sparse matrix is a matrix: BisectingKMeans keeps it
        "bool_", "bool", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64",
        "float16", "float32", "float64", "complex64", "complex128", "object_", "str_", "bytes_", "intp",
        "generic", "number", "integer", "signedinteger", "unsignedinteger", "inexact", "floating", "character",
        "flexible",
        "mean", "median", "max", "min", "amax", "amin", "sum", "prod", "std", "var",
        *_NUMPY_FUNCTIONS,
    ),
    # where numpy 1 looked for them first
    "numpy._core._multiarray_umath": _NUMPY_FUNCTIONS,
    "numpy._core.umath": _NUMPY_FUNCTIONS,
    "numpy._core.numeric": _NUMPY_FUNCTIONS,
    "numpy._core.fromnumeric": _NUMPY_FUNCTIONS,
    "scipy.special._ufuncs": ("expit", "logit", "log_ndtr", "ndtr", "ndtri"),
    "numpy.random._mt19937": ("MT19937",),
    "numpy.random._pcg64": ("PCG64", "PCG64DXSM"),
    "numpy.random._philox": ("Philox",),
    "numpy.random._sfc64": ("SFC64",),
    "numpy.ma": ("MaskedArray",),
    "numpy.ma.core": ("MaskedArray",),
    "scipy._lib.array_api_compat.numpy._aliases": ("asarray",),
    "sklearn.cluster._kmeans": ("_kmeans_single_lloyd", "_kmeans_single_elkan"),
    "sklearn.feature_selection._univariate_selection": (
        "chi2", "f_classif", "f_oneway", "f_regression", "r_regression",
    ),
    "sklearn.feature_selection._mutual_info": ("mutual_info_classif", "mutual_info_regression"),
    "sklearn.metrics._classification": (
        "accuracy_score", "balanced_accuracy_score", "brier_score_loss", "cohen_kappa_score", "d2_brier_score",
        "d2_log_loss_score", "f1_score", "fbeta_score", "jaccard_score", "log_loss", "matthews_corrcoef",
        "precision_score", "recall_score",
    ),
    "sklearn.metrics._ranking": ("average_precision_score", "roc_auc_score", "top_k_accuracy_score"),
    "sklearn.metrics._regression": (
        "d2_absolute_error_score", "explained_variance_score", "max_error", "mean_absolute_error",
        "mean_absolute_percentage_error", "mean_gamma_deviance", "mean_poisson_deviance", "mean_squared_error",
        "mean_squared_log_error", "median_absolute_error", "r2_score", "root_mean_squared_error",
        "root_mean_squared_log_error",
    ),
    "sklearn.metrics._scorer": ("negative_likelihood_ratio", "positive_likelihood_ratio"),
    "sklearn.utils.validation": ("check_array",),
    "sklearn.metrics.cluster._supervised": (
        "adjusted_mutual_info_score", "adjusted_rand_score", "completeness_score", "fowlkes_mallows_score",
        "homogeneity_score", "mutual_info_score", "normalized_mutual_info_score", "rand_score", "v_measure_score",
    ),
}  # fmt: skip

_LOSSES: Final = (
    "AbsoluteError", "ExponentialLoss", "HalfBinomialLoss", "HalfGammaLoss", "HalfMultinomialLoss", "HalfPoissonLoss",
    "HalfSquaredError", "HalfTweedieLoss", "HalfTweedieLossIdentity", "HuberLoss", "PinballLoss",
)  # fmt: skip
_CLASSES: Final[Mapping[str, tuple[str, ...]]] = {
    "numpy.random.bit_generator": ("SeedSequence",),
    "scipy.interpolate._bsplines": ("BSpline",),
    "scipy.sparse._csr": ("csr_array", "csr_matrix"),
    "scipy.sparse._csc": ("csc_array", "csc_matrix"),
    "scipy.sparse._coo": ("coo_array", "coo_matrix"),
    "sklearn._loss.link": (
        "HalfLogitLink", "IdentityLink", "Interval", "LogLink", "LogitLink", "MultinomialLogit",
    ),
    "sklearn._loss.loss": (
        *_LOSSES, "HalfBinomialLossArrayAPI", "HalfMultinomialLossArrayAPI", "HalfPoissonLossArrayAPI",
    ),
    "sklearn.calibration": ("_CalibratedClassifier",),
    "sklearn.cluster._birch": ("_CFNode", "_CFSubcluster"),
    "sklearn.cluster._bisect_k_means": ("_BisectingTree",),
    "sklearn.compose._column_transformer": ("make_column_selector", "_RemainderColsList"),
    "sklearn.ensemble._hist_gradient_boosting.predictor": ("TreePredictor",),
    "sklearn.gaussian_process.kernels": (
        "CompoundKernel", "ConstantKernel", "DotProduct", "ExpSineSquared", "Exponentiation", "Matern",
        "PairwiseKernel", "Product", "RBF", "RationalQuadratic", "Sum", "WhiteKernel",
    ),
    "sklearn.metrics._scorer": ("_MultimetricScorer", "_PassthroughScorer", "_Scorer", "_CurveScorer"),
    "sklearn.model_selection._split": (
        "GroupKFold", "GroupShuffleSplit", "KFold", "LeaveOneGroupOut", "LeaveOneOut", "LeavePGroupsOut", "LeavePOut",
        "PredefinedSplit", "RepeatedKFold", "RepeatedStratifiedKFold", "ShuffleSplit", "StratifiedGroupKFold",
        "StratifiedKFold", "StratifiedShuffleSplit", "TimeSeriesSplit",
    ),
    "sklearn.neural_network._stochastic_optimizers": ("AdamOptimizer", "SGDOptimizer"),
    "sklearn.utils._bunch": ("Bunch",),
    "sklearn.utils._metadata_requests": ("MetadataRequest", "MethodMetadataRequest"),
}  # fmt: skip

_DISTANCES: Final = (
    "BrayCurtis", "Canberra", "Chebyshev", "Dice", "Euclidean", "Hamming", "Haversine", "Jaccard", "Kulsinski",
    "Mahalanobis", "Manhattan", "Matching", "Minkowski", "RogersTanimoto", "RussellRao", "SEuclidean", "SokalMichener",
    "SokalSneath",
)  # fmt: skip
_COMPILED: Final[Mapping[str, tuple[str, ...]]] = {
    "sklearn._loss._loss": tuple(f"Cy{name}" for name in _LOSSES),
    "sklearn.linear_model._sgd_fast": (
        "EpsilonInsensitive", "Hinge", "ModifiedHuber", "SquaredEpsilonInsensitive", "SquaredHinge",
    ),
    "sklearn.metrics._dist_metrics": tuple(f"{name}Distance{bits}" for name in _DISTANCES for bits in (32, 64)),
    "sklearn.neighbors._kd_tree": ("KDTree", "KDTree32", "KDTree64"),
    "sklearn.neighbors._ball_tree": ("BallTree", "BallTree32", "BallTree64"),
    "sklearn.tree._tree": ("Tree",),
}  # fmt: skip
"""Extension classes: pickles call them with numbers, or call a function of their module."""


def _full_names(table: Mapping[str, tuple[str, ...]]) -> frozenset[str]:
    return frozenset(f"{module}.{name}" for module, names in table.items() for name in names)


USES: Final = dict.fromkeys(_full_names(_VALUES), VALUE) | dict.fromkeys(_full_names(_CLASSES), CLASS)
COMPILED: Final = _full_names(_COMPILED)


def canonical(module: str, name: str) -> tuple[str, str]:
    """Returns today's module and name of what had others in Python 2, numpy 1 and scikit-learn 1.5."""
    module, name = NAME_MAPPING.get((module, name), (IMPORT_MAPPING.get(module, module), name))
    module = "sklearn._loss._loss" if module == "_loss" else module  # as its extension called itself
    return re.sub(r"^numpy\.core(?=\.|\Z)", "numpy._core", module), name


def permitted(module: str, name: str, allowed: frozenset[str]) -> Permitted | None:
    """Returns what the pickle gets for `module.name`; None if it is not on the allow-list.
    Raises ImportError or AttributeError if an allowed name is not installed."""
    module, name = canonical(module, name)
    full = f"{module}.{name}"
    if full in allowed:
        return Permitted(CALL, _attribute(module, name), any=True)
    if "." in name:
        return None
    if full in CALLS:
        return Permitted(CALL, CALLS[full])
    if use := USES.get(full):
        return Permitted(use, _attribute(module, name))
    return _of_sklearn(module, name, full)


def _of_sklearn(module: str, name: str, full: str) -> Permitted | None:
    if not SKLEARN.fullmatch(module) or CLOSED.intersection(module.split(".")):
        return None
    if full in COMPILED:
        return Permitted(CALL, parts.Compiled(_attribute(module, name)))
    if module in _COMPILED:
        if name == "newObj":
            return Permitted(CALL, parts.bare_instance)
        if name.startswith("__pyx_unpickle_") and name.removeprefix("__pyx_unpickle_") in _COMPILED[module]:
            maker = getattr(import_module(module), name, None)  # later versions may have none: theirs are only called
            return Permitted(CALL, parts.compiled_state(name, maker))
        return None
    found = _attribute(module, name)
    return Permitted(CLASS, found) if _is_data(found) else None


def _is_data(found: Any) -> bool:
    """True for an estimator of scikit-learn, or one of its named tuples, as IterativeImputer has."""
    from sklearn.base import BaseEstimator

    is_own = isinstance(found, type) and found.__module__.startswith("sklearn.")
    return is_own and (issubclass(found, BaseEstimator) or parts.is_named_tuple(found))


def _attribute(module: str, name: str) -> Any:
    return attrgetter(name)(import_module(module))
