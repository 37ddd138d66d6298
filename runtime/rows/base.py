"""What a form of file is to `scoring`: blocks of rows in, inputs for the model, and predictions out."""

import csv
import io
import shlex
from collections.abc import Iterator, Sequence
from io import BufferedReader
from typing import Any, BinaryIO, Final, NamedTuple, Protocol

from adapters.values import Arrays
from runtime.serving.engine.request import Request
from runtime.serving.served import Served

_MOST_SHOWN: Final = 8  # names of columns

Rows = Any
"""A list, an array or a record batch: what has a length, and can be cut into slices."""


class Job(NamedTuple):
    """One file, the model that it is for, and what becomes of it."""

    source: "BufferedReader[Any]"
    target: BinaryIO
    served: Served
    columns: tuple[str, ...]  # the columns of the file that the model takes, in its order; (): by their names
    alone: bool  # predictions without the rows beside them


class Form(Protocol):
    """A file that is read and written in blocks."""

    def blocks(self, size: int) -> Iterator[Rows]:
        """Yields the rows, `size` at a time. Raises InvalidInput where the file itself is broken."""

    def inputs(self, rows: Rows, /) -> Arrays:
        """Returns what the model gets for some rows. Raises InvalidInput."""

    def write(self, rows: Rows, request: Request, outputs: Arrays) -> None:
        """Writes the predictions for some rows."""

    def finish(self) -> None:
        """Writes what a whole file ends with."""


def beside(names: Sequence[str], taken: Sequence[str]) -> list[str]:
    """Returns names for predictions that are not those of the rows' own columns: `predicted_` stands before such."""
    found = list(names)
    while twice := {name for name in found if name in taken}:
        found = [f"predicted_{name}" if name in twice else name for name in found]
    return found


def by_columns(names: Sequence[str]) -> str:
    """Returns what to do where a file's own names are none that the model knows. A nameless column is pandas' index."""
    line = io.StringIO()
    csv.writer(line, lineterminator="").writerow([name for name in names if name.strip()][:_MOST_SHOWN])
    shown = shlex.quote(line.getvalue()) + (",…" if len(names) > _MOST_SHOWN else "")
    return f"; if its columns have other names, say which the model takes: --columns {shown}"
