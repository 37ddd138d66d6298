"""A NumPy file: rows of the one input, or of all columns, in; a NumPy file out, with a field for each output.

Both are read and written as a whole: https://numpy.org/doc/stable/reference/generated/numpy.lib.format.html
"""

import io
from collections.abc import Iterator
from types import SimpleNamespace

import numpy as np

from adapters.values import Array, Arrays
from runtime.errors import InputAtFault, InvalidInput
from runtime.rows.base import Job, Rows
from runtime.serving.engine.request import Request
from runtime.serving.protocol.plain.body import NPY, ZIPPED, read
from runtime.serving.protocol.rows import is_one_row


class NpyRows:
    """The predictions are never beside the rows: an array has no columns."""

    def __init__(self, job: Job) -> None:
        self._job, self._parts = job, list[Array]()
        if job.columns:
            raise InvalidInput("--columns has no meaning for a NumPy file, whose columns have no names")

    def blocks(self, size: int) -> Iterator[Rows]:
        """As in `Form`."""
        try:
            whole = np.load(io.BytesIO(self._job.source.read()), allow_pickle=False)
        except (ValueError, EOFError) as error:
            raise InvalidInput(f"the file is not a NumPy file of plain numbers or texts: {error}") from None
        if not isinstance(whole, np.ndarray):
            raise InvalidInput(f"the file is {ZIPPED}")
        if (only := self._job.served.signature.alone) is not None and is_one_row(only, list(whole.shape)):
            whole = whole[np.newaxis]
        if not whole.ndim:
            raise InputAtFault("the NumPy file has no rows")
        for start in range(0, len(whole), size):
            yield whole[start : start + size]

    def inputs(self, rows: Rows, /) -> Arrays:
        """As in `Form`."""
        body = io.BytesIO()
        np.save(body, rows)
        return read(NPY, body.getvalue(), self._job.served)[0]

    def write(self, rows: Rows, request: Request, outputs: Arrays) -> None:  # noqa: ARG002 - as in `Form`
        """As in `Form`: they are written at the end, when their number is known."""
        fields = {name: _plain(outputs[name]) for name in request.wanted}
        if len(fields) == 1:
            self._parts += fields.values()
            return
        kinds = [(name, array.dtype, array.shape[1:]) for name, array in fields.items()]
        part = np.empty(request.rows, kinds)
        for name, array in fields.items():
            part[name] = array
        self._parts.append(part)

    def finish(self) -> None:
        """As in `Form`."""
        target = SimpleNamespace(write=self._job.target.write)  # of a file NumPy wants the position: a pipe has none
        np.save(target, np.concatenate(self._parts) if self._parts else np.empty(0))


def _plain(array: Array) -> Array:
    """Returns texts as NumPy's own, since a file with objects could not be read without pickle."""
    if array.dtype.kind != "O":
        return array
    texts = [value.decode(errors="replace") if type(value) is bytes else str(value) for value in array.reshape(-1)]
    return np.array(texts, np.str_).reshape(array.shape)
