"""The allow-list: the exact names that a scikit-learn pickle may use. Every name stands below the reason for it.

The keys are reasons, then modules; their values are names in that module.
"""

from collections.abc import Callable, Mapping
from typing import Any, Final

import numpy as np

from adapters.pickles import parts

Reasons = Mapping[str, Mapping[str, str]]

CALLS: Final[Mapping[str, Mapping[str, Callable[..., Any]]]] = {
    "Python's own values, where an opcode of the pickle's protocol is missing": {
        "builtins.set": parts.make_set(set),
        "builtins.frozenset": parts.make_set(frozenset),
        "builtins.slice": slice,
        "builtins.range": range,
        "builtins.complex": complex,
        "builtins.bytes": parts.make_bytes,
        "builtins.bytearray": lambda *args: bytearray(parts.make_bytes(*args)),
        "collections.OrderedDict": parts.ordered_dict,
        "collections.defaultdict": parts.default_dict,
        "_codecs.encode": parts.encode,
        "copyreg._reconstructor": parts.reconstructor,
    },
    "a method, as a vectorizer's tokenizer or analyzer": {"builtins.getattr": parts.method_of},
    "HistGradientBoosting checks its input with a partial": {"functools.partial": parts.Partial.of},
    "numpy's arrays and numbers": {
        "numpy.dtype": parts.make_dtype,
        "numpy._core.multiarray._reconstruct": parts.empty_array,
        "numpy._core.multiarray.scalar": parts.make_scalar,
        "numpy._core.numeric._frombuffer": parts.array_from_buffer,
        "numpy.ma.core._mareconstruct": parts.empty_masked_array,
    },
    "a random_state that is a generator": {
        "numpy.random._pickle.__randomstate_ctor": parts.drawing(np.random.RandomState),
        "numpy.random._pickle.__generator_ctor": parts.drawing(np.random.Generator),
        "numpy.random._pickle.__bit_generator_ctor": parts.bit_generator,
        "numpy.random.bit_generator.__pyx_unpickle_SeedSequence": parts.seed_sequence,
    },
}
"""Functions that a pickle calls, and what it calls in their place."""

_UFUNCS: Final = (
    "exp expm1 exp2 log log1p log2 log10 sqrt square cbrt power float_power absolute fabs sign negative positive"
    " reciprocal maximum minimum fmax fmin add subtract multiply divide true_divide floor_divide mod remainder fmod"
    " hypot sin cos tan arcsin arccos arctan arctan2 sinh cosh tanh arcsinh arccosh arctanh deg2rad rad2deg degrees"
    " radians ceil floor trunc rint isnan isfinite isinf logical_not clip heaviside signbit"
)

VALUES: Final[Reasons] = {
    "a dtype parameter, or a missing_values": {"builtins": "bool dict float int list object str tuple"},
    "the kind of an array; the mean of a sparse matrix is a matrix, and BisectingKMeans keeps it": {
        "numpy": "ndarray memmap matrix",
        "numpy.ma": "MaskedArray",
        "numpy.ma.core": "MaskedArray",
    },
    "a dtype parameter of encoders and vectorizers": {
        "numpy": "bool_ bool int8 int16 int32 int64 uint8 uint16 uint32 uint64 intp"
        " float16 float32 float64 complex64 complex128 object_ str_ bytes_",
    },
    "columns that make_column_selector picks by kind": {
        "numpy": "generic number integer signedinteger unsignedinteger inexact floating character flexible",
    },
    "pooling_func of FeatureAgglomeration": {"numpy": "mean median max min amax amin sum prod std var"},
    "a function of numbers alone, for FunctionTransformer and TransformedTargetRegressor": {
        "numpy": f"{_UFUNCS} abs round around fix nan_to_num cumsum diff ravel squeeze atleast_2d asarray nanmean"
        " nanmedian nanmax nanmin nansum nanstd",
        "numpy._core._multiarray_umath": _UFUNCS,  # as numpy 1 names them
        "numpy._core.umath": _UFUNCS,
        "numpy._core.numeric": "asarray",
        "numpy._core.fromnumeric": "around clip cumsum ravel squeeze",
        "scipy.special._ufuncs": "expit logit log_ndtr ndtr ndtri",
    },
    "what a random_state draws from": {
        "numpy.random._mt19937": "MT19937",
        "numpy.random._pcg64": "PCG64 PCG64DXSM",
        "numpy.random._philox": "Philox",
        "numpy.random._sfc64": "SFC64",
    },
    "a BSpline of SplineTransformer keeps it": {"scipy._lib.array_api_compat.numpy._aliases": "asarray"},
    "BisectingKMeans keeps its algorithm": {"sklearn.cluster._kmeans": "_kmeans_single_lloyd _kmeans_single_elkan"},
    "HistGradientBoosting checks its input with it": {"sklearn.utils.validation": "check_array"},
    "score_func of SelectKBest and its like": {
        "sklearn.feature_selection._univariate_selection": "chi2 f_classif f_oneway f_regression r_regression",
        "sklearn.feature_selection._mutual_info": "mutual_info_classif mutual_info_regression",
    },
    "the metric in a scorer of a search": {
        "sklearn.metrics._classification": "accuracy_score balanced_accuracy_score brier_score_loss cohen_kappa_score"
        " d2_brier_score d2_log_loss_score f1_score fbeta_score hamming_loss hinge_loss jaccard_score log_loss"
        " matthews_corrcoef precision_score recall_score zero_one_loss",
        "sklearn.metrics._ranking": "average_precision_score dcg_score ndcg_score roc_auc_score top_k_accuracy_score",
        "sklearn.metrics._regression": "d2_absolute_error_score d2_pinball_score d2_tweedie_score"
        " explained_variance_score max_error mean_absolute_error mean_absolute_percentage_error mean_gamma_deviance"
        " mean_pinball_loss mean_poisson_deviance mean_squared_error mean_squared_log_error"
        " mean_tweedie_deviance median_absolute_error r2_score root_mean_squared_error root_mean_squared_log_error",
        "sklearn.metrics._scorer": "negative_likelihood_ratio positive_likelihood_ratio",
        "sklearn.metrics.cluster._supervised": "adjusted_mutual_info_score adjusted_rand_score completeness_score"
        " fowlkes_mallows_score homogeneity_score mutual_info_score normalized_mutual_info_score rand_score"
        " v_measure_score",
    },
}
"""Objects that a pickle holds and never calls."""

