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


def keep(layouts: dict[bytes, Layout], text: bytes, data: memoryview, request: Request) -> None:
    """Keeps the layout of `request` if it has one, and its text is short and has no id, which differs every time.

    What is a view of the data came through no conversion; of numbers, only those of BOOL have to be looked at.
    """
    if request.id is not None or not data or len(text) > _LONGEST_BYTES:
        return
    start, places = np.frombuffer(data, np.uint8).ctypes.data, []
    for name, array in request.inputs.items():
        at = array.ctypes.data - start
        if array.dtype.kind not in "iuf" or not 0 <= at < len(data):
            return
        places.append((name, array.dtype, array.size, at, array.shape))
    if len(layouts) == _MOST:
        layouts.clear()
    rest = request.wanted, None, request.form, request.deadline_seconds
    layouts[text] = Layout(tuple(places), len(data), rest)
