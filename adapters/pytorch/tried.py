"""The input of a TorchScript module, which its file does not say: from the shape of its first weights, and tried."""

from collections.abc import Iterator
from contextlib import suppress
from typing import Any, Final

import torch

from adapters.base import TensorSpec

SIDES: Final = (32, 28, 64, 96, 128, 224, 256, 299)
"""Sizes of free axes that are tried, as of pictures."""


def tried_input(module: Any, device: torch.device) -> TensorSpec | None:
    """Returns the one tensor that the module takes, each row of which has an answer of its own; None if no shape that
    was tried is certain."""
    arguments = [each for each in module.forward.schema.arguments[1:] if not each.has_default_value()]
    first = next((tensor for tensor in module.parameters() if tensor.dim() > 1), None)
    if first is None or len(arguments) != 1 or str(arguments[0].type) != "Tensor":
        return None
    name, width, axes = arguments[0].name, int(first.shape[1]), first.dim() - 2
    if axes == 0:
        if _takes(module, device, width) and not _takes(module, device, width + 1):
            return TensorSpec(name, "FP32", (-1, width))
        numbers = [length for length in (5, 6) if _takes(module, device, length, whole=True)]
        return TensorSpec(name, "INT64", (-1, -1)) if len(numbers) == 2 else None
    sides = list(_sides(module, device, width, axes))
    if not sides or _takes(module, device, width + 1, *[sides[0]] * axes):
        return None
    return TensorSpec(name, "FP32", (-1, width, *[sides[0] if len(sides) == 1 else -1] * axes))


def _sides(module: Any, device: torch.device, width: int, axes: int) -> Iterator[int]:
    """Yields the first two sizes of its free axes that the module takes."""
    found = 0
    for side in SIDES:
        if _takes(module, device, width, *[side] * axes):
            yield side
            found += 1
        if found > 1:
            return


def _takes(module: Any, device: torch.device, *shape: int, whole: bool = False) -> bool:
    """True if the module answers rows of this shape, and each as it does alone."""
    drawn = torch.rand(3, *shape, generator=torch.Generator().manual_seed(0))
    rows = ((drawn * 2).long() if whole else drawn).to(device)
    with suppress(Exception), torch.inference_mode():  # a module can raise anything for rows that it does not take
        together, alone = module(rows), torch.cat([module(row[None]) for row in rows])
        return bool(together.shape == alone.shape and torch.allclose(together, alone, rtol=1e-3, atol=1e-5))
    return False
