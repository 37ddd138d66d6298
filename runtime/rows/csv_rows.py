"""CSV: the model's columns by name or in order, all others beside them; a header in front of the predictions."""

import csv
import io
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from itertools import chain, islice

from adapters.values import Arrays
from runtime.errors import InputAtFault, InvalidInput
from runtime.rows.base import Job, Rows, beside, by_columns
from runtime.serving.engine.request import Request
from runtime.serving.protocol.plain.csv_text import by_name, columns_for, in_order, meant, predicted_columns, read_csv
from runtime.serving.protocol.rows import not_utf8
from runtime.serving.wording import listed


class CsvRows:
    """The first line is a header if it has the name of a column that the model takes, or one of `--columns`."""

    def __init__(self, job: Job) -> None:
        self._job, self._begun = job, False
        self._perhaps_header = list[str]()  # a first line without a name that is known
        text = io.TextIOWrapper(job.source, "utf-8-sig", newline="")
        self._lines = (row for row in csv.reader(text, strict=True) if row)
        self._text = io.TextIOWrapper(job.target, "utf-8", newline="", write_through=True)
        self._writer = csv.writer(self._text)

    def blocks(self, size: int) -> Iterator[Rows]:
        """As in `Form`."""
        try:
            if (first := next(self._lines, None)) is None:
                raise InputAtFault("the CSV is empty")
            lines = self._lines if self._read_header(first) else chain((first,), self._lines)
            while block := list(islice(lines, size)):
                yield block
        except csv.Error as error:
            raise InvalidInput(f"the CSV cannot be read: {error}") from None
        except UnicodeDecodeError:
            wanted = "unpack or convert it, and send the text to standard input: … | runtime predict REF -"
            raise InvalidInput(f"{not_utf8('the CSV')}; {wanted}") from None

    def _read_header(self, first: list[str]) -> bool:
        """Decides which cells of a row the model gets, and under which names; returns whether `first` is a header."""
        given, asked = [name.strip() for name in first], self._job.columns
        signature, names = self._job.served.signature, given
        if not asked:
            signature, names = meant(signature, given)
        known = columns_for(signature, len(asked or first))
        self._names = given
        if asked:
            if missing := [name for name in asked if name not in given]:
                raise InputAtFault(f"the CSV lacks {listed(missing)} of --columns; its first line has {listed(given)}")
            self._cells, self._header = [given.index(name) for name in asked], in_order(known, len(asked), signature)
            return True
        self._cells = [index for index, name in enumerate(names) if name in known]
        if self._cells:
            with _hinting(given):
                self._header = by_name(known, [names[index] for index in self._cells], signature)
            return True
        self._perhaps_header = first
        with _hinting(first):
            self._names = self._header = in_order(known, len(first), signature)
        self._cells = list(range(len(first)))
        return False

    def inputs(self, rows: Rows, /) -> Arrays:
        """As in `Form`: what the same cells are in a request."""
        width = len(self._names)
        for row in rows:
            if len(row) != width:
                raise InputAtFault(f"it has {len(row)} cells, the first line has {width}")
        text = io.StringIO()
        writer = csv.writer(text)
        writer.writerow(self._header)
        writer.writerows([row[index] for index in self._cells] for row in rows)
        with _hinting(rows[0]) if rows[0] is self._perhaps_header else nullcontext():
            return read_csv(text.getvalue().encode(), self._job.served.signature, self._job.served.limits)

    def write(self, rows: Rows, request: Request, outputs: Arrays) -> None:
        """As in `Form`."""
        names, columns = predicted_columns(self._job.served.model, request, outputs)
        kept = [] if self._job.alone else self._names
        if not self._begun:
            self._writer.writerow([*kept, *beside(names, kept)])
            self._begun = True
        predicted = zip(*columns, strict=True)
        self._writer.writerows(
            predicted if self._job.alone else ([*row, *cells] for row, cells in zip(rows, predicted, strict=True))
        )

    def finish(self) -> None:
        """As in `Form`."""
        self._text.detach()  # else it would close the file with itself


@contextmanager
def _hinting(first: list[str]) -> Iterator[None]:
    """Says what to do about names that the model does not know, if the first line may be one of names."""
    try:
        yield
    except InputAtFault as fault:
        if len(first) == 1 and (other := next((mark for mark in ";\t|" if mark in first[0]), "")):
            hint = f"; its first line has {other!r} between its cells, expected commas"
        else:
            hint = "" if any(cell.strip()[:1].isdigit() for cell in first) else by_columns(first)
        raise InputAtFault(f"{fault}{hint}") from None
