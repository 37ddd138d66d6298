"""CSV → a model's inputs, and its outputs → CSV (https://www.rfc-editor.org/rfc/rfc4180), with names of columns.

An input or output of one value a row is a column of its name, of several `name[0]`, `name[1]`, … in row-major order.
"""

import csv
import io
import re
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain, islice
from math import inf, prod
from typing import Any, Final

import numpy as np

from adapters.base import Model, TensorSpec
from adapters.values import Array, Arrays
from runtime.errors import InputAtFault, InvalidInput
from runtime.link.limits import Limits
from runtime.serving.engine.request import Request, Signature, spelt
from runtime.serving.protocol.json_elements import INTEGERS, array_of, count_of
from runtime.serving.protocol.rows import blocks_of, not_utf8, values_of
from runtime.serving.wording import listed, quoted, shown

_BLOCK_ROWS: Final = 4096
"""Rows that are texts at the same time: an array takes a tenth of the memory."""
_BLOCK_CELLS: Final = 2**18
_FLAGS: Final = {"true": True, "false": False, "1": True, "0": False}
_MOST_COLUMNS: Final = 65_536
_LONG: Final = 4096
"""Characters of a row from which its cells are counted before each is an object."""
_CELL: Final = re.compile(r'(?:"[^"]*+(?:""[^"]*+)*+"|[^,"][^,]*+|),')
"""A cell as `csv` reads it, up to the next one."""
_STRIDE: Final = 256
_CELLS: Final = re.compile(f"(?:{_CELL.pattern}){{{_STRIDE}}}")
Columns = dict[str, tuple[TensorSpec, int]]
"""The input of each column by the column's name, and the place in the input's row."""


def read_csv(body: bytes, signature: Signature, limits: Limits) -> Arrays:
    """Returns the inputs in `body`. Its first line is a header if it has the name of a column. Raises InvalidInput."""
    text = io.TextIOWrapper(io.BytesIO(body), "utf-8-sig", newline="")  # decodes as it is read
    rows = _Rows(text, _most_columns(signature))
    lines = iter(rows)
    try:
        first = next(lines, None)
        if first is None:
            raise InputAtFault("the CSV is empty")
        signature, given = meant(signature, stripped := [name.strip() for name in first])
        columns = columns_for(signature, count := rows.cells or len(first))
        headless = set(given).isdisjoint(columns)
        names = in_order(columns, count, signature) if headless else by_name(columns, given, signature)
        rows.most = len(names)
        if headless:
            lines = chain((first,), lines)
        elif stripped != first:  # who writes `age, sex` writes `25, female`
            lines = ([cell.strip() for cell in row] for row in lines)
        return _read(_fitting(lines, len(names), rows), columns, names, limits)
    except csv.Error as error:
        raise InvalidInput(f"the CSV cannot be read: {error}") from None
    except UnicodeDecodeError:
        raise not_utf8("the CSV") from None


class _Rows:
    """The rows of a CSV that are not empty. A long one of more than `most` cells is cut before each is an object: some
    more than `most` are left."""

    __slots__ = ("_open", "_text", "cells", "most")

    def __init__(self, text: Iterable[str], most: int) -> None:
        self.most = most
        self.cells = 0
        """How many cells the last row had, as far as the line that was cut; 0: it is whole."""
        self._text, self._open = text, False

    def __iter__(self) -> Iterator[list[str]]:
        for row in csv.reader(self._lines(), strict=True):  # of which nothing here knows: no cycle keeps a long line
            self._open = False
            if row:
                yield row

    def _lines(self) -> Iterator[str]:
        # cells of the row that have ended, and what is not counted yet: of a long row its last line
        ended, seen = 0, ""
        for line in self._text:
            if not self._open:
                ended, seen = 0, line
            else:
                if len(seen) > _LONG:
                    ended, seen = ended + _pass_over(seen, 0, len(seen))[0], '"'
                seen += line
            cut = len(seen) > _LONG and ended + seen.count(",") > self.most
            self._open = True
            yield self._cut(seen, len(seen) - len(line), ended) if cut else line

    def _cut(self, seen: str, begin: int, ended: int) -> str:
        """Returns the line that starts at `begin`, without what is behind `most` cells and some more."""
        passed, at = _pass_over(seen, 0, self.most + 1 - ended)
        if at <= begin:  # what is before has been read
            more, at = _pass_over(seen, at, begin + 1 - at)
            passed += more
        if at <= begin or ended + passed <= self.most:
            return seen[begin:]
        left = seen.count(",", at) if seen.find('"', at) < 0 else _pass_over(seen, at, len(seen))[0]
        self.cells = ended + passed + left + 1
        return seen[begin : at - 1]


