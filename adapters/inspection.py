"""Says what the files of a kit are and whether a trust level would load them.

Of pickles and skops files it lists the names that are not on the allow-list. Where there is none, the file is put
together as for serving, because what it holds and its parameters count, too; nothing predicts. It reads bytes of the
kit and asks frameworks about some of them, so it runs in a process that may be lost.
"""

from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from typing import Final, NamedTuple

from adapters.base import AdapterError, MissingFramework, ModelFiles, Options
from adapters.choose import ADAPTERS, by_suffix, no_model, read_head
from adapters.pickles.head import looks_like_skops
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
        if chosen and chosen[1] in ("transformers", "mlflow") and path.endswith(".safetensors"):
            name = "transformers"  # which has the code for these weights
        try:
            head = read_head(files, path)
            fits = [a for a in ADAPTERS if a.sniff(head)] or by_suffix(path, ADAPTERS)
            name = name or next((a.name for a in fits), None)
            if name:
                check_level(options.trust)
            check = None if allows_code(options.trust) else _CHECKS.get(name or "")
            refused = no_model(path, head) if name else None
            if check and not refused:
                refused = check(head, replace(files, path=path), options)
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

        kind, (_, denied) = "a skops file", types_in(files, options)
    elif options.trust == "data":
        return "a pickle, which --trust data does not load"
    else:
        from adapters.pickles.names import denied_names

        kind, denied = "a pickle", denied_names(files.root / files.path, files.path, frozenset(options.allow_globals))
    if denied:
        return f"{kind} that wants {', '.join(sorted(denied))}"
    from adapters.sklearn.file import load_estimator

    with suppress(MissingFramework):  # the adapter's own verdict
        load_estimator(files, options)
    return None


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


def _catboost(_head: bytes, files: ModelFiles, _options: Options) -> None:
    from adapters.boosted.cbm import check_cbm

    check_cbm((files.root / files.path).read_bytes(), files.path, texts=False)


_CHECKS: Final[dict[str, Callable[[bytes, ModelFiles, Options], str | None]]] = {
    "onnx": _onnx,
    "sklearn": _sklearn,
    "pytorch": _torch,
    "catboost": _catboost,
    "python": lambda _, __, own: f"its entry point is the kit's own code, which --trust {own.trust} does not run",
}
"""The other adapters' formats are data, which only their frameworks can check."""
