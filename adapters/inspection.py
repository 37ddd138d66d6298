"""Says what the files of a kit are and whether a trust level would load them, without loading any.

For pickles it lists the globals that are not on the allow-list. This is a report: what holds a model to its trust level
is its load. It reads bytes of the kit and asks frameworks about some of them, so it runs in a process that may be lost.
"""

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Final, NamedTuple

from adapters.base import AdapterError, ModelFiles, Options
from adapters.choose import ADAPTERS, by_suffix, read_head
from adapters.pickles.file import looks_like_skops
from adapters.trust import allows_code, check_level
from adapters.wording import reason


class Verdict(NamedTuple):
    """A file, the adapter that knows it (or None), and why the level would not load it (or None)."""

    path: str
    adapter: str | None
    refused: str | None = None


def verdicts(files: ModelFiles, options: Options, chosen: tuple[str, str] | None = None) -> Iterator[Verdict]:
    """Yields a verdict for each file of the kit; `chosen`: the file that would be served, and its adapter."""
    for path in files.files:
        name = chosen[1] if chosen and chosen[0] == path else None
        if chosen and chosen[1] == "transformers" and path.endswith(".safetensors"):
            name = "transformers"  # which has the code for these weights
        try:
            head = read_head(files, path)
            fits = [a for a in ADAPTERS if a.sniff(head)] or by_suffix(path, ADAPTERS)
            name = name or next((a.name for a in fits), None)
            if name:
                check_level(options.trust)
            check = None if allows_code(options.trust) else _CHECKS.get(name or "")
            refused = check(head, replace(files, path=path), options) if check else None
        except AdapterError as error:
            refused = str(error)
        except Exception as error:  # noqa: BLE001 - a framework can raise anything for a damaged file
            refused = f"it cannot be read: {reason(error, 160)}"
        yield Verdict(path, name, refused)


def _onnx(_head: bytes, files: ModelFiles, _options: Options) -> None:
    from adapters.onnx.policy import checked_facts

    checked_facts(files)


def _sklearn(head: bytes, files: ModelFiles, options: Options) -> str | None:
    if looks_like_skops(head):
        from adapters.sklearn.file import types_in

        _, refused = types_in(files, options)
        return f"a skops file that wants {', '.join(sorted(refused))}" if refused else None
    if options.trust == "data":
        return "a pickle, which --trust data does not load"
    from adapters.pickles.names import denied_names

    denied = sorted(denied_names(files.root / files.path, files.path, frozenset(options.allow_globals)))
    return f"a pickle that wants {', '.join(denied)}" if denied else None


def _torch(head: bytes, files: ModelFiles, options: Options) -> str | None:
    if head.startswith(b"PK"):
        from adapters.pytorch import export

        records = export.record_names(files)
        if "archive_format" in records:
            if options.trust == "data" and (pickled := export.pickled(records)):
                return f"its member {pickled[0]} is pickled"
            export.check_archive(files)
            return None
        if "constants.pkl" in records:
            if options.trust == "data" or not options.confined:
                return "TorchScript, which needs --trust restricted and a worker confined by Landlock"
            export.check_script(files)
            return None
    return "weights, which need the kit's own code: --trust unsafe"


_CHECKS: Final[dict[str, Callable[[bytes, ModelFiles, Options], str | None]]] = {
    "onnx": _onnx,
    "sklearn": _sklearn,
    "pytorch": _torch,
    "python": lambda _, __, own: f"its entry point is the kit's own code, which --trust {own.trust} does not run",
}
"""The other adapters' formats are data, which only their frameworks can check."""
