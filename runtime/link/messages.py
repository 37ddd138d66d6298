"""What the supervisor and a worker send each other: frozen values, written as JSON, checked when they are read.

A worker may be controlled by a hostile model, so `read` accepts only the messages that the caller names, with exactly
their fields, each of its type. Text that a worker sends is cut and escaped: it becomes part of one line of a log.
"""

import json
import math
import types
from collections.abc import Mapping
from importlib import import_module
from typing import (
    TYPE_CHECKING,
    Any,
    Final,
    NamedTuple,
    NoReturn,
    Self,
    TypeVar,
    Union,
    get_args,
    get_origin,
    get_type_hints,
)

from runtime.link.gateway import NO_GATEWAY, Gateway
from runtime.link.limits import Limits
from runtime.link.model_files import ModelFacts
from runtime.link.spans import Sampling

if TYPE_CHECKING:
    from runtime.kit.kit import Kit

LONGEST_TEXT: Final = 2000  # characters of a text that a worker sends
_LONGEST_NAME: Final = 200
_LARGEST_NUMBER: Final = 1e9
_CAUSES: Final = {
    **dict.fromkeys(("AmbiguousModel", "LoadFailed", "MissingFramework", "NoAdapter", "Refused"), "adapters.base"),
    **dict.fromkeys(
        ("InvalidKitfile", "SamplesDiffer", "StorageFailed", "Unsupported", "WrongRow", "Failure"), "runtime.errors"
    ),
}
"""Classes of what a worker may meet while it loads a model, by module: importing them takes 20 ms, and waits until one
is met. `Failure` is all that should not happen."""

M = TypeVar("M")


class Terms(NamedTuple):
    """What the operator says about loading a model."""

    adapter: str | None
    trust: str
    allow_globals: tuple[str, ...]
    sandbox: str  # as the operator asked; later how this process is confined
    require_sandbox: bool
    batching: str = "auto"  # auto, exact, off, or the most rows of a batch


class Order(NamedTuple):
    """To a worker, first: what it serves and under which terms. The board, the log and the listening sockets come with
    it."""

    model: str
    slot: int
    accept: bool  # accept connections at once, not only when the model is loaded
    terms: Terms
    kits: str  # the folder that the worker may read, beside the interpreter and its libraries
    log_style: str
    log_level: str
    limits: Limits
    gateway: Gateway = NO_GATEWAY
    sampling: Sampling | None = None  # which requests are traced; None: no collector is asked for


class Prepare(NamedTuple):
    """To a worker: the Kitfile is known, the framework that it names can be imported."""

    model: str
    facts: ModelFacts


class Load(NamedTuple):
    """To a worker: the kit is verified and is in `root`."""

    model: str
    facts: ModelFacts
    root: str
    reference: str
    tag: str | None
    digest: str | None
    verified: str
    layers: Mapping[str, str]  # digests of layers by the path that each filled
    about: Mapping[str, str] = {}  # description, authors and licence of the kit
    signed_by: str | None = None  # the name of the key

    @classmethod
    def of(cls, kit: "Kit") -> Self:
        """Returns the message about a pulled kit."""
        reference, digest = kit.reference, str(kit.digest) if kit.digest else None
        layers = {path: str(digest) for path, digest in kit.layers.items()}
        return cls(reference.name, ModelFacts.of(kit.kitfile), str(kit.root), str(reference), reference.tag, digest,
                   kit.verified, layers, kit.kitfile.about, kit.signer)  # fmt: skip


class Stop(NamedTuple):
    """To a worker: answer what was accepted, within `seconds`, and end."""

    model: str
    seconds: float


class Ready(NamedTuple):
    """From a worker: the model is loaded, answers the kit's samples, and is served."""

    model: str
    adapter: str
    sandbox: str
    samples: int
    load_seconds: float
    example: str  # a request that the model answers, as `curl.shown` writes it


class Failed(NamedTuple):
    """From a worker: the model cannot be loaded. The supervisor decides what follows from it."""

    model: str
    cause: str
    message: str

    @classmethod
    def of(cls, model: str, error: Exception, message: str) -> Self:
        """Returns the message about `error`, by the nearest class that is named here."""
        names = (kind.__name__ for kind in type(error).__mro__ if _CAUSES.get(kind.__name__) == kind.__module__)
        return cls(model, next(names, "Failure"), message)

    def as_error(self) -> Exception:
        """Returns the failure to end a server with."""
        kind: type[Exception] = getattr(import_module(_CAUSES[self.cause]), self.cause)
        return kind(self.message)


