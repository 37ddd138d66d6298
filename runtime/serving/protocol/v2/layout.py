"""Where the tensors of a binary request lie, kept by the JSON in front of them, which clients send again and again."""

from typing import Any, Final, NamedTuple

import numpy as np

from runtime.serving.engine.request import Request
from runtime.serving.protocol.tensor_bytes import view_of

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


def keep(layouts: Layouts, text: bytes, data: memoryview, request: Request) -> None:
    """Keeps the layout of `request`, unless its text is long or has an id, which differs every time."""
    if request.id is not None or len(text) > _LONGEST_BYTES:
        return
    if len(layouts) == _MOST:
        layouts.clear()
    layouts[text] = _layout(data, request)


def _layout(data: memoryview, request: Request) -> Layout | None:
    """What is a view of the data came through no conversion; of numbers, only those of BOOL have to be looked at."""
    if not data or any(array.dtype.kind not in "iuf" for array in request.inputs.values()):
        return None
    start, places = np.frombuffer(data, np.uint8).ctypes.data, []
    for name, array in request.inputs.items():
        at = array.ctypes.data - start
        if not 0 <= at < len(data):
            return None
        places.append((name, array.dtype, array.size, at, array.shape))
    return Layout(tuple(places), len(data), (request.wanted, None, request.form, request.deadline_seconds))
