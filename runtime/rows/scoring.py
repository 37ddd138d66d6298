"""Every row of a file through a model, in blocks; a block that fails is halved until the wrong rows are known."""

from collections.abc import Callable, Iterator
from math import prod
from typing import Final

from adapters.base import Model
from adapters.values import Arrays
from adapters.wording import reason
from runtime.errors import InvalidInput, PredictFailed, RequestFailed, Unsupported, WrongRow
from runtime.log import Log
from runtime.rows.arrow_rows import ArrowRows, ParquetRows
from runtime.rows.base import Form, Job, Rows
from runtime.rows.csv_rows import CsvRows
from runtime.rows.json_rows import JsonArray, JsonLines
from runtime.rows.npy_rows import NpyRows
from runtime.serving.engine.request import Request
from runtime.serving.protocol.rows import by_rows

FORMS: Final[dict[str, Callable[[Job], Form]]] = {
    "csv": CsvRows,
    "json": JsonArray,
    "jsonl": JsonLines,
    "npy": NpyRows,
    "parquet": ParquetRows,
    "arrow": ArrowRows,
}
_FIRST_BYTES: Final = {
    b"\x93NUMPY": "npy",
    b"PK\x03\x04": "npy",  # a zip file, which is refused there
    b"PAR1": "parquet",
    b"ARROW1": "arrow",
    b"\xff\xff\xff\xff": "arrow",
    b"[": "json",
    b"{": "jsonl",
}
_MOST_ROWS: Final = 4096
_MOST_ELEMENTS: Final = 2**20  # of the inputs of a block
_MOST_SAID: Final = 10  # rows that are named; the end says how many there were
_ANY_SIZE: Final = 256  # what a dimension of any size is taken for


def form_of(first: bytes) -> str:
    """Returns the form of a file that begins so."""
    return next((form for begin, form in _FIRST_BYTES.items() if first.startswith(begin)), "csv")


class Scoring:
    """One file on its way through a model. `rows` were predicted, `skipped` were wrong."""

    def __init__(self, job: Job, form: str, log: Log, *, skip: bool) -> None:
        self.rows = self.skipped = 0
        self._job, self._form, self._log, self._skip = job, form, log, skip

    def run(self) -> None:
        """Writes a prediction for every row. Raises WrongRow for the first that is wrong, unless those are skipped."""
        size, first = block_size(self._job.served.model), 1
        try:
            form = FORMS[self._form](self._job)
            for rows in form.blocks(size):
                for good, request, outputs in self._predicted(form, rows, first):
                    form.write(good, request, outputs)
                    self.rows += len(good)
                first += len(rows)
            form.finish()
        except InvalidInput as error:  # of the file itself
            raise WrongRow(f"after {first - 1} rows: {error}" if first > 1 else str(error)) from error
        finally:
            self._job.target.flush()  # rows before a wrong one, too

    def _predicted(self, form: Form, rows: Rows, first: int) -> Iterator[tuple[Rows, Request, Arrays]]:
        try:
            answer = self._predict(form, rows)
        except RequestFailed as error:
            if len(rows) == 1:
                self._wrong(first, error)
                return
        else:
            yield rows, *answer
            return
        half = len(rows) // 2
        yield from self._predicted(form, rows[:half], first)
        yield from self._predicted(form, rows[half:], first + half)

    def _predict(self, form: Form, rows: Rows) -> tuple[Request, Arrays]:
        served = self._job.served
        request = Request(form.inputs(rows), served.signature.default)
        outputs = served.engine.predict(request)
        if request.rows != len(rows) or not by_rows(len(rows), request.wanted, outputs):
            raise PredictFailed("the model does not give one prediction a row")
        return request, outputs

    def _wrong(self, number: int, error: RequestFailed) -> None:
        cause = f": {reason(error.__cause__)}" if isinstance(error, PredictFailed) and error.__cause__ else ""
        text = f"row {number}: {error}{cause}"
        if not self._skip:
            raise WrongRow(f"{text}; --on-error skip leaves such rows out") from error
        self.skipped += 1
        if self.skipped <= _MOST_SAID:
            self._log.warning("row.skipped", message=text, row=number, reason=f"{error}{cause}")


def block_size(model: Model) -> int:
    """Returns how many rows the model may get at once. Raises Unsupported for a model that takes no rows."""
    fixed = {spec.shape[0] if spec.shape else 0 for spec in model.inputs} - {-1}
    if fixed - {1}:
        raise Unsupported("this model does not take rows: not every input has a first dimension of any size, or of 1")
    elements = sum(prod(_ANY_SIZE if size < 0 else size for size in spec.shape[1:]) for spec in model.inputs)
    return 1 if fixed else max(1, min(_MOST_ROWS, _MOST_ELEMENTS // max(1, elements)))
