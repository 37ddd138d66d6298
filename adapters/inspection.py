"""What the files of a kit are and whether a trust level would load them, without loading any.

For pickles it lists the globals that the allow-list does not have; that is a report, not the gate (the unpickler is).
It reads kit bytes and, for some kinds, imports the framework to ask it: run it in a process that may be lost.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Final

from adapters.base import AdapterError, ModelFiles, Options
from adapters.choose import ADAPTERS, HEAD_BYTES
from adapters.confinement import confined
from adapters.pickles.file import looks_like_skops
from adapters.trust import allows_code, check_level


@dataclass(frozen=True, slots=True)
class Verdict:
    """One file: the adapter that knows it (or None), and why the level would not load it (or None)."""

    path: str
    adapter: str | None
    refused: str | None = None


def verdicts(files: ModelFiles, options: Options, chosen: tuple[str, str] | None = None) -> Iterator[Verdict]:
    """A verdict for each file of the kit, in order of their names; `chosen`: the file to serve, and its adapter."""
    for path in files.files:
        served_by = chosen[1] if chosen and chosen[0] == path else None
        yield _verdict(replace(files, path=path), options, served_by)


def _verdict(files: ModelFiles, options: Options, served_by: str | None) -> Verdict:
    try:
        with (files.root / files.path).open("rb") as file:
            head = file.read(HEAD_BYTES)
    except OSError as error:
        return Verdict(files.path, served_by, f"cannot be read: {error.strerror}")
    by_content = [a.name for a in ADAPTERS if a.sniff(head)]
    by_suffix = [a.name for a in ADAPTERS if a.suffixes and files.path.casefold().endswith(a.suffixes)]
    name = served_by or next(iter(by_content or by_suffix), None)
    return Verdict(files.path, name, None if name is None else _refusal(name, head, files, options))


def _refusal(adapter: str, head: bytes, files: ModelFiles, options: Options) -> str | None:
    try:
        check_level(options.trust)
        return None if allows_code(options.trust) else _CHECKS.get(adapter, _nothing)(head, files, options)
    except AdapterError as error:
        return str(error)
    except Exception as error:  # noqa: BLE001 - whatever a damaged file makes a framework raise
        return f"it cannot be read: {' '.join(str(error).split())[:160] or type(error).__name__}"


def _nothing(_head: bytes, _files: ModelFiles, _options: Options) -> None:
    """Formats that are data, and that only their framework can read whole."""


def _onnx(_head: bytes, files: ModelFiles, _options: Options) -> None:
    from adapters.onnx import adapter as onnx
    from adapters.onnx import policy as onnx_policy

    facts = onnx.read(files)
    onnx_policy.check_operators(facts, files.path)
    onnx_policy.check_external_data(facts, files)


def _sklearn(head: bytes, files: ModelFiles, options: Options) -> str | None:
    if looks_like_skops(head):
        return _skops(files, options)
    if options.trust == "data":
        return "a pickle, which --trust data does not load"
    from adapters.pickles.names import denied_names

    denied = sorted(denied_names(files.root / files.path, files.path, frozenset(options.allow_globals)))
    return f"a pickle that wants {', '.join(denied)}" if denied else None


def _skops(files: ModelFiles, options: Options) -> str | None:
    from adapters.sklearn.file import refused_types, untrusted_types

    refused = sorted(refused_types(untrusted_types(files), options))
    return f"a skops file that wants {', '.join(refused)}" if refused else None


def _torch(head: bytes, files: ModelFiles, options: Options) -> str | None:
    if not head.startswith(b"PK"):
        return _WEIGHTS
    from adapters.pytorch import export as torch_export

    path = files.root / files.path
    records = torch_export.record_names(path, files.path)
    if "archive_format" in records:
        if options.trust == "data" and (pickled := torch_export.pickled_records(files)):
            return f"its member {pickled[0]} is pickled"
        torch_export.check_archive(path, files.path)
        return None
    if "constants.pkl" in records:
        loads = options.trust != "data" and confined()
        return None if loads else "TorchScript, which needs --trust restricted and a worker confined by Landlock"
    return _WEIGHTS


def _python(_head: bytes, _files: ModelFiles, options: Options) -> str:
    return f"its entry point is the kit's own code, which --trust {options.trust} does not run"


_WEIGHTS: Final = "weights, which need the kit's own code: --trust unsafe"
_CHECKS: Final[dict[str, Callable[[bytes, ModelFiles, Options], str | None]]] = {
    "onnx": _onnx,
    "sklearn": _sklearn,
    "pytorch": _torch,
    "python": _python,
}
