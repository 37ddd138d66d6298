"""The Open Inference Protocol's datatypes as numpy's, with what each can hold (docs/protocol.md, section 3)."""

from __future__ import annotations

from typing import Any, Final

import numpy as np

from adapters.base import DATATYPES

NUMPY: Final[dict[str, np.dtype[Any]]] = {datatype: np.dtype(name) for datatype, name in DATATYPES.items()}

ALIASES: Final = {**{name: name for name in NUMPY}, "STRING": "BYTES"}
"""What a request may call a datatype; Triton's pages say STRING where they mean BYTES."""

INTEGERS: Final = {name: (int(np.iinfo(kind).min), int(np.iinfo(kind).max)) for name, kind in NUMPY.items()
                   if kind.kind in "iu"}  # fmt: skip
"""Lowest and highest value."""

FLOATS: Final = {"FP16": 65520.0, "FP32": 3.4028235677973366e38, "FP64": float("inf")}
"""The least magnitude that rounds to infinity: largest finite value plus half a unit in its last place."""

EXACT_INTEGERS: Final = 2**53
"""Up to here every integer is a double; above, a float that looks whole may have been another number."""