class Output(NamedTuple):
    """An output as metadata have it."""

    name: str
    datatype: str
    shape: tuple[int, ...]


class Learnt(NamedTuple):
    """From the worker whose first answer has shown the outputs of a model, and to the others."""

    model: str
    outputs: tuple[Output, ...]
    batch: bool


class Traced(NamedTuple):
    """From a worker: notes of traced requests, as `spans.read` reads them."""

    model: str
    notes: str


class Examine(NamedTuple):
    """To the process of `runtime inspect --files`: the kit whose files it looks at."""

    facts: ModelFacts
    root: str
    terms: Terms


class Verdict(NamedTuple):
    """From that process: the adapter that knows a file, and why it would not be loaded. First, of the whole kit."""

    path: str | None
    adapter: str | None
    reason: str | None


class Predict(NamedTuple):
    """To the process of `runtime predict`. The log, the file with rows and the one for predictions come with it."""

    kit: Load
    terms: Terms
    limits: Limits
    log_style: str
    log_level: str
    form: str  # of both files; "": the first bytes say it
    columns: tuple[str, ...]
    alone: bool
    skip: bool  # wrong rows, instead of ending at the first


class Predicted(NamedTuple):
    """From that process: all rows are done."""

    rows: int
    skipped: int


Message = Order | Prepare | Load | Stop | Ready | Failed | Learnt | Traced | Examine | Verdict | Predict | Predicted


def write(message: Message) -> bytes:
    """Returns the message as bytes. Raises ValueError for what `read` would refuse."""
    return json.dumps([type(message).__name__, *_checked(message)], separators=(",", ":")).encode()


def read(data: bytes, *accepted: type[M]) -> M:
    """Returns the message that `data` is. Raises ValueError if it is none of those accepted."""
    try:
        name, *values = json.loads(data, parse_constant=_refuse)
        kind = next(kind for kind in accepted if kind.__name__ == name)
        message: M = _checked(_value(kind, values))
    except (ValueError, TypeError, StopIteration, OverflowError, RecursionError) as error:
        raise ValueError("not a message that is expected here") from error
    return message


def one_line(text: str, longest: int) -> str:
    """Returns `text` with everything escaped that is no visible character, and cut."""
    shown = "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text[:longest])
    return shown if len(shown) <= longest and len(text) <= longest else f"{shown[: longest - 1]}…"


def _checked(message: Any) -> Any:
    """Returns a message with its texts cut and escaped. Raises ValueError for impossible values."""
    if isinstance(message, Ready):
        numbers = message.samples, message.load_seconds
        if not all(0 <= number <= _LARGEST_NUMBER for number in numbers) or len(message.example) > LONGEST_TEXT:
            raise ValueError("a count, a time or an example that cannot be")
        adapter, sandbox = (one_line(text, _LONGEST_NAME) for text in (message.adapter, message.sandbox))
        return message._replace(adapter=adapter, sandbox=sandbox)
    if isinstance(message, Failed):
        if message.cause not in _CAUSES:
            raise ValueError("a cause that no worker meets")
        return message._replace(message=one_line(message.message, LONGEST_TEXT))
    if isinstance(message, Learnt):
        outputs = tuple(output._replace(name=one_line(output.name, _LONGEST_NAME)) for output in message.outputs)
        return message._replace(outputs=outputs)
    if isinstance(message, Verdict) and message.reason is not None:
        return message._replace(reason=one_line(message.reason, LONGEST_TEXT))
    return message


def _value(kind: Any, value: object) -> Any:
    """Returns `value` as `kind`, the type of a message or of a field. Raises ValueError."""
    arguments = get_args(kind)
    if kind is object or (kind in (str, int, bool, types.NoneType) and type(value) is kind):
        return value
    if kind is float and type(value) in (int, float) and math.isfinite(number := float(value)):  # type: ignore[arg-type]
        return number
    if get_origin(kind) in (Union, types.UnionType):
        return _value(next(option for option in arguments if (option is types.NoneType) == (value is None)), value)
    if get_origin(kind) is tuple and isinstance(value, list):
        return tuple(_value(arguments[0], item) for item in value)
    if get_origin(kind) is Mapping and isinstance(value, dict):
        return {_value(arguments[0], key): _value(arguments[1], item) for key, item in value.items()}
    if hasattr(kind, "_fields") and isinstance(value, list):
        hints = get_type_hints(kind)
        return kind(*(_value(hints[name], item) for name, item in zip(kind._fields, value, strict=True)))
    raise ValueError(f"not {kind}")


def _refuse(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is not JSON")
