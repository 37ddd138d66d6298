"""XGBoost's files as plain values: JSON and Universal Binary JSON (https://ubjson.org).

A key that stands twice is refused: which of the two XGBoost reads is nobody's promise.
"""

import json
from collections.abc import Iterable, Iterator
from typing import Any, Final

import numpy as np

from adapters.checks import need

UBJ_BEGINS: Final = (b"{L", b"{l", b"{i", b"{U", b"{I")
NUMBERS: Final = {b"i": ">i1", b"U": ">u1", b"I": ">i2", b"l": ">i4", b"L": ">i8", b"d": ">f4", b"D": ">f8"}


class Ubj:
    """A reader of one UBJ document. Typed arrays become numpy arrays, without a Python object for each number."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    def _take(self, count: int) -> bytes:
        if not 0 <= count <= len(self._data) - self._at:
            raise ValueError(f"{count} bytes are wanted at byte {self._at} of {len(self._data)}")
        found = self._data[self._at : self._at + count]
        self._at += count
        return found

    def read(self, mark: bytes = b"") -> Any:
        """Returns the next value; `mark` is its first byte, if that has been read."""
        kind = mark or self._take(1)
        if kind == b"{":
            return _object((name, value) for name, _, value in self._members())
        if kind == b"[":
            return self._array()
        if kind == b"S":
            return self._take(self.read()).decode()
        if kind in NUMBERS:
            code = NUMBERS[kind]
            return np.frombuffer(self._take(np.dtype(code).itemsize), dtype=code)[0].item()
        return {b"T": True, b"F": False, b"Z": None}[kind]

    def _members(self) -> Iterator[tuple[str, int, Any]]:
        """Yields name, first byte and value of each member of the object that has begun."""
        while (mark := self._take(1)) != b"}":
            name = self._take(self.read(mark)).decode()
            yield name, self._at, self.read()

    def member(self, wanted: str) -> bytes:
        """Returns the bytes of one member of the object that the document is. Raises ValueError if it has none."""
        self._take(1)
        for name, start, _ in self._members():
            if name == wanted:
                return self._data[start : self._at]
        raise ValueError(f"it has no {wanted}")

    def _array(self) -> Any:
        mark = self._take(1)
        if mark == b"$":
            kind = self._take(1)
            self._take(1)
            code = NUMBERS[kind]
            return np.frombuffer(self._take(self.read() * np.dtype(code).itemsize), dtype=code).astype(code[1:])
        if mark == b"#":
            return [self.read() for _ in range(self.read())]
        found = []
        while mark != b"]":
            found.append(self.read(mark))
            mark = self._take(1)
        return found


def _object(pairs: Iterable[tuple[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, value in pairs:
        need(name not in found, f"{name[:40]!r} stands twice in it")
        found[name] = value
    return found


def document(data: bytes) -> Any:
    """Returns what a file holds. Raises ValueError, KeyError, TypeError or RecursionError if it is not whole."""
    if data.startswith(UBJ_BEGINS):
        return Ubj(data).read()
    return json.loads(data, object_pairs_hook=_object)


def model_in(data: bytes) -> bytes:
    """Returns the model in what XGBoost writes into pickles: `{"Config": …, "Model": …}`. Raises ValueError.
    The configuration, which predicts nothing, is left out."""
    if not data.startswith(UBJ_BEGINS):
        return json.dumps(json.loads(data)["Model"]).encode()
    return Ubj(data).member("Model")
