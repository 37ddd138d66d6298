"""Small models of the shapes that rows come in, each an echo or a sum, so that a mix-up shows."""

from __future__ import annotations

from typing import Any

import numpy as np

from adapters.base import Model, TensorSpec
from tests.serving.support import echo, model


def people() -> Model:
    """Named columns of four datatypes; the answer joins each row's values."""

    def joined(arrays: dict[str, Any], _: tuple[str, ...]) -> dict[str, Any]:
        texts = [
            f"{age}|{count}|{name.decode(errors='replace')}|{flag}"
            for age, count, name, flag in zip(
                *(arrays[key].tolist() for key in ("age", "count", "name", "flag")), strict=True
            )
        ]
        y = np.empty(len(texts), np.object_)
        y[:] = [text.encode() for text in texts]
        return {"y": y}

    columns = (("age", "FP64"), ("count", "INT32"), ("name", "BYTES"), ("flag", "BOOL"))
    return model(
        joined,
        inputs=tuple(TensorSpec(name, kind, (-1,)) for name, kind in columns),
        outputs=(TensorSpec("y", "BYTES", (-1,)),),
        labels=None,
    )


def texts() -> Model:
    """One text a row; the answer is the text and its length."""

    def lengths(arrays: dict[str, Any], wanted: tuple[str, ...]) -> dict[str, Any]:
        whole = {"y": arrays["text"], "length": np.array([len(text) for text in arrays["text"].tolist()])}
        return {name: whole[name] for name in wanted}

    outputs = TensorSpec("y", "BYTES", (-1,)), TensorSpec("length", "INT64", (-1,))
    return model(lengths, inputs=(TensorSpec("text", "BYTES", (-1,)),), outputs=outputs, labels=None)


def column() -> Model:
    """One number a row, `[N, 1]`."""
    return echo("FP64", (-1, 1))
