"""Every knob, read once: flags first, then `RUNTIME_…` variables, then defaults."""

from __future__ import annotations

import argparse
import os
import shutil
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NoReturn

from runtime import __version__
from runtime.errors import InvalidSetting
from runtime.options import COMMANDS, KIT_COMMANDS, OPTIONS, PULL_COMMANDS, Option, names, path, switch

if TYPE_CHECKING:
    from runtime.log import Style

_REFERENCE_FORMS: Final = """\
a reference is one of
  [NAME=]HOST[:PORT]/REPOSITORY[:TAG][@DIGEST]   a registry; `kit://` may stand in front
  [NAME=]oci:FOLDER[:TAG|@DIGEST]                an OCI layout
  [NAME=]oci-archive:FILE.tar[:TAG|@DIGEST]      the same in one file
  [NAME=]./FOLDER                                a folder with a Kitfile
"""


@dataclass(frozen=True, slots=True)
class Settings:
    """What the operator wants. The fields are those of OPTIONS, and the command."""

    command: str
    kit: str
    host: str
    port: int
    model_name: str | None
    registry: str | None
    cache_dir: Path
    plain_http: bool
    retry_budget: float
    """Seconds."""
    workers: int
    adapter: str | None
    trust: str
    allow_global: tuple[str, ...]
    sandbox: str
    threads: int
    inference_timeout: float
    """Seconds."""
    max_in_flight: int
    max_body_bytes: int
    drain_delay: float
    """Seconds."""
    drain_timeout: float
    """Seconds, the delay included."""
    log_level: str
    log_format: str
    json: bool
    files: bool
    pairs: tuple[tuple[str, Path], ...] = ()
    """What to unpack, and where."""
    unknown_variables: tuple[str, ...] = ()
    """RUNTIME_… variables that mean nothing here: worth one warning."""

    @classmethod
    def read(cls, arguments: Sequence[str], environ: Mapping[str, str]) -> Settings:
        """Reads the command line and the environment.

        Raises:
            InvalidSetting: an unknown command or option, or a value that makes no sense.
            SystemExit: after `--help` and `--version`, with 0.
        """
        command, rest = _split_command(arguments)
        options = [option for option in OPTIONS if command in option.commands]
        given = vars(_parser(command, options).parse_args(rest))
        if given.get("reference"):
            given["kit"] = given["reference"]
        values = {option.field: option.default for option in OPTIONS}
        values.update({option.field: _value(option, given.get(option.field), environ) for option in options})
        if command in KIT_COMMANDS and values["kit"] is None:
            how = "give --kit REF" if command == "serve" else "give its reference"
            raise InvalidSetting(f"no kit to {command}: {how}, or set RUNTIME_KIT (`runtime --help` says more)")
        pairs = _pairs(given["pairs"]) if command == "unpack" else ()
        values["cache_dir"] = values["cache_dir"] or _default_cache(environ, [folder for _, folder in pairs])
        delay, timeout = values["drain_delay"], values["drain_timeout"]
        if delay > timeout:
            raise InvalidSetting(
                f"--drain-delay {delay:g} is longer than --drain-timeout {timeout:g}, which includes it"
            )
        values["kit"] = values["kit"] or ""
        return cls(command=command, pairs=pairs, unknown_variables=_unknown(environ), **values)

    @property
    def log_style(self) -> Style:
        """How events are written to standard error."""
        if self.log_format == "auto":
            return "text" if sys.stderr and sys.stderr.isatty() else "json"
        return "text" if self.log_format == "text" else "json"


def _split_command(arguments: Sequence[str]) -> tuple[str, Sequence[str]]:
    if not arguments or arguments[0].startswith("-"):
        return "serve", arguments
    if arguments[0] not in COMMANDS:
        known, given = ", ".join(COMMANDS), arguments[0]
        raise InvalidSetting(
            f"unknown command {given!r}: the commands are {known}; to serve a kit, runtime --kit {given}"
        )
    return arguments[0], arguments[1:]


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise InvalidSetting(f"{message}; `{self.prog} --help` lists the options")


def _parser(command: str, options: Sequence[Option]) -> argparse.ArgumentParser:
    top = command == "serve"
    parser = _Parser(
        prog="runtime" if top else f"runtime {command}",
        usage="runtime --kit REF [options]\n       runtime COMMAND …" if top else None,
        description="Serves a ModelKit: pulls it, verifies every byte, answers predictions."
        if top
        else COMMANDS[command].capitalize(),
        epilog=_epilog(command),
        formatter_class=_formatter,
        allow_abbrev=False,
    )
    if command in KIT_COMMANDS and not top:
        parser.add_argument("reference", nargs="?", metavar="REF", help="reference of the ModelKit")
    if command == "unpack":
        parser.add_argument("pairs", nargs="*", metavar="REF DIR", help="a ModelKit, and the folder to put it into")
    for option in options:
        if not (option.name == "kit" and not top):
            _add(parser, option)
    if top:
        parser.add_argument("--version", action="version", version=f"modelkit-runtime {__version__}")
    return parser


