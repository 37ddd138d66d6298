"""The trust levels: what each lets a model file do, and the line that refuses a file and says what else to do."""

from collections.abc import Iterable
from importlib.util import find_spec
from typing import Final

from adapters.base import Options, Refused
from adapters.wording import listed

LEVELS: Final = ("data", "restricted", "signed", "unsafe")
FEW: Final = 5
"""Names that a refusal shows."""
UNSAFE: Final = "or run it all with --trust unsafe"


def check_level(trust: str) -> None:
    """Raises ValueError for an unknown level. A kit that is loaded at `signed` was checked by whoever says so."""
    if trust not in LEVELS:
        raise ValueError(f"trust is {trust!r}; it must be one of {', '.join(LEVELS)}")


def allows_code(trust: str) -> bool:
    """True if a kit's own Python code, and pickles of any content, may run."""
    return trust in ("signed", "unsafe")


def device_hint(options: Options) -> str:
    """Returns what to add where a device cannot be used: a confined process cannot open its device files."""
    return "; a worker confined by Landlock opens no device: serve with --sandbox off" if options.confined else ""


def names_refused(file: str, kind: str, names: Iterable[str], trust: str) -> Refused:
    """Returns the refusal of a file that needs the globals `names`."""
    wanted = sorted(names)
    said = f"{file} is {kind} that wants {listed(wanted, FEW)}, which --trust {trust} does not let a file use"
    if len(wanted) > FEW:
        said += " (`runtime inspect --files` shows them all)"
    if mains := [name for name in wanted if name.startswith("__main__.")]:
        where = f"what is in __main__ ({listed(mains, FEW)}) was defined in the script that saved the file"
        return Refused(f"{said}; {where}: define it in a module of the kit's code, and save the model again", file=file)
    if any(name.startswith(("cloudpickle.", "dill.")) for name in wanted):
        where = "it has the code of a function or class of the script that saved it"
        ways = f"define that in a module of the kit's code, and save the model again, {UNSAFE}"
        return Refused(f"{said}; {where}: if you trust who made it, {ways}", file=file)
    if missing := sorted({name.rpartition(".")[0] for name in wanted if not _is_installed(name)}):
        where = f"not installed: {listed(missing, FEW)}"
        ways = "install it, or if it is code of the kit and you trust who made it, run it all with --trust unsafe"
        return Refused(f"{said}; {where}: {ways}", file=file)
    few = " ".join(f"--allow-global {name}" for name in wanted)
    allow = f"exactly that with {few}" if len(wanted) <= FEW else "each with --allow-global NAME"
    return Refused(f"{said}; if you trust who made it, allow {allow}, {UNSAFE}", file=file)


def _is_installed(name: str) -> bool:
    try:
        return find_spec(name.partition(".")[0]) is not None
    except ValueError:  # no name of a module
        return False


def kind_refused(file: str, kind: str, trust: str, why: str, convert: str | None, lower: str | None) -> Refused:
    """Returns the refusal of a kind of file; `lower` is a level below `unsafe` that loads it, if there is one."""
    ways = (f"convert it ({convert}), " if convert else "") + (f"use --trust {lower}, " if lower else "")
    return Refused(f"{file} is {kind}, which --trust {trust} does not load: {why}; {ways}{UNSAFE}", file=file)


def content_refused(file: str, what: str, convert: str) -> Refused:
    """Returns the refusal of one thing inside a file, `what` as a verb phrase, that could run code."""
    said = f"{file} {what}, which could run code"
    return Refused(f"{said}; if you trust who made it, convert it ({convert}), {UNSAFE}", file=file)


def reach_refused(file: str, what: str) -> Refused:
    """Returns the refusal of a part, `what` as a verb phrase, that would act outside the model."""
    return Refused(f"{file} {what}; if you trust who made it, fit the model without that, {UNSAFE}", file=file)


def code_refused(file: str, what: str, trust: str, convert: str) -> Refused:
    """Returns the refusal of the kit's own Python code, which the model in `file` needs."""
    said = f"{what} would run Python code from the kit, which --trust {trust} does not allow"
    return Refused(f"{said}; convert it ({convert}), {UNSAFE}", file=file)
