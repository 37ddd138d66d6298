"""A reader of FlatBuffers, as far as CatBoost's files need it: https://flatbuffers.dev/internals/

Fields are known by their place in the schema. Every offset and length is compared with the end of the data.
"""

import struct
from typing import Any

import numpy as np

from adapters.checks import need
from adapters.values import Array


class Table:
    """One table in `data`, at byte `at`."""

    def __init__(self, data: bytes, at: int) -> None:
        self._data, self._at = data, at
        self._fields = at - self._number("<i", at)
        self._end = self._number("<H", self._fields)

    @classmethod
    def root(cls, data: bytes) -> "Table":
        """Returns the table that a whole buffer is."""
        return cls(data, cls._read(data, "<I", 0))

    @staticmethod
    def _read(data: bytes, code: str, at: int) -> Any:
        need(0 <= at <= len(data) - struct.calcsize(code), "it points past its end")
        return struct.unpack_from(code, data, at)[0]

    def _number(self, code: str, at: int) -> Any:
        return self._read(self._data, code, at)

    def _place(self, field: int) -> int:
        """Returns where a field is; 0 if it is not there."""
        entry = 4 + 2 * field
        offset = self._number("<H", self._fields + entry) if entry < self._end else 0
        return self._at + offset if offset else 0

    def _target(self, at: int) -> int:
        return at + int(self._number("<I", at))

    def number(self, field: int, code: str = "<i", otherwise: int = 0) -> int:
        """Returns the number in a field, or what the schema has for one that is not there."""
        at = self._place(field)
        return int(self._number(code, at)) if at else otherwise

    def table(self, field: int) -> "Table":
        """Returns the table in a field."""
        at = self._place(field)
        need(at, "a part of it is not there")
        return Table(self._data, self._target(at))

    def array(self, field: int, dtype: Any) -> Array:
        """Returns the numbers or structs in a field; none if it is not there."""
        kind, at = np.dtype(dtype), self._place(field)
        if not at:
            return np.empty(0, kind)
        start = self._target(at)
        count = int(self._number("<I", start))
        need(count * kind.itemsize <= len(self._data) - start - 4, "it points past its end")
        return np.frombuffer(self._data, kind, count, start + 4)

    def tables(self, field: int) -> list["Table"]:
        """Returns the tables in a field."""
        offsets = self.array(field, "<u4")
        start = self._target(self._place(field)) + 4 if len(offsets) else 0
        return [Table(self._data, start + 4 * i + int(offset)) for i, offset in enumerate(offsets.tolist())]

    def texts(self, field: int) -> list[bytes]:
        """Returns the texts in a field."""
        offsets = self.array(field, "<u4")
        start = self._target(self._place(field)) + 4 if len(offsets) else 0
        return [self._text(start + 4 * i + int(offset)) for i, offset in enumerate(offsets.tolist())]

    def text(self, field: int) -> bytes:
        """Returns the text in a field; none if it is not there."""
        at = self._place(field)
        return self._text(self._target(at)) if at else b""

    def _text(self, at: int) -> bytes:
        length = int(self._number("<I", at))
        need(length <= len(self._data) - at - 4, "it points past its end")
        return self._data[at + 4 : at + 4 + length]