def _pass_over(line: str, at: int, most: int) -> tuple[int, int]:
    """Returns how many cells end with a delimiter from there on, about `most` at most, and where the last one does."""
    passed = 0
    for pattern, cells in ((_CELLS, _STRIDE), (_CELL, 1)):
        while passed < most and (found := pattern.match(line, at)):
            passed, at = passed + cells, found.end()
    return passed, at


def _most_columns(signature: Signature) -> int:
    either = (signature, signature.also) if signature.also else (signature,)
    return max(sum(map(_width, one.inputs.values())) for one in either)


def _width(spec: TensorSpec) -> int:
    sizes = spec.shape[1:]
    return _MOST_COLUMNS if -1 in sizes else min(prod(sizes), _MOST_COLUMNS)


def meant(signature: Signature, header: list[str]) -> tuple[Signature, list[str]]:
    """Returns the signature of the model that a header fits, with columns in place of one matrix or the other way, and
    the names in the header as the model has them."""
    also = signature.also
    known = {*signature.inputs, *(also.inputs if also else ())}
    given = [spelt(name, known) for name in header]
    return signature if also is None or also.inputs.keys().isdisjoint(given) else also, given


def columns_for(signature: Signature, given: int) -> Columns:
    """Returns the input and the place in its row of every column by its name; a free width is as `given`."""
    columns: Columns = {}
    for spec in signature.inputs.values():
        sizes = spec.shape[1:]
        if -1 in sizes and sizes != (-1,):
            raise InvalidInput(f"CSV has no form for input {quoted(spec.name)} of shape {list(spec.shape)}; send JSON")
        if (width := abs(prod(sizes)) if sizes != (-1,) else given) > _MOST_COLUMNS:
            raise InvalidInput(f"CSV for input {quoted(spec.name)} has over {_MOST_COLUMNS} columns; send JSON")
        if sizes == (-1,) and signature.only is None:
            raise InvalidInput(f"CSV does not say how wide input {quoted(spec.name)} is; send JSON")
        columns |= {name: (spec, place) for place, name in enumerate(names_of(spec.name, sizes, width))}
    return columns


def names_of(name: str, sizes: Sequence[int], width: int, labels: Sequence[str] | None = None) -> list[str]:
    """Returns the columns' names of an input or output: its own, or one for each of its values."""
    if not sizes:
        return [name]
    inner = labels if labels is not None and tuple(sizes) == (len(labels),) else range(width)
    return [f"{name}[{each}]" for each in inner]


def in_order(columns: Columns, given: int, signature: Signature) -> list[str]:
    """Returns the names of the columns of a table of `given` columns without a header. Raises InputAtFault."""
    required = [name for name, (spec, _) in columns.items() if spec.name in signature.required]
    for names in (list(columns), required):
        if len(names) == given:
            return [*names]
    wanted = f"{len(columns)}: {listed(columns)}"
    raise InputAtFault(
        f"the CSV has {given} column{'s'[: given != 1]} and no header that this model knows, wanted {wanted}"
    )


def by_name(columns: Columns, given: list[str], signature: Signature) -> list[str]:
    """Returns the names in a header if they are all that the model needs, each once. Raises InputAtFault."""
    for name in given:
        if name not in columns:
            raise InputAtFault(f"the CSV has an unknown column {shown(name)}; expected {listed(columns)}")
    if len(set(given)) < len(given):
        raise InputAtFault("the CSV has a column twice")
    there = {columns[name][0].name for name in given} | set(signature.required)
    if missing := [name for name, (spec, _) in columns.items() if spec.name in there and name not in given]:
        raise InputAtFault(f"the CSV lacks {listed(missing)}; expected {listed(columns)}")
    return given


def _fitting(lines: Iterator[list[str]], width: int, rows: _Rows) -> Iterator[list[str]]:
    for number, line in enumerate(lines):
        if len(line) != width:
            count = rows.cells or len(line)
            raise InputAtFault(f"row {number} of the CSV has {count} cells, the first line has {width}")
        yield line


