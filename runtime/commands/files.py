"""What a kit's files are, for `runtime inspect --files`: a confined process says it, and all it says is checked.

Frameworks read the files in that process (`runtime/worker/examine.py`), so a file may take it over.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from typing import Final

from adapters import names
from runtime.commands.stopping import readable
from runtime.errors import NotExamined
from runtime.kit.kit import Kit
from runtime.link.messages import Examine, Verdict
from runtime.link.model_files import ModelFacts
from runtime.log import Log
from runtime.settings import Settings
from runtime.supervisor.output import Output
from runtime.supervisor.process import WorkerProcess

_SECONDS: Final = 120.0  # to look at all the files of a kit
_END_SECONDS: Final = 10.0  # for the process to end after its last message
_CANCELLED: Final = "looking at the kit's files was cancelled"
_NO_VERDICT: Final = "the process that looks at the kit's files sent what is no verdict on one of them"


def examine(
    kit: Kit,
    settings: Settings,
    cancelled: Callable[[], bool],
    *,
    log: Log,
    module: str = "runtime.worker.examine",
    seconds: float = _SECONDS,
) -> tuple[Verdict, dict[str, Verdict]]:
    """Returns the verdict on a verified kit, and on each of its files by path. Raises Cancelled if told to stop.

    They come from a process that may die, the `main` of `module`. If it dies, that is the verdict on all files that
    it had not reached. Raises NotExamined if it takes longer than `seconds`, or sends what is no verdict on a file.
    """
    facts = ModelFacts.of(kit.kitfile)
    paths = facts.files(kit.root).files
    process = WorkerProcess(0, module)
    try:
        process.finish_output = Output(process, log).finish
        process.tell(Examine(facts, str(kit.root), settings.terms("auto")))
        chosen, files = _checked(_messages(process, seconds, cancelled), paths)
    except BaseException:
        process.kill()
        process.reap()
        raise
    ended = Verdict(None, None, f"not known: the process that looked at it ended ({process.reap()})")
    return chosen or ended, {path: files.get(path, ended) for path in paths}


def _checked(said: Iterator[Verdict], paths: Sequence[str]) -> tuple[Verdict | None, dict[str, Verdict]]:
    """Reads one message on the kit and one on each of its files. Any of them may be the work of a hostile file."""
    adapters = {None, *names()}
    chosen, files = None, dict[str, Verdict]()
    for verdict in said:
        path, adapter, reason = verdict
        if adapter in adapters and path is None and reason is not None and not chosen:
            chosen = verdict
        elif adapter in adapters and path is not None and path in paths and path not in files:
            files[path] = verdict
        else:
            raise NotExamined(_NO_VERDICT)
    return chosen, files


def _messages(process: WorkerProcess, seconds: float, cancelled: Callable[[], bool]) -> Iterator[Verdict]:
    """Yields what the process says until it ends. It has `seconds` for all of it."""
    deadline = time.monotonic() + seconds
    while True:
        if not readable(process.channel, deadline, cancelled, _CANCELLED):
            raise NotExamined(f"looking at the kit's files took longer than {seconds:g} s; inspect it without --files")
        try:
            message = process.channel.receive(Verdict)
        except EOFError:
            break
        except ValueError as error:
            raise NotExamined(_NO_VERDICT) from error
        if message:
            yield message
    if not readable(process.pidfd, min(deadline, time.monotonic() + _END_SECONDS), cancelled, _CANCELLED):
        raise NotExamined("the process that looks at the kit's files broke off its report, and does not end")
