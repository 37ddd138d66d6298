"""The table of options: flag, variable, default, and what each does. `docs/options.md` and `--help` show it."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, NamedTuple

from runtime.command_names import COMMANDS
from runtime.log import LEVELS

OFF: Final = -1
"""What `--grpc-port off` is read as."""
AUTO: Final = 0
"""What `--workers auto` is read as."""
GRPC_PORT: Final = 8081
"""The default of --grpc-port."""


def _whole(low: int, high: int, otherwise: str = "") -> Callable[[str], int]:
    def read(text: str) -> int:
        number = int(text) if text.isascii() and text.removeprefix("-").isdigit() else None
        if number is None or not low <= number <= high:
            raise ValueError(f"a whole number from {low} to {high}{otherwise}")
        return number

    return read


def _port_or_off(text: str) -> int:
    return OFF if text == "off" else _whole(0, 65_535, ", or off")(text)


def _workers(text: str) -> int:
    return AUTO if text == "auto" else _whole(1, 256, ", or auto")(text)


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = -1.0
    if not 0 <= seconds <= 86_400:
        raise ValueError("seconds, from 0 to 86400")
    return seconds


def _one_of(*choices: str) -> Callable[[str], str]:
    def read(text: str) -> str:
        if text not in choices:
            raise ValueError("one of " + ", ".join(choices))
        return text

    return read


def _batching(text: str) -> str:
    if text not in ("auto", "exact", "off"):
        try:
            _whole(1, 65_536)(text)
        except ValueError as wanted:
            raise ValueError(f"auto, exact, off, or {wanted}") from None
    return text


def _text(text: str) -> str:
    if not text or not text.isprintable():
        raise ValueError("a text that is not empty and has no control characters")
    return text


def path(text: str) -> Path:
    """Reads a path; `~` is the home folder."""
    try:
        return Path(_text(text)).expanduser()
    except RuntimeError as error:
        raise ValueError("a path; there is no such home folder") from error


def paths(text: str) -> tuple[Path, ...]:
    """Reads paths with commas between; a flag of this kind may be repeated."""
    return tuple(path(part.strip()) for part in text.split(","))


def names(text: str) -> tuple[str, ...]:
    """Reads names with commas between; a flag of this kind may be repeated."""
    found = tuple(name.strip() for name in text.split(","))
    if not all(part.isidentifier() for name in found for part in name.split(".")):
        raise ValueError("names such as package.module.Class, with commas between")
    return found


def origins(text: str) -> tuple[str, ...]:
    """Reads origins of web pages with commas between; a flag of this kind may be repeated."""
    found = tuple(origin.strip() for origin in text.split(","))
    if not all(re.fullmatch(r"\*|[a-z][a-z0-9+.-]*://[^/\s]+", origin) for origin in found):
        raise ValueError("origins such as https://app.example.com, with commas between, or *")
    return found


def columns(text: str) -> tuple[str, ...]:
    """Reads names of columns as the first line of a CSV has them; a flag of this kind may be repeated."""
    from csv import Error, reader  # a start of a server does not need it

    try:
        found = tuple(name.strip() for name in next(reader([text]), ()))
    except Error:
        found = ()
    if not found or not all(found):
        raise ValueError("names of columns, with commas between")
    return found


def _pairs(wanted: str, value: str) -> Callable[[str], tuple[tuple[str, str], ...]]:
    def read(text: str) -> tuple[tuple[str, str], ...]:
        found = [pair.strip().partition("=") for pair in text.split(",")]
        if not all(key and re.fullmatch(value, text) for key, _, text in found):
            raise ValueError(f"{wanted}, with commas between")
        return tuple((key, text) for key, _, text in found)

    return read


claims = _pairs("claims such as env=prod", r".+")
labels = _pairs("labels such as quantization=int8", r".+")
mirrors = _pairs("hosts such as docker.io=mirror.example.com", r"[\w.:\[\]-]+(?:/[\w.-]+)*")
"""How KEY=VALUE is read; flags of these kinds may be repeated."""


_PAGES: Final = ("/metrics", "/openapi.json", "/docs")


def _route(text: str) -> str:
    if text in _PAGES or not re.fullmatch(r"(?:/[\w.~:@!$&'()*+,;=-]*)+", text, re.ASCII):
        raise ValueError(f"a path such as /predict, and none of {', '.join(_PAGES)}")
    return text


def _prefix(text: str) -> str:
    if not re.fullmatch(r"(?:/[\w.~-]+)+", text, re.ASCII):
        raise ValueError("a path such as /models/iris, without a slash at its end")
    return text


def _access(text: str) -> float:
    if text in _ACCESS:
        return _ACCESS[text]
    kind, _, share = text.partition(":")
    if kind != "sample" or not re.fullmatch(r"0?\.[0-9]+", share, re.ASCII) or not float(share):
        raise ValueError("all, errors, off, or sample:SHARE with a share between 0 and 1, as sample:0.01")
    return float(share)


def switch(text: str) -> bool:
    """Reads a yes or no; a flag of this kind takes no value."""
    yes, no = {"1", "true", "yes", "on"}, {"0", "false", "no", "off"}
    if text.lower() not in yes | no:
        raise ValueError("true or false")
    return text.lower() in yes


class Option(NamedTuple):
    """One option: its flag, how its text is read, its default, and what it does.

    `shown_default` is shown instead of `default` where that says nothing to a reader.
    """

    name: str
    read: Callable[[str], Any]
    default: Any
    help: str
    metavar: str = ""
    commands: frozenset[str] = frozenset({"serve"})
    shown_default: str = ""
    also: tuple[str, ...] = ()  # variables of platforms that count where ours is not set

    @property
    def field(self) -> str:
        """The name in `Settings`."""
        return self.name.replace("-", "_")

    @property
    def variable(self) -> str:
        """The environment variable that means the same as the flag."""
        return "RUNTIME_" + self.field.upper()


_ACCESS: Final = {"all": 1.0, "errors": 0.0, "off": -1.0}
_LISTENING: Final = frozenset({"serve", "health"})
_LOADING: Final = frozenset({"serve", "verify", "predict"})
_PREDICTING: Final = frozenset({"predict"})
_CHOOSING: Final = _LOADING | {"inspect"}
_LIMITING: Final = frozenset({"serve", "inspect"})
KIT_COMMANDS: Final = _CHOOSING | {"pull"}
PULL_COMMANDS: Final = KIT_COMMANDS | {"unpack"}
_ALL: Final = frozenset(COMMANDS)

GROUPS: Final = {
    "the kit": (
        "kit",
        "model-name",
        "registry",
        "registry-user",
        "registry-password-file",
        "mirror",
        "select",
        "verify-key",
        "verify-claim",
        "signatures",
        "plain-http",
        "pull",
        "offline",
        "retry-budget",
        "min-rate",
        "cache-dir",
        "cache-max-bytes",
        "cache-check",
        "keep-blobs",
    ),
    "the model": (
        "adapter",
        "trust",
        "allow-global",
        "sandbox",
        "worker-memory",
        "load-timeout",
        "threads",
        "workers",
        "batching",
    ),
    "rows": ("output", "columns", "alone", "on-error"),
    "listening": ("host", "port", "grpc-port", "root-path", "predict-route", "health-route", "cors-origin"),
    "limits": (
        "inference-timeout",
        "max-in-flight",
        "max-in-flight-rows",
        "max-body-bytes",
        "drain-delay",
        "drain-timeout",
    ),
    "what is printed": ("json", "files", "progress", "log-level", "access-log", "log-format", "log-inputs"),
}
"""How `--help` puts the options together."""

# fmt: off
OPTIONS: Final = (
    Option("kit", _text, None, "reference of the ModelKit; the flag may be left out", "REF", KIT_COMMANDS, "required"),
    Option("host", _text, "127.0.0.1", "address to listen on, or unix:/path for a socket file", "ADDRESS", _LISTENING),
    Option("port", _whole(0, 65_535), 8080,
           "port to listen on; $PORT counts when this is not given; 0: any free one", "PORT", _LISTENING,
           also=("AIP_HTTP_PORT", "SAGEMAKER_BIND_TO_PORT", "PORT")),
    Option("grpc-port", _port_or_off, None,
           "port of gRPC; 0: any free one; off", "PORT", shown_default=str(GRPC_PORT)),
    Option("model-name", _text, None,
           "name to serve the model under", "NAME", _CHOOSING, "last path component of the reference"),
    Option("registry", _text, None, "host of references that name none", "HOST", PULL_COMMANDS, "none"),
    Option("select", labels, (),
           "label of the kit to take from an index of several; may be repeated", "KEY=VALUE", PULL_COMMANDS, "none"),
    Option("mirror", mirrors, (),
           "where layers of a registry are asked for first; may be repeated", "HOST=MIRROR", PULL_COMMANDS, "none"),
    Option("verify-key", paths, (),
           "file with a public key that has to have signed the kit (cosign); may be repeated: one of them", "FILE",
           PULL_COMMANDS, "none"),
    Option("verify-claim", claims, (),
           "what the signature has to say, as cosign sign -a wrote it; may be repeated", "KEY=VALUE",
           PULL_COMMANDS, "none"),
    Option("signatures", _one_of("enforce", "warn"), "enforce",
           "what a kit without such a signature is: refused (enforce), or a warning", "HOW", PULL_COMMANDS),
    Option("registry-user", _text, None, "user at the registry of the kit", "NAME", PULL_COMMANDS, "none"),
    Option("registry-password-file", path, None,
           "file with the password of --registry-user", "FILE", PULL_COMMANDS, "none"),
    Option("cache-dir", path, None,
           "folder of the verified kits", "FOLDER", PULL_COMMANDS | {"cache"}, "~/.cache/modelkit-runtime"),
    Option("cache-max-bytes", _whole(0, 2**60), 0,
           "size of the cache above which kits used longest ago are removed; 0: no limit", "BYTES",
           KIT_COMMANDS | {"cache"}),
    Option("cache-check", _one_of("full", "stat"), "full",
           "how a cached kit is checked: every byte (full), or whether its files look as they did then (stat)",
           "HOW", KIT_COMMANDS),
    Option("pull", _one_of("always", "missing", "never"), "always",
           "when a registry is asked what a tag means: always, if the cache does not know it (missing), or never",
           "WHEN", PULL_COMMANDS),
    Option("offline", switch, False, "ask no registry: the same as --pull never", commands=PULL_COMMANDS),
    Option("plain-http", switch, False,
           "use plain HTTP to the registry (as is always done for loopback hosts)", commands=PULL_COMMANDS),
    Option("retry-budget", _seconds, 30.0, "how long to retry an unreachable registry", "SECONDS", PULL_COMMANDS),
    Option("min-rate", _whole(0, 2**40), 1000,
           "bytes a second below which a download goes on over a new connection; 0: never", "BYTES", PULL_COMMANDS),
    Option("keep-blobs", _one_of("always", "never"), "always",
           "what the cache has beside the unpacked kit: its layers, which skopeo can copy on, or nothing (never)",
           "WHEN", KIT_COMMANDS),
    Option("progress", _one_of("auto", "bar", "plain", "json", "none"), "auto",
           "how a pull is shown: auto (a bar on a terminal, else events), bar, plain or json (events), none",
           "STYLE", PULL_COMMANDS),
    Option("workers", _workers, 1, "serving processes; auto: one for each core that the container may use", "N"),
    Option("adapter", _text, None,
           "framework adapter, whatever the Kitfile says", "NAME", _CHOOSING, "chosen by the kit"),
    Option("trust", _one_of("data", "restricted", "signed", "unsafe"), "restricted",
           "what a model file may do when it is loaded: data, restricted, signed or unsafe", "LEVEL", _CHOOSING),
    Option("allow-global", names, (),
           "a class or function that a pickled model may use beside the known ones, module.name; may be repeated",
           "NAME", _CHOOSING, "none"),
    Option("sandbox", _one_of("auto", "require", "off"), "auto",
           "confine workers to reading the kit: auto (where the kernel can), require or off", "MODE", _LOADING),
    Option("worker-memory", _whole(0, 2**50), 0,
           "memory that a worker may use; 0: what the container has", "BYTES", _LOADING),
    Option("load-timeout", _seconds, 600.0, "longest time to load a model; 0: no limit", "SECONDS",
           _LOADING - _PREDICTING),
    Option("threads", _whole(0, 1024), 0, "threads of one prediction; 0: the cores of a worker", "N", _LOADING),
    Option("batching", _batching, "auto",
           "join requests that wait for the model: auto, exact, off, or the most rows of a batch", "MODE"),
    Option("inference-timeout", _seconds, 30.0,
           "longest time of one prediction, queue included; 0: no limit", "SECONDS", _LIMITING),
    Option("max-in-flight", _whole(1, 1_000_000), 1024,
           "predictions at once in a worker; one more is answered 503", "N", _LIMITING),
    Option("max-in-flight-rows", _whole(1, 2**40), 100_000,
           "rows of all predictions that wait or run in threads; more are answered 503", "N"),
    Option("max-body-bytes", _whole(1, 2**40), 64 * 2**20,
           "largest request body, in whatever form it comes; a larger one is answered 413", "BYTES", _LIMITING),
    Option("drain-delay", _seconds, 2.0, "after SIGTERM: how long to accept further requests, not ready", "SECONDS"),
    Option("drain-timeout", _seconds, 7.0, "after SIGTERM: when to give up what is still unanswered", "SECONDS"),
    Option("root-path", _prefix, "", "prefix of all paths that a gateway leaves in them", "PATH", shown_default="none"),
    Option("predict-route", _route, None,
           "further path of plain predictions; $AIP_PREDICT_ROUTE counts when this is not given", "PATH",
           shown_default="none", also=("AIP_PREDICT_ROUTE",)),
    Option("health-route", _route, None, "further path of readiness; $AIP_HEALTH_ROUTE counts when this is not given",
           "PATH", shown_default="none", also=("AIP_HEALTH_ROUTE",)),
    Option("cors-origin", origins, (),
           "origin whose web pages may ask this server, * for any; may be repeated", "ORIGIN", shown_default="none"),
    Option("log-level", _one_of(*LEVELS), "info", "least important events to log: " + ", ".join(LEVELS), "LEVEL", _ALL),
    Option("log-format", _one_of("auto", "text", "json"), "auto",
           "text, json, or auto: text on a terminal", "FORMAT", _ALL),
    Option("access-log", _access, 1.0,
           "requests to log: all, errors, off, or a share of the answered ones, as sample:0.01",
           "WHICH", shown_default="all"),
    Option("log-inputs", switch, False, "log the reasons of refused requests with the values that clients sent"),
    Option("output", _text, "-", "file for the predictions; - is standard output", "FILE", _PREDICTING),
    Option("columns", columns, (), "columns of the file that the model takes, in its order; may be repeated", "NAMES",
           _PREDICTING, "those with the inputs' names"),
    Option("alone", switch, False, "write predictions without the rows beside them", commands=_PREDICTING),
    Option("on-error", _one_of("stop", "skip"), "stop", "what to do with a wrong row: stop, or skip it", "WHAT",
           _PREDICTING),
    Option("json", switch, False, "print JSON", commands=frozenset({"inspect", "verify", "cache"})),
    Option("files", switch, False, "fetch the model too and say what its files are", commands=frozenset({"inspect"})),
)
# fmt: on
