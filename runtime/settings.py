"""Every setting, read once: flags first, then `RUNTIME_…` variables, then defaults."""

import argparse
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple, NoReturn, Self

from runtime.command_names import COMMANDS
from runtime.errors import InvalidSetting
from runtime.log import Style
from runtime.options import (
    GROUPS,
    KIT_COMMANDS,
    OPTIONS,
    PULL_COMMANDS,
    Option,
    claims,
    columns,
    labels,
    mirrors,
    names,
    origins,
    path,
    paths,
    switch,
)
from runtime.version import __version__

if TYPE_CHECKING:
    from runtime.kit.pull import PullOptions
    from runtime.link.gateway import Gateway
    from runtime.link.messages import Terms

_REFERENCE_FORMS: Final = """\
a reference is one of
  [NAME=]HOST[:PORT]/REPOSITORY[:TAG][@DIGEST]   a registry; `kit://` may stand in front
  [NAME=]NAME[:TAG], local://NAME[:TAG]          Kit's own store on this machine, as kit pack fills it
  [NAME=]oci:FOLDER[:TAG|@DIGEST]                an OCI layout
  [NAME=]oci-archive:FILE.tar[:TAG|@DIGEST]      the same in one file
  [NAME=]./FOLDER                                a folder, with a Kitfile or one model in it
  [NAME=]./FILE                                  a model's file
"""


_WORDS: Final = {
    **dict.fromkeys(KIT_COMMANDS, ("REF", "reference of the ModelKit, the same as --kit REF")),
    "predict": (
        "REF [FILE]",
        "the ModelKit, and a file of rows: .csv, .json, .jsonl, .npy, .parquet, .arrow; - is standard input",
    ),
    "unpack": ("REF DIR", "a ModelKit, and the folder to put it into"),
    "cache": ("ls|verify|gc", "list, check, or remove what no kit needs"),
}
"""What stands beside the options of a command, and what it is."""


