"""The protocols that this runtime speaks. Add one here, and its name to `link.metrics.PROTOCOL_NAMES`."""

from typing import Final

from runtime.link.gateway import Gateway
from runtime.serving.protocol.codec import Codec
from runtime.serving.protocol.plain.codec import PLAIN, plain
from runtime.serving.protocol.v1 import V1
from runtime.serving.protocol.v2.codec import V2_JSON

CODECS: Final = (V2_JSON, V1, PLAIN)
"""Slots of metrics count protocols by their place in this table."""


def codecs_behind(gateway: Gateway, codecs: tuple[Codec, ...]) -> tuple[Codec, ...]:
    """Returns the protocols with the paths that the platform wants beside their own."""
    wider = plain(gateway.predict_route, gateway.health_route)
    return tuple(wider if codec is PLAIN else codec for codec in codecs)
