"""The contract between the runtime and a framework: frozen dataclasses, no base class to inherit, no hooks.

An adapter is one `Adapter` value. Its `load` turns the files of a verified kit into a `Model`. The runtime does the
rest: it checks names, datatypes and shapes before it calls `predict`, and handles permits, deadlines and encoding.
This module imports neither the runtime, nor numpy, nor a framework.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np

    Arrays = dict[str, np.ndarray[Any, Any]]

_NUMBERS = "BOOL UINT8 UINT16 UINT32 UINT64 INT8 INT16 INT32 INT64 FP16 FP32 FP64"
DATATYPES = {name: name.lower().replace("fp", "float") for name in _NUMBERS.split()} | {"BYTES": "object"}
"""Datatype of the Open Inference Protocol -> name of the numpy dtype. BYTES is an object array of `bytes`.

https://github.com/kserve/open-inference-protocol/blob/main/specification/protocol/inference_rest.md#tensor-data-types
"""


class AdapterError(Exception):
    """What `load` may raise, besides MemoryError; `str()` is one whole line for a person."""


class LoadFailed(AdapterError):
    """The model file is corrupt, of another version, or the framework refuses it."""


class Refused(AdapterError):
    """The trust level does not allow what a file needs; `file` is its path in the kit, "" if no file is at fault."""

    def __init__(self, message: str, *, file: str = "") -> None:
        super().__init__(message)
        self.file = file


class MissingFramework(AdapterError):
    """The framework is not installed; the message says how to install it."""


class NoAdapter(AdapterError):
    """No adapter knows the model; the message says what was asked for and which adapters exist."""


class AmbiguousModel(AdapterError):
    """Several files could be the model; the message lists them."""


class WrongInput(Exception):
    """What `predict` raises for inputs that fit the signature but cannot be used, such as text that is not UTF-8."""


@dataclass(frozen=True, slots=True)
class TensorSpec:
    """One input or output. In `shape`, -1 is a dimension of any size."""

    name: str
    datatype: str
    shape: tuple[int, ...]
    optional: bool = False
    nullable: bool = False
    """True if an element of BYTES may be missing: null in JSON, None in the array."""
    ignored: bool = False
    """True for a column that the model drops: it may be left out, or be of any datatype."""


@dataclass(frozen=True, slots=True)
class ModelFiles:
    """The files of a kit. All paths are relative to `root`, the verified folder, normalised, with forward slashes."""

    root: Path
    path: str
    """`model.path`: a file, a folder or `.`. In the value that an adapter's `load` gets: the chosen file."""
    parts: tuple[str, ...] = ()
    code: tuple[str, ...] = ()
    files: tuple[str, ...] = ()
    """Every regular file below `root`, sorted."""


@dataclass(frozen=True, slots=True)
class Options:
    """What the kit (`model.parameters.serving`) and the operator say about loading the model."""

    inputs: tuple[TensorSpec, ...] = ()
    """`serving.inputs`: what the kit's author says, mostly for files that do not say it."""
    sampled: tuple[TensorSpec, ...] = ()
    """The inputs as the kit's samples have them. Only for what neither the file nor `inputs` says."""
    sample: Arrays = field(default_factory=dict)
    """The inputs of the first sample: what the model answers, for dry runs."""
    outputs: tuple[str, ...] = ()
    """Names of the default outputs."""
    labels: tuple[str, ...] | None = None
    trust: str = "restricted"
    """data, restricted, signed or unsafe."""
    allow_globals: tuple[str, ...] = ()
    """Exact names (`module.name`) that a pickle may use, in addition to the allow-list."""
    threads: int = 0
    """Threads of one `predict`; 0: the framework's own default."""
    confined: bool = False
    """True if this process can open no files but the kit's (Landlock): no devices, no compilers, no secrets."""
    mapped: bool = False
    """True if the kit's files stay as they are: arrays may be mapped from them, and workers share that memory."""
    own: Mapping[str, object] = field(default_factory=dict)
    """`serving.options`: keys that the adapter defines and checks."""


@dataclass(frozen=True, slots=True)
class Model:
    """A loaded model. `predict` is synchronous and runs in any thread, one call at a time unless `threadsafe`."""

    platform: str
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    predict: Callable[[Arrays, tuple[str, ...]], Arrays]
    """(inputs by name, wanted output names) -> outputs by name: C-contiguous arrays of the declared datatypes."""
    also: tuple[TensorSpec, ...] = ()
    """Inputs that a request may give in place of `inputs`: the columns of a matrix, or the matrix of all columns."""
    example: Mapping[str, Sequence[object]] = field(default_factory=dict)
    """Elements of one row, in JSON and flat, for inputs where zeros and "" are no row that the model answers."""
    pictures: tuple[str, ...] = ()
    """Inputs that are pictures of any size as they are: UINT8, RGB, `(rows, height, width, 3)`."""
    default_outputs: tuple[str, ...] | None = None
    """The outputs of a request that names none; None: all."""
    batch: bool = False
    """True if axis 0 of every input and output is a batch axis."""
    threadsafe: bool = False
    steady: bool = True
    """False if what inputs say decides how long `predict` takes, not only their size: no event loop runs it."""
    labels: tuple[str, ...] | None = None
    properties: Mapping[str, str] = field(default_factory=dict)
    """Further facts for the model metadata; the values of `warning` and `outputs` are logged as well."""
    fresh_outputs: bool = False
    """True if nobody writes into an array again once `predict` has returned it: long ones are then sent from where they
    are, and not copied before."""
    takes_nothing: bool = True
    """False if `predict` may end the process where an input has no elements: it is not called then."""
    learn: Callable[[Arrays], Model] | None = None
    """Given if the outputs are unknown (`outputs` is empty, its property says why): returns the model with the outputs
    that it has for these inputs, those of the first request. Raises what `predict` does."""
    interrupt: Callable[[int], None] | None = None
    """Ends the `predict` that runs in the thread with this identifier, if the framework can."""


@dataclass(frozen=True, slots=True)
class Adapter:
    """One framework. The module that defines it is importable without the framework; `load` imports it."""

    name: str
    frameworks: tuple[str, ...]
    """Values of `model.framework` and `model.format` that mean this adapter, in lower case."""
    suffixes: tuple[str, ...]
    """Suffixes of its files, with the dot, in lower case."""
    sniff: Callable[[bytes], bool]
    """True if the first 4,096 bytes of a file look like this framework's."""
    load: Callable[[ModelFiles, Options], Model]
    folder: Callable[[ModelFiles], str | None] = lambda _files: None
    """Returns the file that makes a whole folder one of this framework's; None if the folder at `path` is none."""
    prepare: Callable[[], object] = lambda: None
    """Imports the framework; called while the files are still being pulled. Raises MissingFramework."""
    check: Callable[[str, str], object] = lambda path, trust: None
    """Called with `model.path` and the trust level before the model is fetched. Imports nothing. Raises
    MissingFramework, and Refused where no content of the file could change that."""