_LOSSES: Final = (
    "AbsoluteError ExponentialLoss HalfBinomialLoss HalfGammaLoss HalfMultinomialLoss HalfPoissonLoss"
    " HalfSquaredError HalfTweedieLoss HalfTweedieLossIdentity HuberLoss PinballLoss"
)
CLASSES: Final[Reasons] = {
    "a random_state that is a generator": {"numpy.random.bit_generator": "SeedSequence"},
    "SplineTransformer and IsotonicRegression keep splines": {"scipy.interpolate._bsplines": "BSpline"},
    "fitted on sparse data": {
        "scipy.sparse._csr": "csr_array csr_matrix",
        "scipy.sparse._csc": "csc_array csc_matrix",
        "scipy.sparse._coo": "coo_array coo_matrix",
    },
    "the loss of gradient boosting, linear models and their links": {
        "sklearn._loss.link": "HalfLogitLink IdentityLink Interval LogLink LogitLink MultinomialLogit",
        "sklearn._loss.loss": f"{_LOSSES} HalfBinomialLossArrayAPI HalfMultinomialLossArrayAPI HalfPoissonLossArrayAPI",
    },
    "a part of an estimator that is no estimator itself": {
        "sklearn.calibration": "_CalibratedClassifier",
        "sklearn.cluster._birch": "_CFNode _CFSubcluster",
        "sklearn.cluster._bisect_k_means": "_BisectingTree",
        "sklearn.compose._column_transformer": "make_column_selector _RemainderColsList",
        "sklearn.ensemble._hist_gradient_boosting.predictor": "TreePredictor",
        "sklearn.neural_network._stochastic_optimizers": "AdamOptimizer SGDOptimizer",
        "sklearn.utils._bunch": "Bunch",
        "sklearn.utils._metadata_requests": "MetadataRequest MethodMetadataRequest",
    },
    "the kernel of a Gaussian process": {
        "sklearn.gaussian_process.kernels": "CompoundKernel ConstantKernel DotProduct ExpSineSquared Exponentiation"
        " Matern PairwiseKernel Product RBF RationalQuadratic Sum WhiteKernel",
    },
    "the scorer and the splits of a search": {
        "sklearn.metrics._scorer": "_MultimetricScorer _PassthroughScorer _Scorer _CurveScorer",
        "sklearn.model_selection._split": "GroupKFold GroupShuffleSplit KFold LeaveOneGroupOut LeaveOneOut"
        " LeavePGroupsOut LeavePOut PredefinedSplit RepeatedKFold RepeatedStratifiedKFold ShuffleSplit"
        " StratifiedGroupKFold StratifiedKFold StratifiedShuffleSplit TimeSeriesSplit",
    },
}
"""Classes, beside the estimators, of which a pickle makes instances."""

_DISTANCES: Final = (
    "BrayCurtis Canberra Chebyshev Dice Euclidean Hamming Haversine Jaccard Kulsinski Mahalanobis Manhattan Matching"
    " Minkowski RogersTanimoto RussellRao SEuclidean SokalMichener SokalSneath"
)
COMPILED: Final[Reasons] = {
    "the loss of gradient boosting and linear models": {
        "sklearn._loss._loss": " ".join(f"Cy{name}" for name in _LOSSES.split()),
        "sklearn.linear_model._sgd_fast": "EpsilonInsensitive Hinge ModifiedHuber SquaredEpsilonInsensitive"
        " SquaredHinge",
    },
    "the metric and the tree of nearest neighbours": {
        "sklearn.metrics._dist_metrics": " ".join(
            f"{name}Distance{bits}" for name in _DISTANCES.split() for bits in (32, 64)
        ),
        "sklearn.neighbors._kd_tree": "KDTree KDTree32 KDTree64",
        "sklearn.neighbors._ball_tree": "BallTree BallTree32 BallTree64",
    },
    "the tree of decision trees and forests": {"sklearn.tree._tree": "Tree"},
}
"""Extension classes: pickles call them with numbers, or call a function of their module."""


def full_names(table: Reasons) -> frozenset[str]:
    """Returns `module.name` of all names in the table."""
    groups = (group for reason in table.values() for group in reason.items())
    return frozenset(f"{module}.{name}" for module, names in groups for name in names.split())