class Settings(NamedTuple):
    """What the operator wants. The fields are those of OPTIONS, and the command."""

    command: str
    kit: str
    host: str
    port: int
    grpc_port: int | None  # None: not given; OFF
    model_name: str | None
    registry: str | None
    select: tuple[tuple[str, str], ...]
    mirror: tuple[tuple[str, str], ...]
    verify_key: tuple[Path, ...]
    verify_claim: tuple[tuple[str, str], ...]
    signatures: str
    registry_user: str | None
    registry_password_file: Path | None
    cache_dir: Path
    cache_max_bytes: int  # 0: no limit
    cache_check: str
    pull: str
    offline: bool
    plain_http: bool
    retry_budget: float  # seconds
    min_rate: int  # bytes a second
    keep_blobs: str
    progress: str
    workers: int  # AUTO
    adapter: str | None
    trust: str
    allow_global: tuple[str, ...]
    sandbox: str
    worker_memory: int  # bytes; 0 is none
    load_timeout: float  # seconds; 0 is none
    threads: int
    batching: str
    inference_timeout: float  # seconds; 0 is none
    max_in_flight: int
    max_in_flight_rows: int
    max_body_bytes: int
    drain_delay: float  # seconds
    drain_timeout: float  # seconds, the delay included
    root_path: str
    predict_route: str | None
    health_route: str | None
    cors_origin: tuple[str, ...]
    log_level: str
    log_format: str
    access_log: float  # as `Log.access`
    log_inputs: bool
    output: str
    columns: tuple[str, ...]
    alone: bool
    on_error: str
    json: bool
    files: bool
    pairs: tuple[tuple[str, Path], ...] = ()  # the references to unpack, each with its folder
    rows: str = "-"  # the file to predict, - for standard input
    action: str = ""  # of `cache`
    unknown_variables: tuple[str, ...] = ()  # RUNTIME_… variables that are no option: one warning names them

    @classmethod
    def read(cls, arguments: Sequence[str], environ: Mapping[str, str]) -> Self:
        """Reads the command line and the environment. Raises SystemExit(0) after `--help` and `--version`.

        Raises InvalidSetting for an unknown command or option, and for a value that makes no sense.
        """
        command, rest = _split_command(arguments)
        options = [option for option in OPTIONS if command in option.commands]
        given = vars(_parser(command, options).parse_intermixed_args(rest))
        words = given.pop("words", [])
        rows = words.pop() if command == "predict" and len(words) + bool(given["kit"]) > 1 else "-"
        if command in KIT_COMMANDS:
            if rest is arguments:  # no command was named
                _check_words(words)
            given["kit"] = _one_kit(command, given["kit"] or [], words)
        values = {option.field: option.default for option in OPTIONS}
        values.update({option.field: _value(option, given[option.field], environ) for option in options})
        if command in KIT_COMMANDS and values["kit"] is None:
            said = "runtime" if command == "serve" else f"runtime {command}"
            raise InvalidSetting(f"no kit to {command}: `{said} REF`, or set RUNTIME_KIT; `{said} --help` says more")
        pairs = _pairs(words) if command == "unpack" else ()
        values["cache_dir"] = values["cache_dir"] or _default_cache(environ, [folder for _, folder in pairs])
        delay, most = values["drain_delay"], values["drain_timeout"]
        if delay > most:
            raise InvalidSetting(f"--drain-delay {delay:g} is longer than --drain-timeout {most:g}, which includes it")
        if bool(values["registry_user"]) != bool(values["registry_password_file"]):
            raise InvalidSetting("--registry-user and --registry-password-file are given together or not at all")
        if values["verify_claim"] and not values["verify_key"]:
            raise InvalidSetting("--verify-claim is about a signature: give --verify-key FILE, too")
        if values["trust"] == "signed" and (not values["verify_key"] or values["signatures"] != "enforce"):
            wanted = "give --verify-key FILE, and leave --signatures at enforce"
            raise InvalidSetting(f"--trust signed lets signed kits run code, and others not start: {wanted}")
        values["kit"] = values["kit"] or ""
        unknown, action = _unknown(environ), _action(words) if command == "cache" else ""
        return cls(command=command, pairs=pairs, rows=rows, action=action, unknown_variables=unknown, **values)

    @property
    def log_style(self) -> Style:
        """How events are written to standard error."""
        return "text" if self.log_format == "text" or (self.log_format == "auto" and os.isatty(2)) else "json"

    @property
    def pull_options(self) -> "PullOptions":
        """The part of the settings that a pull needs."""
        from runtime.kit.pull import PullOptions  # not needed before the first worker has its order

        return PullOptions(
            self.cache_dir,
            self.plain_http,
            self.retry_budget,
            self.min_rate,
            keep_blobs=self.keep_blobs == "always",
            pull="never" if self.offline else self.pull,
            cache_check=self.cache_check,
            cache_max_bytes=self.cache_max_bytes,
            registry_user=self.registry_user,
            registry_password_file=self.registry_password_file,
            select=self.select,
            mirrors=self.mirror,
            verify_keys=self.verify_key,
            verify_claims=self.verify_claim,
            must_be_signed=self.signatures == "enforce",
        )

    @property
    def gateway(self) -> "Gateway":
        """What the settings say about what stands in front of the server."""
        from runtime.link.gateway import Gateway

        return Gateway(self.root_path, self.cors_origin, self.predict_route, self.health_route)

    def terms(self, sandbox: str) -> "Terms":
        """Returns what these settings say about loading a model."""
        from runtime.link.messages import Terms

        return Terms(self.adapter, self.trust, self.allow_global, sandbox, sandbox == "require",
                     self.batching)  # fmt: skip


def _split_command(arguments: Sequence[str]) -> tuple[str, Sequence[str]]:
    if arguments and arguments[0] in COMMANDS:
        return arguments[0], arguments[1:]
    if arguments and not arguments[0].startswith("-"):
        _check_words(arguments[:1])
    return "serve", arguments


