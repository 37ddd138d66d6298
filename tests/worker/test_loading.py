from __future__ import annotations

from typing import Any

import pytest

from adapters.base import LoadFailed, Model, TensorSpec
from runtime.link.limits import Limits
from runtime.worker.loading import check_size


def model(datatype: str, *shape: int) -> Model:
    predict: Any = None
    return Model(platform="x", inputs=(TensorSpec("x", datatype, shape),), outputs=(), predict=predict)


@pytest.mark.parametrize("shape", [(1, 300_000_000), (2**31 - 1, 2**31 - 1, -1)])
def test_an_input_that_no_request_can_give_is_refused_before_an_example_of_it_is_made(shape: tuple[int, ...]) -> None:
    with pytest.raises(LoadFailed, match=r"its input x of FP32 .* takes \d+ bytes.*--max-body-bytes"):
        check_size(model("FP32", *shape), Limits())


@pytest.mark.parametrize("shape", [(), (-1, 4), (1, 3, 4000, 4000)])
def test_others_are_not(shape: tuple[int, ...]) -> None:
    check_size(model("FP32", *shape), Limits())