def _read(lines: Iterator[list[str]], columns: Columns, names: list[str], limits: Limits) -> Arrays:
    places: dict[str, dict[int, int]] = {}
    for index, name in enumerate(names):
        spec, place = columns[name]
        if not spec.ignored:
            places.setdefault(spec.name, {})[place] = index
    specs = {spec.name: spec for spec, _ in columns.values()}
    orders = {name: [at for _, at in sorted(indices.items())] for name, indices in places.items()}
    blocks: dict[str, list[Array]] = {name: [] for name in places}
    rows, step = 0, max(1, min(_BLOCK_ROWS, _BLOCK_CELLS // len(names)))
    while block := list(islice(lines, step)):
        for name, order in orders.items():
            cells = [line[at] for line in block for at in order]
            blocks[name].append(_array(specs[name], cells, (rows, step), limits))
        rows += len(block)
    if not rows:
        raise InputAtFault("the CSV has no rows")
    return {name: _whole(specs[name], parts, [rows, len(orders[name])], limits) for name, parts in blocks.items()}


def _array(spec: TensorSpec, cells: list[str], block: tuple[int, int], limits: Limits) -> Array:
    try:
        flat = TensorSpec(spec.name, spec.datatype, (-1,), nullable=spec.nullable)
        values = [cell or None for cell in cells] if spec.nullable else cells_of(spec.datatype, cells)
        return array_of(flat, [len(cells)], values, limits)
    except InputAtFault as fault:
        row, step = block
        if row:
            raise InputAtFault(f"in the {step} rows from row {row}: {fault}") from None
        raise


def _whole(spec: TensorSpec, parts: list[Array], size: list[int], limits: Limits) -> Array:
    rows, width = size
    free = spec.shape[1:] == (-1,)
    shape = [] if not spec.shape and rows == 1 else [rows, *((width,) if free else spec.shape[1:])]
    count_of(spec, shape, limits)
    return (parts[0] if len(parts) == 1 else np.concatenate(parts)).reshape(shape)


def cells_of(datatype: str, cells: list[str]) -> list[Any]:
    """Returns the cells as JSON has them; what has no such value stays a text, which `array_of` then refuses."""
    if datatype == "BYTES":
        return cells
    if datatype == "BOOL":
        return [_FLAGS.get(cell.strip().lower(), cell) for cell in cells]
    kind: type[int] | type[float] = int if datatype in INTEGERS else float
    try:
        values = list(map(kind, cells))
    except ValueError:
        return [_number(kind, cell) for cell in cells]
    whole = "".join(cells)
    if "_" in whole or not whole.isascii() or (kind is float and not {inf, -inf}.isdisjoint(values)):
        return [_number(kind, cell) for cell in cells]
    return values


def _number(kind: type[int] | type[float], cell: str) -> object:
    text = cell.strip()
    if not text:  # NaN, or no number
        return None if kind is float else cell
    if "_" in text or not text.isascii():
        return cell
    for read in (kind, float):
        try:
            value = read(text)
        except ValueError:
            continue
        return cell if value in (inf, -inf) else value  # 1e400 would be another number, and a word is none
    return kind(flag) if (flag := _FLAGS.get(text.lower())) is not None else cell  # as pandas writes a column of bool


def write_csv(model: Model, request: Request, outputs: Arrays) -> bytes:
    """Returns the outputs as CSV: NaN is an empty cell. Raises InvalidInput for what CSV cannot carry."""
    text = io.StringIO()
    writer = csv.writer(text)
    for block in blocks_of(max(request.rows, 1), request.wanted, outputs):
        names, columns = predicted_columns(model, request, block)
        if not text.tell():
            writer.writerow(names)
        writer.writerows(zip(*columns, strict=True))
    return text.getvalue().encode()


def predicted_columns(model: Model, request: Request, outputs: Arrays) -> tuple[list[str], list[list[Any]]]:
    """Returns the names of the outputs' columns, and their cells. Raises InvalidInput as `write_csv` does."""
    names: list[str] = []
    columns: list[list[Any]] = []
    for name in request.wanted:
        array = outputs[name]
        flat = array.reshape(len(array), prod(array.shape[1:]))
        labels = model.labels if array.dtype.kind == "f" else None
        names += names_of(name, array.shape[1:], flat.shape[1], labels)
        columns += ([_cell(name, value) for value in column] for column in values_of(name, flat.T))
    return names, columns


def _cell(name: str, value: Any) -> Any:
    if type(value) is dict:
        raise InvalidInput(f"output {quoted(name)} is not UTF-8, which CSV needs; ask for JSON")
    if type(value) is bool:
        return "true" if value else "false"
    return "" if value is None or value != value else value