def _check_words(words: Sequence[str]) -> None:
    """Refuses words that are no references but misspelt commands: they have none of `/:.~`."""
    for word in words:
        if word in COMMANDS:
            raise InvalidSetting(f"the command comes first: runtime {word} …")
        if word and not set(word) & set("/:.~"):
            from difflib import get_close_matches

            if Path(word).exists():
                raise InvalidSetting(f"{word!r} lies here; to serve it as a model, write ./{word}")
            meant = "".join(f" (did you mean {near!r}?)" for near in get_close_matches(word, COMMANDS, 1))
            known = f"the commands are {', '.join(COMMANDS)}; to serve a kit of that name, runtime serve {word}"
            raise InvalidSetting(f"unknown command {word!r}{meant}: {known}")


def _one_kit(command: str, flags: list[str], words: list[str]) -> str | None:
    kits, rows = [*flags, *words], command == "predict"
    if len(flags) > 1 or len(words) > 1 or len(set(kits)) > 1:
        raise InvalidSetting(f"{len(kits)} references were given, wanted one{' and one file' * rows}")
    if kits and kits[0][:1] not in (".", "/", "~") and os.path.isfile(kits[0]):  # noqa: PTH113 - takes any text
        ways = f"; as rows, runtime predict REF {kits[0]}" * rows
        raise InvalidSetting(f"{kits[0]!r} is a file here; to use it as a model, write ./{kits[0]}{ways}")
    return kits[0] if kits else None


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise InvalidSetting(f"{message}; `{self.prog} --help` lists the options")


class _Formatter(argparse.RawDescriptionHelpFormatter):
    """Leaves lines as they are, but for those that are wider than the terminal."""

    def __init__(self, prog: str) -> None:
        try:
            columns = os.get_terminal_size(1).columns
        except OSError:
            columns = 80
        super().__init__(prog, max_help_position=30, width=min(110, columns - 2))

    def _fill_text(self, text: str, width: int, indent: str) -> str:
        return "\n".join(_folded(line, width) for line in super()._fill_text(text, width, indent).split("\n"))


def _folded(line: str, width: int) -> str:
    """Returns a line of one or two columns as lines of at most `width`."""
    import textwrap

    if len(line) <= width:
        return line
    behind = line.lstrip().partition("  ")[2].lstrip()
    second = len(line) - len(behind)
    if behind and second > width // 2:
        inner = " " * 6
        return (
            f"{line[:second].rstrip()}\n{textwrap.fill(behind, width, initial_indent=inner, subsequent_indent=inner)}"
        )
    return textwrap.fill(line, width, subsequent_indent=" " * second * bool(behind))


def _parser(command: str, options: Sequence[Option]) -> argparse.ArgumentParser:
    prog, (words, about) = f"runtime {command}", _WORDS.get(command, ("", ""))
    usage, description = " ".join(filter(None, (prog, words, "[options]"))), COMMANDS[command]
    if command == "serve":
        prog, usage = "runtime", "runtime REF [options]\n       runtime COMMAND …"
        description = "serves a ModelKit: pulls it, verifies every byte, answers predictions"
    description = f"{description[0].upper()}{description[1:]}."
    parser = _Parser(prog, usage, description, _epilog(command), formatter_class=_Formatter, allow_abbrev=False)
    if words:
        parser.add_argument("words", nargs="*", metavar=words, help=about)
    by_name = {option.name: option for option in options}
    for title, members in GROUPS.items():
        group = parser.add_argument_group(title)
        for option in filter(None, map(by_name.get, members)):
            _add(group, option)
    if command == "serve":
        parser.add_argument("--version", action="version", version=f"modelkit-runtime {__version__}")
    return parser


def _add(group: "argparse._ArgumentGroup", option: Option) -> None:
    if option.read is switch:
        group.add_argument(f"--{option.name}", action="store_const", const="true", help=option.help)
        return
    shown = f"{option.help} ({option.shown_default or option.default})"
    action = (
        "append"
        if option.read in (names, paths, origins, columns, claims, labels, mirrors) or option.name == "kit"
        else "store"
    )
    group.add_argument(f"--{option.name}", metavar=option.metavar, action=action, help=shown)


