"""The seam between the runtime and a framework: frozen values, no base class to inherit, no hooks.

An adapter is one `Adapter` value. Its `load` turns the files of a verified kit into a `Model`; the runtime does the
rest (names, datatypes and shapes are checked before `predict` is called; permits, deadlines, batching, encoding).
This file imports neither the runtime nor numpy nor any framework.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np

    Arrays = dict[str, np.ndarray[Any, Any]]

DATATYPES = {
    "BOOL": "bool",
    "UINT8": "uint8",
    "UINT16": "uint16",
    "UINT32": "uint32",
    "UINT64": "uint64",
    "INT8": "int8",
    "INT16": "int16",
    "INT32": "int32",
    "INT64": "int64",
    "FP16": "float16",
    "FP32": "float32",
    "FP64": "float64",
    "BYTES": "object",
}
"""The Open Inference Protocol's datatypes, as numpy names them. BYTES is an object array of `bytes`."""


class AdapterError(Exception):
    """What loading a model may raise; `str()` is one whole line for a person."""


class LoadFailed(AdapterError):
    """The model file is corrupt, of another version, or the framework refuses it."""


class Refused(AdapterError):
    """The trust policy does not allow what a file wants to do; `file` is its path in the kit, if it is one."""

    def __init__(self, message: str, *, file: str = "") -> None:
        super().__init__(message)
        self.file = file


class MissingFramework(AdapterError):
    """The adapter's framework is not installed; the message names the extra that installs it."""


class NoAdapter(AdapterError):
    """No adapter claims the model; the message says what was asked for and which adapters there are."""


class AmbiguousModel(AdapterError):
    """Several files could be the model; the message lists them."""


class WrongInput(Exception):
    """What `predict` raises for inputs that fit the signature and still cannot be used: text that is not UTF-8."""


@dataclass(frozen=True, slots=True)
class TensorSpec:
    """One input or output: Open Inference Protocol datatype, shape with -1 for a free dimension."""

    name: str
    datatype: str
    shape: tuple[int, ...]
    optional: bool = False


@dataclass(frozen=True, slots=True)
class ModelFiles:
    """What a kit's model is made of. All paths are relative to `root`, cleaned, with forward slashes."""

    root: Path
    """The verified folder."""
    path: str
    """`model.path`: a file, a folder or `.`; when `load` gets it, the one file the choice fell on."""
    parts: tuple[str, ...] = ()
    code: tuple[str, ...] = ()
    files: tuple[str, ...] = ()
    """Every regular file below `root`, sorted."""


@dataclass(frozen=True, slots=True)
class Options:
    """What the kit (`model.parameters.serving`) and the operator say about loading the model."""

    inputs: tuple[TensorSpec, ...] = ()
    """For frameworks that cannot tell."""
    outputs: tuple[str, ...] = ()
    """Default outputs, by name."""
    labels: tuple[str, ...] | None = None
    trust: str = "restricted"
    """data, restricted, signed or unsafe."""
    allow_globals: tuple[str, ...] = ()
    """Exact names a pickle may use beside the adapter's own list."""
    threads: int = 0
    """Threads one predict may use; 0: the framework's own choice."""
    own: Mapping[str, object] = field(default_factory=dict)
    """`serving.options`: the adapter's own, to be validated by it."""


@dataclass(frozen=True, slots=True)
class Model:
    """A loaded model. `predict` is synchronous, called from any thread, one call at a time unless `threadsafe`."""

    platform: str
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    predict: Callable[[Arrays, tuple[str, ...]], Arrays]
    """(inputs by name, wanted output names) -> outputs by name: C-contiguous arrays of the declared datatypes."""
    default_outputs: tuple[str, ...] | None = None
    """What an absent or empty `outputs` means; None: all."""
    batch: bool = False
    """The claim that axis 0 of every input and output is a batch axis."""
    threadsafe: bool = False
    labels: tuple[str, ...] | None = None
    properties: Mapping[str, str] = field(default_factory=dict)
    """The adapter's own facts for the model metadata."""
    interrupt: Callable[[int], None] | None = None
    """Ends the predict that runs in the thread with this identifier, where the framework can."""


@dataclass(frozen=True, slots=True)
class Adapter:
    """One framework. Importable without it; `load` imports it."""

    name: str
    frameworks: tuple[str, ...]
    """Case-folded spellings of `model.framework` and `model.format` that mean this adapter."""
    suffixes: tuple[str, ...]
    """File suffixes it claims, with the dot, lower case."""
    sniff: Callable[[bytes], bool]
    """Whether the first 4,096 bytes of a file look like this framework's."""
    load: Callable[[ModelFiles, Options], Model]
    prepare: Callable[[], None] = lambda: None
    """Imports the framework, so that it can be done before the files are there. Raises MissingFramework."""
