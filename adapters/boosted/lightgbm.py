"""LightGBM, from its own text files."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from adapters import checks as own
from adapters.base import Adapter, LoadFailed, Model, ModelFiles, Options, TensorSpec
from adapters.frameworks import framework

if TYPE_CHECKING:
    from adapters.base import Arrays

KNOWN: Final = {"threads": own.whole}
OUTPUTS: Final = {"predict": "FP64", "raw_score": "FP64", "leaf": "INT32"}


def prepare() -> None:
    """Imports LightGBM."""
    framework("lightgbm", "lightgbm")


def load(files: ModelFiles, options: Options) -> Model:
    """The booster in `files.path`, its text checked first: LightGBM ends the process on some that are damaged."""
    own.check(options.own, KNOWN, "lightgbm")
    lightgbm = framework("lightgbm", "lightgbm")
    from adapters import rows
    from adapters.boosted import lightgbm_file

    text = lightgbm_file.checked_text((files.root / files.path).read_bytes(), files.path)
    booster = _booster(lightgbm, text, files.path)
    threads = int(str(options.own.get("threads", options.threads or 1)))
    names = booster.feature_name()
    own_names = () if names == [f"Column_{i}" for i in range(len(names))] else names
    given = rows.rows_of(options, booster.num_feature(), names)

    def predict(name: str, built: Any) -> Any:
        flags = {"raw_score": name == "raw_score", "pred_leaf": name == "leaf"}
        return booster.predict(built, num_threads=threads, **flags)

    example = given.example()
    shapes = {name: (-1, *predict(name, example).shape[1:]) for name in OUTPUTS}

    def answer(arrays: Arrays, wanted: tuple[str, ...]) -> Arrays:
        built = given.build(arrays)
        return {name: predict(name, built) for name in wanted}

    return Model(
        platform="lightgbm",
        inputs=given.specs,
        outputs=tuple(TensorSpec(name, kind, shapes[name]) for name, kind in OUTPUTS.items()),
        predict=answer,
        default_outputs=("predict",),
        batch=True,
        properties={"lightgbm_version": lightgbm.__version__, **rows.described(own_names)},
    )


def _booster(lightgbm: Any, text: str, name: str) -> Any:
    lightgbm.register_logger(_Silent())
    try:
        return lightgbm.Booster(model_str=text)
    except (lightgbm.basic.LightGBMError, ValueError, TypeError) as error:
        reason = " ".join(str(error).split())[:200]
        raise LoadFailed(f"{name} cannot be loaded by LightGBM {lightgbm.__version__}: {reason}") from error


class _Silent:
    """LightGBM's log, which it would print to standard output."""

    def info(self, message: str) -> None:
        """Drops it."""

    def warning(self, message: str) -> None:
        """Drops it: what matters comes as an exception."""


def sniff(head: bytes) -> bool:
    """Whether `head` begins a model text."""
    return head.startswith((b"tree\nversion=", b"tree\r\nversion="))


ADAPTER = Adapter(
    name="lightgbm",
    frameworks=("lightgbm", "lgbm", "lgb", "light-gbm"),
    suffixes=(".lgb", ".lightgbm", ".lgbm"),
    sniff=sniff,
    load=load,
    prepare=prepare,
)