def _add(parser: argparse.ArgumentParser, option: Option) -> None:
    if option.read is switch:
        parser.add_argument(f"--{option.name}", dest=option.field, action="store_const", const="true", help=option.help)
        return
    if option.read is names:
        text = f"{option.help} ({option.shown_default})"
        parser.add_argument(f"--{option.name}", dest=option.field, metavar=option.metavar, action="append", help=text)
        return
    default = option.shown_default or option.default
    parser.add_argument(
        f"--{option.name}", dest=option.field, metavar=option.metavar, help=f"{option.help} ({default})"
    )


def _formatter(prog: str) -> argparse.HelpFormatter:
    return argparse.RawDescriptionHelpFormatter(
        prog, max_help_position=30, width=min(110, shutil.get_terminal_size().columns - 2)
    )


def _epilog(command: str) -> str:
    variables = "every option is also a variable: --cache-dir is RUNTIME_CACHE_DIR; flags win"
    if command == "serve":
        commands = "\n".join(f"  {name:10}{text}" for name, text in COMMANDS.items())
        return f"{_REFERENCE_FORMS}\ncommands (`runtime COMMAND --help` says more)\n{commands}\n\n{variables}"
    return f"{_REFERENCE_FORMS}\n{variables}" if command in PULL_COMMANDS else variables


def _value(option: Option, given: str | list[str] | None, environ: Mapping[str, str]) -> Any:
    given = ",".join(given) if isinstance(given, list) else given
    for source, text in (
        (f"--{option.name}", given),
        *((name, _variable(environ, name)) for name in _variables(option)),
    ):
        if text is not None:
            try:
                return option.read(text)
            except ValueError as wanted:
                raise InvalidSetting(f"{source} is {text!r}, wanted {wanted}") from None
    return option.default


def _variables(option: Option) -> tuple[str, ...]:
    return (option.variable, "PORT") if option.name == "port" else (option.variable,)


def _variable(environ: Mapping[str, str], name: str) -> str | None:
    value = environ.get(name)
    # Kubernetes sets RUNTIME_PORT=tcp://10.0.0.1:80 in every pod when a Service is called `runtime`
    return None if value is None or value.startswith("tcp://") else value


_SERVICE_VARIABLE_ENDS: Final = ("_SERVICE_HOST", "_SERVICE_PORT", "_TCP", "_TCP_ADDR", "_TCP_PORT", "_TCP_PROTO")


def _unknown(environ: Mapping[str, str]) -> tuple[str, ...]:
    known = {option.variable for option in OPTIONS}
    return tuple(
        sorted(
            name
            for name, value in environ.items()
            if name.startswith("RUNTIME_")
            and name not in known
            and not value.startswith("tcp://")
            and not name.endswith(_SERVICE_VARIABLE_ENDS)
            and "_SERVICE_PORT_" not in name
        )
    )


def _pairs(given: Sequence[str]) -> tuple[tuple[str, Path], ...]:
    if not given:
        raise InvalidSetting(
            "nothing to unpack: give REF DIR, or several such pairs; `runtime unpack --help` says more"
        )
    if len(given) % 2:
        raise InvalidSetting(f"unpack takes pairs of REF and DIR: {given[-1]!r} has no folder to go to")
    return tuple((reference, _folder(text)) for reference, text in zip(given[::2], given[1::2], strict=True))


def _folder(text: str) -> Path:
    try:
        return path(text)
    except ValueError as wanted:
        raise InvalidSetting(f"the folder to unpack into is {text!r}, wanted {wanted}") from None


def _default_cache(environ: Mapping[str, str], folders: Sequence[Path]) -> Path:
    """The first usual place that is in none of the folders that kits go to."""
    taken = [folder.resolve() for folder in folders]
    places = _usual_caches(environ)
    free = (place for place in places if not any(place.resolve().is_relative_to(folder) for folder in taken))
    return next(free, places[-1])


def _usual_caches(environ: Mapping[str, str]) -> list[Path]:
    places = []
    if cache := environ.get("XDG_CACHE_HOME"):
        places.append(Path(cache) / "modelkit-runtime")
    if (home := environ.get("HOME")) and os.access(home, os.W_OK):
        places.append(Path(home) / ".cache" / "modelkit-runtime")
    temporary = Path(environ.get("TMPDIR") or "/tmp")  # noqa: S108 - the cache in it is 0700, its owner is checked
    return [*places, temporary / f"modelkit-runtime-{os.getuid()}"]
