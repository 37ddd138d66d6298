"""Says what the files of a kit are and whether a trust level would load them, without loading any.

For pickles it lists the globals that are not on the allow-list. This is a report: what holds a model to its trust level
is its load. It reads bytes of the kit and asks frameworks about some of them, so it runs in a process that may be lost.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Final

from adapters.base import AdapterError, ModelFiles, Options
from adapters.choose import ADAPTERS, read_head
from adapters.pickles.file import looks_like_skops
from adapters.trust import allows_code, check_level
from adapters.wording import reason


@dataclass(frozen=True, slots=True)
class Verdict:
    """A file, the adapter that knows it (or None), and why the level would not load it (or None)."""

    path: str
    adapter: str | None
    refused: str | None = None


def verdicts(files: ModelFiles, options: Options, chosen: tuple[str, str] | None = None) -> Iterator[Verdict]:
    """Yields a verdict for each file of the kit; `chosen`: the file that would be served, and its adapter."""
    for path in files.files:
        served_by = chosen[1] if chosen and chosen[0] == path else None
        yield _verdict(replace(files, path=path), options, served_by)


def _verdict(files: ModelFiles, options: Options, served_by: str | None) -> Verdict:
    try:
        head = read_head(files, files.path)
        by_content = [a.name for a in ADAPTERS if a.sniff(head)]
        by_suffix = [a.name for a in ADAPTERS if a.suffixes and files.path.casefold().endswith(a.suffixes)]
        name = served_by or next(iter(by_content or by_suffix), None)
    except AdapterError as error:
        return Verdict(files.path, served_by, str(error))
    return Verdict(files.path, name, None if name is None else _refusal(name, head, files, options))


def _refusal(adapter: str, head: bytes, files: ModelFiles, options: Options) -> str | None:
    try:
        check_level(options.trust)
        check = None if allows_code(options.trust) else _CHECKS.get(adapter)
        return check(head, files, options) if check else None
    except AdapterError as error:
        return str(error)
    except Exception as error:  # noqa: BLE001 - a framework can raise anything for a damaged file
        return f"it cannot be read: {reason(error, 160)}"


def _onnx(_head: bytes, files: ModelFiles, _options: Options) -> None:
    from adapters.onnx import adapter as onnx

    onnx.checked_facts(files)


def _sklearn(head: bytes, files: ModelFiles, options: Options) -> str | None:
    if looks_like_skops(head):
        from adapters.sklearn.file import refused_types, untrusted_types

        refused = sorted(refused_types(untrusted_types(files), options))
        return f"a skops file that wants {', '.join(refused)}" if refused else None
    if options.trust == "data":
        return "a pickle, which --trust data does not load"
    from adapters.pickles.names import denied_names

    denied = sorted(denied_names(files.root / files.path, files.path, frozenset(options.allow_globals)))
    return f"a pickle that wants {', '.join(denied)}" if denied else None


def _torch(head: bytes, files: ModelFiles, options: Options) -> str | None:
    records: list[str] = []
    if head.startswith(b"PK"):
        from adapters.pytorch import export

        records = export.record_names(files)
    if "archive_format" in records:
        if options.trust == "data" and (pickled := export.pickled(records)):
            return f"its member {pickled[0]} is pickled"
        export.check_archive(files)
    elif "constants.pkl" in records:
        loads = options.trust != "data" and options.confined
        return None if loads else "TorchScript, which needs --trust restricted and a worker confined by Landlock"
    else:
        return "weights, which need the kit's own code: --trust unsafe"
    return None


def _python(_head: bytes, _files: ModelFiles, options: Options) -> str:
    return f"its entry point is the kit's own code, which --trust {options.trust} does not run"


_CHECKS: Final[dict[str, Callable[[bytes, ModelFiles, Options], str | None]]] = {
    "onnx": _onnx,
    "sklearn": _sklearn,
    "pytorch": _torch,
    "python": _python,
}
"""The other adapters' formats are data, which only their frameworks can check."""
