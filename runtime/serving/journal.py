"""What of an exception may stand in a log."""

from __future__ import annotations


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
