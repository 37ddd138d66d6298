"""What the code imports is declared: by the core, or by the extra that its place or its words name."""

from __future__ import annotations

import ast
import re
import sys
from functools import cache
from importlib.metadata import distribution
from pathlib import Path

import pytest

from tests.extras import MISSING
from tests.installed import closure
from tests.places import ROOT

EXTRAS = {
    "adapters/boosted/catboost.py": "catboost",
    "adapters/huggingface/": "transformers",
    "adapters/pickles/": "sklearn",
    "adapters/pytorch/": "pytorch",
    "adapters/sklearn/": "sklearn",
    "runtime/kit/signature/": "signatures",
    "runtime/kit/unpack/expand.py": "zstd",
    "runtime/rows/arrow_rows.py": "arrow",
    "runtime/serving/grpc/": "grpc",
    "runtime/serving/protocol/grpc/": "grpc",
    "runtime/serving/protocol/image.py": "images",
    "runtime/serving/protocol/plain/arrow.py": "arrow",
    "runtime/supervisor/": "otel",
}
CHECKED_BEFORE = {
    ("adapters/huggingface/pipelines.py", "PIL"),
    ("adapters/mlflow/pyfunc.py", "mlflow"),
    ("adapters/pickles/gradient_boosting.py", "catboost"),
}
"""Another module has looked for the package before, or the model of a `python_function` names MLflow itself."""
OURS = {"runtime", "adapters"}
NO_PACKAGES = {*sys.stdlib_module_names, *OURS, "_typeshed", "compression"}
"""compression: of the standard library since Python 3.14."""

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(bool(MISSING), reason="an extra that is not installed says nothing of what it brings"),
    pytest.mark.skipif(sys.version_info >= (3, 14), reason="packages for older Pythons are not installed"),
]


@cache
def brought(extra: str) -> set[str]:
    """The names that can be imported where the runtime is installed with an extra; "" is none."""
    return set().union(*map(importable, closure(distribution("modelkit-runtime"), (extra,))))


@cache
def importable(name: str) -> set[str]:
    """The names that can be imported of a package."""
    record = distribution(name).read_text("RECORD") or ""
    return {re.split(r"[/.,]", line, maxsplit=1)[0] for line in record.splitlines()}


def imports(path: Path) -> set[tuple[str, str]]:
    """The packages of others that a file imports, each with the extra that the call `framework(module, extra)` names."""
    found = set[tuple[str, str]]()
    for node in ast.walk(ast.parse(path.read_bytes())):
        match node:
            case ast.Import(names=names):
                found |= {(name.name, "") for name in names}
            case ast.ImportFrom(module=str(module), level=0):
                found.add((module, ""))
            case ast.Call(ast.Name("framework" | "installed"), [ast.Constant(str(module)), ast.Constant(str(extra))]):
                found.add((module, extra))
            case ast.Call(ast.Name("import_module" | "find_spec"), [argument]):
                found |= {
                    (text.value, "")
                    for text in ast.walk(argument)
                    if isinstance(text, ast.Constant) and isinstance(text.value, str)
                }
    tops = {(module.partition(".")[0], extra) for module, extra in found}
    return {(top, extra) for top, extra in tops if top not in NO_PACKAGES}


def test_every_import_is_of_the_core_or_of_its_extra() -> None:
    seen, undeclared = set[str](), []
    for path in sorted(file for package in OURS for file in (ROOT / package).rglob("*.py")):
        name = str(path.relative_to(ROOT))
        of_place = next((extra for place, extra in EXTRAS.items() if name.startswith(place)), "")
        for top, extra in imports(path):
            seen.add(extra or of_place)
            if top not in brought(extra or of_place) and (name, top) not in CHECKED_BEFORE:
                undeclared.append(f"{name} imports {top}, which {extra or of_place or 'the core'} does not bring")
    assert not undeclared, undeclared
    assert {*EXTRAS.values(), "xgboost", "lightgbm"} <= seen
