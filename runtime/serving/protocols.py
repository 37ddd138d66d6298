"""The protocols that this runtime speaks. Add one here: its metric label and its paths come with it."""

from typing import Final

from runtime.serving.protocol.plain.codec import PLAIN
from runtime.serving.protocol.v1 import V1
from runtime.serving.protocol.v2.codec import V2_JSON

CODECS: Final = (V2_JSON, V1, PLAIN)
"""Slots of metrics count protocols by their place in this table."""
