"""Parquet and Arrow IPC files, with the extra `arrow`: columns in, the same columns and those of the predictions out.

https://parquet.apache.org/docs/, https://arrow.apache.org/docs/format/Columnar.html#ipc-file-format
"""

import base64
from collections.abc import Iterator
from typing import Any

import numpy as np

from adapters.base import MissingFramework
from adapters.imports import how_to_install
from adapters.values import Arrays
from runtime.errors import InvalidInput
from runtime.rows.base import Job, Rows, beside
from runtime.rows.json_rows import inputs_of
from runtime.serving.engine.request import Request
from runtime.serving.protocol.plain.csv_text import names_of

_STREAM = b"\xff\xff\xff\xff"  # an IPC stream begins so; a file begins with ARROW1


class ArrowRows:
    """Record batches of an Arrow IPC file or stream."""

    def __init__(self, job: Job) -> None:
        self._job = job
        self._writer: Any = None
        try:
            import pyarrow
        except ModuleNotFoundError:
            raise MissingFramework(f"Parquet and Arrow files need pyarrow: {how_to_install('arrow')}") from None
        self._arrow: Any = pyarrow

    def blocks(self, size: int) -> Iterator[Rows]:
        """As in `Form`."""
        try:
            for batch in self._batches(size):
                for start in range(0, len(batch), size):
                    yield batch.slice(start, size)
        except (self._arrow.ArrowException, OSError) as error:
            raise InvalidInput(f"the file cannot be read: {error}") from None

    def _batches(self, size: int) -> Iterator[Any]:  # noqa: ARG002 - Parquet wants it
        from pyarrow import ipc

        if self._job.source.peek(4)[:4] == _STREAM:
            yield from ipc.open_stream(self._job.source)
            return
        self._needs_file("an Arrow file")
        file = ipc.open_file(self._job.source)
        yield from map(file.get_batch, range(file.num_record_batches))

    def _needs_file(self, what: str) -> None:
        if not self._job.source.seekable():
            raise InvalidInput(f"{what} cannot be read from a pipe: give the file's name")

    def _open(self, schema: Any) -> Any:
        return self._arrow.ipc.new_file(self._job.target, schema)

    def inputs(self, rows: Rows, /) -> Arrays:
        """As in `Form`."""
        return inputs_of([{name: _value(one) for name, one in row.items()} for row in rows.to_pylist()], self._job)

    def write(self, rows: Rows, request: Request, outputs: Arrays) -> None:
        """As in `Form`."""
        kept = [] if self._job.alone else rows.schema.names
        names, columns = list(kept), [rows.column(name) for name in kept]
        labels = self._job.served.model.labels
        for name in request.wanted:
            array = outputs[name]
            flat = array.reshape(request.rows, -1)
            each = names_of(name, array.shape[1:], flat.shape[1], labels if array.dtype.kind == "f" else None)
            names += beside(each, kept)
            columns += [self._column(column) for column in flat.T]
        part = self._arrow.RecordBatch.from_arrays(columns, names=names)
        self._writer = self._writer or self._open(part.schema)
        self._writer.write_batch(part)

    def _column(self, values: Any) -> Any:
        if values.dtype.kind != "O":
            return self._arrow.array(np.ascontiguousarray(values))
        texts = [value.decode(errors="replace") if type(value) is bytes else value for value in values]
        return self._arrow.array(texts, self._arrow.string())

    def finish(self) -> None:
        """As in `Form`."""
        if self._writer:
            self._writer.close()


class ParquetRows(ArrowRows):
    """Rows of a Parquet file, which has to be one: its last bytes say where everything is."""

    def _batches(self, size: int) -> Iterator[Any]:
        from pyarrow import parquet

        self._needs_file("Parquet")
        yield from parquet.ParquetFile(self._job.source).iter_batches(size)

    def _open(self, schema: Any) -> Any:
        from pyarrow import parquet

        return parquet.ParquetWriter(self._job.target, schema)


def _value(value: Any) -> Any:
    """Returns what JSON has for a value: dates as ISO 8601 text."""
    if isinstance(value, bytes):
        return {"b64": base64.b64encode(value).decode()}
    return value.isoformat() if hasattr(value, "isoformat") else value
