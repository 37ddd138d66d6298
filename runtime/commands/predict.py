"""`runtime predict REF [FILE]`: a prediction for every row of a file, without a server.

A confined process (`runtime/worker/predict.py`) has the model, and reads and writes the two files. This one pulls the
kit, opens the files, and shows how far it is.
"""

import math
import os
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, Final

from runtime.commands.stopping import readable, until_stopped
from runtime.errors import CrashLoop, InvalidSetting, NotFound, StorageFailed
from runtime.kit.files import NewFile
from runtime.kit.format.reference import Reference
from runtime.kit.pull import pull
from runtime.link.messages import Failed, Load, Predict, Predicted
from runtime.log import Log
from runtime.progress import Progress
from runtime.settings import Settings
from runtime.supervisor.cgroups import allowance
from runtime.supervisor.launcher import limits_of
from runtime.supervisor.output import Output
from runtime.supervisor.process import WorkerProcess
from runtime.supervisor.strays import adopt, sweep_until_none

FORMS: Final = {".csv": "csv", ".json": "json", ".jsonl": "jsonl", ".ndjson": "jsonl", ".npy": "npy",
                ".parquet": "parquet", ".pq": "parquet", ".arrow": "arrow", ".feather": "arrow"}  # fmt: skip
"""The form of a file by the end of its name; of others, and of standard input, it is told by the first bytes."""
_BINARY: Final = ("npy", "parquet", "arrow")
_END_SECONDS: Final = 1.0  # for the process with the model, and what it left behind
_STANDARD: Final = "-"


def run(settings: Settings, log: Log, _: object, /) -> tuple[int, list[str]]:
    """Predicts every row. Raises Failure if the kit or a file cannot be used, or a row is wrong; AdapterError."""
    return until_stopped(lambda progress: _predict(settings, progress, log), log, settings.progress)


def _predict(settings: Settings, progress: Progress, log: Log) -> tuple[int, list[str]]:
    reference = Reference.parse(settings.kit, registry=settings.registry, model_name=settings.model_name)
    form = _form(settings.rows, settings.output)
    if form in _BINARY and settings.output == _STANDARD and os.isatty(1):
        raise InvalidSetting("the predictions are no text for a terminal: name a file with --output FILE")
    with _source(settings.rows) as source, _target(settings.output) as (target, publish):
        kit = pull(reference, settings.pull_options, progress)
        order = Predict(
            kit=Load.of(kit),
            terms=settings.terms(settings.sandbox),
            limits=limits_of(settings, allowance()),
            log_style=log.style,
            log_level=log.level,
            form=form,
            columns=settings.columns,
            alone=settings.alone,
            skip=settings.on_error == "skip",
        )
        adopt()
        try:
            done = _ask(order, (2, source, target), _watch(settings, source, progress, log), log)
        except StorageFailed as failure:  # the process with the model does not know the names
            raise StorageFailed(f"{failure} (rows {settings.rows!r}, predictions {settings.output!r})") from failure
        finally:
            log.status("")
            sweep_until_none(_END_SECONDS)
        publish()
    skipped = f", left out {done.skipped} that were wrong" if done.skipped else ""
    message = f"predicted {done.rows} {'row' if done.rows == 1 else 'rows'}{skipped}"
    log.info("rows.predicted", message=message, rows=done.rows, skipped=done.skipped, output=settings.output)
    return 0, []


def _ask(order: Predict, files: tuple[int, int, int], cancelled: Callable[[], bool], log: Log) -> Predicted:
    process = WorkerProcess(0, "runtime.worker.predict")
    try:
        process.finish_output = Output(process, log).finish
        process.tell(order, files)
        readable(process.channel, math.inf, cancelled, "predicting was cancelled")
        said = process.channel.receive(Predicted, Failed)
    except EOFError:
        said = None
        process.ends_within(_END_SECONDS)  # by itself: a kill would hide of what
    except ValueError as error:
        raise CrashLoop("the process with the model said what cannot be") from error
    finally:
        process.kill()
        ended = process.reap()
    if isinstance(said, Failed):
        raise said.as_error()
    if not isinstance(said, Predicted):
        raise CrashLoop(f"the process with the model ended ({ended}) before all rows were predicted")
    return said


def _form(rows: str, output: str) -> str:
    """Returns the form of both files, "" if their names do not say it. Raises InvalidSetting if they differ."""
    form, wanted = (FORMS.get(Path(name).suffix.lower(), "") for name in (rows, output))
    if form and wanted and form != wanted:
        raise InvalidSetting(
            f"--output {output!r} is {wanted}, but {rows!r} is {form}: predictions have the rows' form"
        )
    return form or wanted


@contextmanager
def _source(rows: str) -> Iterator[int]:
    if rows == _STANDARD:
        if os.isatty(0):
            raise InvalidSetting("no rows: give a file, or send them to standard input")
        yield 0
        return
    try:
        source = os.open(rows, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        raise NotFound(f"no file {rows!r} with rows") from None
    except OSError as error:
        raise InvalidSetting(f"cannot read {rows!r}: {error.strerror}") from error
    try:
        if stat.S_ISDIR(os.fstat(source).st_mode):
            raise InvalidSetting(f"{rows!r} is a folder; give one file with rows")
        yield source
    finally:
        os.close(source)


@contextmanager
def _target(output: str) -> Iterator[tuple[int, Callable[[], None]]]:
    """Gives the file for the predictions, and what gives it its name: until then it has another one beside it."""
    if output == _STANDARD:
        yield 1, lambda: None
        return
    path = Path(output).resolve()  # a link keeps pointing at the file
    is_new = path.is_file() or not path.exists()  # a device or a named pipe stays what it is
    with _writing(output):
        opened = NewFile(path, path.parent) if is_new else path.open("wb")
    with opened as file:
        yield file.fileno(), lambda: _publish(file, output)


def _publish(file: NewFile | BinaryIO, output: str) -> None:
    if isinstance(file, NewFile):
        with _writing(output):
            file.publish(0o666 & ~_umask()).close()


@contextmanager
def _writing(output: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise StorageFailed(f"cannot write {output!r}: {error.strerror}") from error


def _umask() -> int:
    os.umask(mask := os.umask(0o077))
    return mask


def _watch(settings: Settings, source: int, progress: Progress, log: Log) -> Callable[[], bool]:
    """Returns what draws how far the file is read, whose position both processes share; true if told to stop.

    Nothing is drawn where predictions go to the same terminal.
    """
    status, bar, name = os.fstat(source), Progress(log, style="bar"), Path(settings.rows).name
    hidden = settings.progress not in ("auto", "bar") or (settings.output == _STANDARD and os.isatty(1))

    def look() -> bool:
        if stat.S_ISREG(status.st_mode) and status.st_size and not hidden:
            bar.progress(name, min(os.lseek(source, 0, os.SEEK_CUR), status.st_size), status.st_size)
        return progress.cancelled()

    return look
