"""The trust levels: what each lets a model file do, and the line that refuses a file and says what else to do."""

from collections.abc import Iterable
from typing import Final

from adapters.base import Options, Refused
from adapters.wording import listed

LEVELS: Final = ("data", "restricted", "signed", "unsafe")
SIGN: Final = "sign the kit and use --trust signed (not in this version yet)"
UNSAFE: Final = "or run it all with --trust unsafe"


def check_level(trust: str) -> None:
    """Raises Refused for `signed`, as this version checks no signatures; ValueError for an unknown level."""
    if trust not in LEVELS:
        raise ValueError(f"trust is {trust!r}; it must be one of {', '.join(LEVELS)}")
    if trust == "signed":
        instead = "use --trust restricted, or --trust unsafe for a kit that you made yourself"
        said = "--trust signed loads signed kits only, and this version cannot check signatures yet"
        raise Refused(f"{said}; {instead}")


def allows_code(trust: str) -> bool:
    """True if a kit's own Python code, and pickles of any content, may run."""
    return trust in ("signed", "unsafe")


def device_hint(options: Options) -> str:
    """Returns what to add where a device cannot be used: a confined process cannot open its device files."""
    return "; a worker confined by Landlock opens no device: serve with --sandbox off" if options.confined else ""


def names_refused(file: str, kind: str, names: Iterable[str], trust: str, convert: str) -> Refused:
    """Returns the refusal of a file that needs the globals `names`; `convert` is a command or an instruction."""
    wanted = sorted(names)
    allow = " ".join(f"--allow-global {name}" for name in wanted[:8])
    ways = f"convert it ({convert}), allow exactly that with {allow}, {SIGN}, {UNSAFE}"
    said = f"{file} is {kind} that wants {listed(wanted)}, which --trust {trust} does not let a file use"
    return Refused(f"{said}; if you trust who made it, {ways}", file=file)


def kind_refused(file: str, kind: str, trust: str, why: str, convert: str, lower: str | None) -> Refused:
    """Returns the refusal of a kind of file; `lower` is a level below `unsafe` that loads it, if there is one."""
    instead = f"use --trust {lower}, {SIGN}" if lower else SIGN
    said = f"{file} is {kind}, which --trust {trust} does not load: {why}"
    return Refused(f"{said}; convert it ({convert}), {instead}, {UNSAFE}", file=file)


def content_refused(file: str, what: str, convert: str) -> Refused:
    """Returns the refusal of one thing inside a file, `what` as a verb phrase, that could run code."""
    said = f"{file} {what}, which could run code"
    return Refused(f"{said}; if you trust who made it, convert it ({convert}), {SIGN}, {UNSAFE}", file=file)


def reach_refused(file: str, what: str, convert: str) -> Refused:
    """Returns the refusal of a part, `what` as a verb phrase, that would act outside the model."""
    ways = f"fit the model without that, convert it ({convert}), {SIGN}, {UNSAFE}"
    return Refused(f"{file} {what}; if you trust who made it, {ways}", file=file)


def code_refused(file: str, what: str, trust: str, convert: str) -> Refused:
    """Returns the refusal of the kit's own Python code, which the model in `file` needs."""
    said = f"{what} would run Python code from the kit, which --trust {trust} does not allow"
    return Refused(f"{said}; convert it ({convert}), {SIGN}, {UNSAFE}", file=file)
