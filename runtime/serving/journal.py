"""What the serving wing logs to (`runtime.log.Log` is one), and what of a failure may stand there."""

from __future__ import annotations

from typing import Protocol


class Log(Protocol):
    """Events are `noun.verb` in the past with keys; one call costs microseconds and never blocks."""

    def debug(self, event: str, /, **fields: object) -> None:
        """For those who look for something."""

    def info(self, event: str, /, **fields: object) -> None:
        """The ordinary course of things."""

    def warning(self, event: str, /, **fields: object) -> None:
        """Something a person may want to change."""

    def error(self, event: str, /, **fields: object) -> None:
        """Something a person has to look at."""


def fault(error: BaseException, *, inputs: bool) -> dict[str, str]:
    """`cause` and `trace` of an exception.

    Without `inputs` neither holds the exception's text, in which models and frameworks quote what a client sent: only
    types, and where in the code.
    """
    import traceback  # 1 ms, and only for what is nobody's plan

    if inputs:
        return {"cause": f"{type(error).__name__}: {error}", "trace": "".join(traceback.format_exception(error))}
    trace: list[str] = []
    seen: BaseException | None = error
    while seen is not None:
        trace[:0] = [*traceback.format_tb(seen.__traceback__), f"{type(seen).__name__}\n"]
        seen = seen.__cause__ or (None if seen.__suppress_context__ else seen.__context__)
    last = traceback.extract_tb(error.__traceback__)[-1:]
    where = "".join(f" in {frame.name} ({frame.filename}:{frame.lineno})" for frame in last)
    return {"cause": f"{type(error).__name__}{where}", "trace": "".join(trace)}
