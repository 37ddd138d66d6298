"""The protocols that this runtime speaks. Add one here: its metric label and its paths come with it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from runtime.serving.protocol.v2.codec import V2_JSON

if TYPE_CHECKING:
    from runtime.serving.protocol.codec import Codec

CODECS: Final[tuple[Codec, ...]] = (V2_JSON,)
"""Slots of metrics count protocols by their place in this table."""
