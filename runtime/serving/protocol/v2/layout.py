"""Where the tensors of a binary request lie, kept by the JSON in front of them, which clients send again and again."""

from collections.abc import Callable
from typing import Any, Final, NamedTuple, TypeVar

import numpy as np

from runtime.serving.engine.request import Request
from runtime.serving.protocol.tensor_bytes import view_of

T = TypeVar("T")

_MOST: Final = 64
_LONGEST_BYTES: Final = 2048


class Layout(NamedTuple):
    """A request whose arrays are places in its data, and nothing in which has to be looked at."""

    places: tuple[tuple[str, np.dtype[Any], int, int, tuple[int, ...]], ...]
    """Of each input: its name, its dtype, how many elements, where they begin, and their shape."""
    length: int
    """Bytes of the data."""
    rest: tuple[tuple[str, ...], None, Any, float]
    """What else a `Request` is made of."""

    def request(self, data: memoryview) -> Request:
        """Returns the request with other data."""
        arrays = {name: view_of(data, dtype, count, at).reshape(shape) for name, dtype, count, at, shape in self.places}
        return Request(arrays, *self.rest)


Layouts = dict[bytes, Layout | None]
"""By the JSON in front of the data; None: such a request has no layout."""


def keep(kept: dict[bytes, T | None], text: bytes, request: Request, made: Callable[[], T | None]) -> None:
    """Keeps what is `made` of `request` by its text, unless that is long or has an id, which differs every time."""
    if request.id is not None or len(text) > _LONGEST_BYTES:
        return
    if len(kept) == _MOST:
        kept.clear()
    kept[text] = made()


def layout_of(data: memoryview, request: Request) -> Layout | None:
    """Returns the layout of `request`, None if it has none.

    What is a view of the data came through no conversion; of numbers, only those of BOOL have to be looked at."""
    if not data or any(array.dtype.kind not in "iuf" for array in request.inputs.values()):
        return None
    start, places = np.frombuffer(data, np.uint8).ctypes.data, []
    for name, array in request.inputs.items():
        at = array.ctypes.data - start
        if not 0 <= at < len(data):
            return None
        places.append((name, array.dtype, array.size, at, array.shape))
    return Layout(tuple(places), len(data), (request.wanted, None, request.form, request.deadline_seconds))
