"""Rows as JSON has them: objects, lists or values, in lines (https://jsonlines.org) or in one array."""

import itertools
from collections.abc import Iterator, Sequence
from typing import Any, Final

import orjson

from adapters.values import Arrays
from runtime.errors import InputAtFault, InvalidInput
from runtime.rows.base import Job, Rows, beside, by_columns
from runtime.serving.engine.request import Request, Signature, spelt
from runtime.serving.protocol.plain.codec import rows_of
from runtime.serving.protocol.plain.csv_text import names_of
from runtime.serving.protocol.rows import from_rows
from runtime.serving.wording import listed

_MATRIX: Final = 2  # axes: rows, and the values of a row


def inputs_of(rows: Rows, job: Job) -> Arrays:
    """Returns what the model gets: objects may have more keys than it takes. Raises InvalidInput."""
    signature = job.served.signature
    if rows and all(type(row) is dict for row in rows):
        if job.columns:
            rows = [_in_order(row, job.columns, " of --columns") for row in rows]
        elif cells := _cells(signature, rows[0]):
            rows = [{name: _in_order(row, keys) for name, keys in cells.items()} for row in rows]
        elif not (known := _known(signature)).isdisjoint(spelt(name, known) for name in rows[0]):
            rows = [{name: value for name, value in row.items() if spelt(name, known) in known} for row in rows]
        else:
            raise InputAtFault(f"it has no {listed(signature.inputs)}{by_columns(list(rows[0]))}")
    elif job.columns:
        raise InputAtFault("--columns names keys of objects, and this row is none")
    return from_rows(rows, signature, job.served.limits, "rows")


def _known(signature: Signature) -> set[str]:
    return {*signature.inputs, *(signature.also.inputs if signature.also else ())}


def _cells(signature: Signature, row: dict[str, Any]) -> dict[str, list[str]]:
    """Returns the keys of the values of a matrix, if `row` has them one by one, as a table has: `X[0]`, `X[1]`, …."""
    only = signature.alone
    if only is None or f"{only.name}[0]" not in row or len(only.shape) != _MATRIX:
        return {}
    width = only.shape[1] if only.shape[1] >= 0 else sum(key.startswith(f"{only.name}[") for key in row)
    return {only.name: names_of(only.name, only.shape[1:], width)}


def _in_order(row: dict[str, Any], columns: Sequence[str], of: str = "") -> list[Any]:
    if missing := [name for name in columns if name not in row]:
        raise InputAtFault(f"it lacks {listed(missing)}{of}")
    return [row[name] for name in columns]


class JsonLines:
    """A row a line."""

    first, between, after, last, none = b"", b"", b"\n", b"", b""

    def __init__(self, job: Job) -> None:
        self._job, self._begun = job, False

    def blocks(self, size: int) -> Iterator[Rows]:
        """As in `Form`. A line that is no JSON is kept as it is, and refused as a row."""
        lines = filter(bytes.strip, self._job.source)
        while block := [_read(line) for line in itertools.islice(lines, size)]:
            yield block

    def inputs(self, rows: Rows, /) -> Arrays:
        """As in `Form`."""
        if any(type(row) is _NoJson for row in rows):
            raise InvalidInput(f"it is not JSON: {next(row for row in rows if type(row) is _NoJson)}")
        return inputs_of(rows, self._job)

    def write(self, rows: Rows, request: Request, outputs: Arrays) -> None:
        """As in `Form`."""
        for row, predicted in zip(rows, rows_of(self._job.served, outputs, request.wanted), strict=True):
            whole = predicted if self._job.alone else _joined(row, predicted)
            self._job.target.write((self.between if self._begun else self.first) + orjson.dumps(whole) + self.after)
            self._begun = True

    def finish(self) -> None:
        """As in `Form`."""
        self._job.target.write(self.last if self._begun else self.none)


class JsonArray(JsonLines):
    """One array of rows, which is read as a whole."""

    first, between, after, last, none = b"[\n", b",\n", b"", b"\n]\n", b"[]\n"

    def blocks(self, size: int) -> Iterator[Rows]:
        """As in `Form`."""
        try:
            rows = orjson.loads(self._job.source.read())
        except orjson.JSONDecodeError as error:
            raise InvalidInput(f"the file is not JSON: {error}; rows in lines of their own are .jsonl") from None
        if type(rows) is not list:
            wanted = 'as DataFrame.to_json(orient="records") writes it; rows in lines of their own are .jsonl'
            raise InvalidInput(f"the file is not an array of rows, {wanted}")
        for start in range(0, len(rows), size):
            yield rows[start : start + size]


class _NoJson(str):
    """What is wrong with a line."""


def _read(line: bytes) -> Any:
    try:
        return orjson.loads(line)
    except orjson.JSONDecodeError as error:
        return _NoJson(error)


def _joined(row: Any, predicted: dict[str, Any]) -> dict[str, Any]:
    row = row if type(row) is dict else {"row": row}
    return {**row, **dict(zip(beside(list(predicted), list(row)), predicted.values(), strict=True))}
