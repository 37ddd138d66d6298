"""What this environment lacks: on a Python for which some package has no wheel. `make test` has them all."""

from __future__ import annotations

from importlib.util import find_spec

OPTIONAL = (
    "PIL",
    "catboost",
    "grpc",
    "lightgbm",
    "pandas",
    "promql_parser",
    "pyarrow",
    "skl2onnx",
    "sklearn",
    "skops",
    "torch",
    "xgboost",
)
MISSING = {name for name in OPTIONAL if find_spec(name) is None}

FRAMEWORKS = {
    "catboost",
    "lightgbm",
    "mlflow",
    "pandas",
    "scipy",
    "skl2onnx",
    "sklearn",
    "torch",
    "transformers",
    "xgboost",
}
"""They take a third of a second to two seconds to import: one process has all tests that do (`--frameworks`)."""