def _epilog(command: str) -> str:
    variables = "every option is also a variable: --cache-dir is RUNTIME_CACHE_DIR; flags win, an empty one is unset"
    if command == "serve":
        commands = "\n".join(f"  {name:10}{text}" for name, text in COMMANDS.items())
        return f"{_REFERENCE_FORMS}\ncommands (`runtime COMMAND --help` says more)\n{commands}\n\n{variables}"
    return f"{_REFERENCE_FORMS}\n{variables}" if command in PULL_COMMANDS else variables


def _value(option: Option, given: str | list[str] | None, environ: Mapping[str, str]) -> Any:
    flag = ",".join(given) if isinstance(given, list) else given
    variables = ((name, _variable(environ, name)) for name in (option.variable, *option.also))
    for source, text in ((f"--{option.name}", flag), *variables):
        if text is not None:
            try:
                return option.read(text)
            except ValueError as wanted:
                raise InvalidSetting(f"{source} is {text!r}, wanted {wanted}") from None
    return option.default


def _variable(environ: Mapping[str, str], name: str) -> str | None:
    value = environ.get(name)
    # Kubernetes sets RUNTIME_PORT=tcp://10.0.0.1:80 in every pod when a Service is called `runtime`;
    # Compose and Helm set a variable to "" that has no value
    return None if not value or value.startswith("tcp://") else value


_SERVICE_VARIABLE_ENDS: Final = ("_SERVICE_HOST", "_SERVICE_PORT", "_TCP", "_TCP_ADDR", "_TCP_PORT", "_TCP_PROTO")


def _unknown(environ: Mapping[str, str]) -> tuple[str, ...]:
    ours = {name for name in environ if name.startswith("RUNTIME_") and _variable(environ, name)}
    strange = ours - {option.variable for option in OPTIONS}
    return tuple(sorted(n for n in strange if not n.endswith(_SERVICE_VARIABLE_ENDS) and "_SERVICE_PORT_" not in n))


def _pairs(given: Sequence[str]) -> tuple[tuple[str, Path], ...]:
    if not given:
        raise InvalidSetting("nothing to unpack: give REF DIR, or several pairs; `runtime unpack --help` says more")
    if len(given) % 2:
        raise InvalidSetting(f"unpack takes pairs of REF and DIR: {given[-1]!r} has no folder to go to")
    return tuple((reference, _folder(text)) for reference, text in zip(given[::2], given[1::2], strict=True))


def _action(given: Sequence[str]) -> str:
    if len(given) != 1 or given[0] not in ("ls", "verify", "gc"):
        got = repr(" ".join(given)) if given else "nothing"
        raise InvalidSetting(f"cache takes one of ls, verify and gc, got {got}")
    return given[0]


def _folder(text: str) -> Path:
    try:
        return path(text)
    except ValueError as wanted:
        raise InvalidSetting(f"the folder to unpack into is {text!r}, wanted {wanted}") from None


def _default_cache(environ: Mapping[str, str], folders: Sequence[Path]) -> Path:
    """Returns the first usual place that is in none of the folders that kits go to."""
    cache, home = environ.get("XDG_CACHE_HOME"), environ.get("HOME")
    temporary = environ.get("TMPDIR") or "/tmp"  # noqa: S108 - the cache in it is 0700, its owner is checked
    places = [Path(cache, "modelkit-runtime")] if cache else []
    places += [Path(home, ".cache", "modelkit-runtime")] if home and os.access(home, os.W_OK) else []
    places.append(Path(temporary, f"modelkit-runtime-{os.getuid()}"))
    taken = [folder.resolve() for folder in folders]
    free = (place for place in places if not any(place.resolve().is_relative_to(folder) for folder in taken))
    return next(free, places[-1])
