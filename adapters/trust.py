"""The trust ladder's words: what a level lets a model file do, and the line that says why not and what else to do."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from adapters.base import Refused

LEVELS: Final = ("data", "restricted", "signed", "unsafe")
SIGN: Final = "sign the kit and use --trust signed (not in this version yet)"
UNSAFE: Final = "or run it all with --trust unsafe"


def check_level(trust: str) -> None:
    """Raises Refused at `signed`, which accepts nothing until signatures can be checked; ValueError for no level."""
    if trust not in LEVELS:
        raise ValueError(f"trust is {trust!r}; it must be one of {', '.join(LEVELS)}")
    if trust == "signed":
        raise Refused(
            "--trust signed loads signed kits only, and this version cannot check signatures yet; "
            "use --trust restricted, or --trust unsafe for a kit that you made yourself"
        )


def allows_code(trust: str) -> bool:
    """Whether a kit's own Python code, and pickles of any content, may run."""
    return trust in ("signed", "unsafe")


def names_refused(file: str, kind: str, names: Iterable[str], trust: str, convert: str) -> Refused:
    """The refusal of a file that needs the globals `names`; `convert` is a command or what to do instead."""
    listed = sorted(names)
    wants = ", ".join(listed[:8]) + (f" and {len(listed) - 8} more" if len(listed) > 8 else "")
    allow = " ".join(f"--allow-global {name}" for name in listed[:8])
    return Refused(
        f"{file} is {kind} that wants {wants}, which --trust {trust} does not let a file use; "
        f"if you trust who made it, convert it ({convert}), allow exactly that with {allow}, {SIGN}, {UNSAFE}",
        file=file,
    )


def kind_refused(file: str, kind: str, trust: str, reason: str, convert: str, lower: str | None) -> Refused:
    """The refusal of a whole kind of file; `lower` is a level that would take it, if there is one below unsafe."""
    instead = f"use --trust {lower}, " if lower else ""
    return Refused(
        f"{file} is {kind}, which --trust {trust} does not load: {reason}; "
        f"convert it ({convert}), {instead}{SIGN}, {UNSAFE}",
        file=file,
    )


def content_refused(file: str, what: str, convert: str) -> Refused:
    """The refusal of a file of an allowed kind for one thing in it that could run code: `what`, as a verb phrase."""
    return Refused(
        f"{file} {what}, which could run code; if you trust who made it, convert it ({convert}), {SIGN}, {UNSAFE}",
        file=file,
    )


def code_refused(file: str, what: str, trust: str, convert: str) -> Refused:
    """The refusal of a kit's own Python code, which the model in `file` needs."""
    return Refused(
        f"{what} would run Python code from the kit, which --trust {trust} does not allow; "
        f"convert it ({convert}), {SIGN}, {UNSAFE}",
        file=file,
    )
