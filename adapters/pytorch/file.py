"""From a file of PyTorch to a callable module: each kind has one loader, and no other is tried if it fails."""

import argparse
import io
import json
import pickle
import posixpath
from collections import Counter
from collections.abc import Callable, Mapping
from contextlib import suppress
from importlib import import_module
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch

from adapters import checks
from adapters.base import LoadFailed, Model, ModelFiles, Options, Refused
from adapters.imports import entrypoint, framework, kit_on_path
from adapters.pickles.file import Bounded
from adapters.pickles.head import TORCH_MAGIC
from adapters.pickles.names import Names
from adapters.pytorch import export
from adapters.pytorch.datatypes import check_graph
from adapters.pytorch.model import Loaded, as_model, copied
from adapters.pytorch.tried import tried_input
from adapters.trust import allows_code, code_refused, device_hint, kind_refused
from adapters.wording import failing, listed, reason

EXPORT: Final = (
    "torch.export.save(torch.export.export(model.eval(), (two_rows,), "
    "dynamic_shapes=({0: torch.export.Dim.AUTO},)), 'model.pt2')"
)
KNOWN: Final[dict[str, checks.Check]] = {
    "entrypoint": checks.TEXT,
    "arguments": checks.MAPPING,
    "device": checks.TEXT,
    "dtype": checks.one_of("float16", "bfloat16", "float32", "float64"),
    "threads": checks.THREADS,
    "compile": checks.FLAG,
    "weights_only": checks.FLAG,
    "example": checks.MAPPING,
}
OTHERS: Final = "others can be said in model.parameters.serving.inputs"
MERGE: Final = "merge it into its base, model.merge_and_unload().save_pretrained(folder)"
SCALARS: Final = ("int", "float", "bool", "number")
"""Arguments of TorchScript that are numbers, not tensors."""
CHECKPOINT: Final = ("model_state_dict", "state_dict", "model", "net")
"""Where checkpoints keep the weights beside the optimizer's and others."""
PLAIN: Final = ("torch", "collections", "numpy", "_codecs", "builtins", "__builtin__")
"""Packages whose classes are in files of weights."""
MAX_HEADER_BYTES: Final = 16 * 1024 * 1024
MAX_TENSORS: Final = 65_536
"""Of a safetensors file: for many empty tensors its own reader takes seconds and half a gigabyte.
https://github.com/huggingface/safetensors/blob/main/README.md#format"""


def load_model(files: ModelFiles, options: Options) -> Model:
    """Returns the model in `files.path`. Raises LoadFailed, Refused."""
    own = checks.check(options.own, KNOWN, "pytorch")
    device = _device(own.get("device", "cpu"), options)
    if threads := own.get("threads", options.threads):
        torch.set_num_threads(threads)
    kind, loader = _loader(files)
    with failing(f"{files.path} cannot be loaded by PyTorch {torch.__version__} as {kind}"):
        loaded = loader(files, options, device)
    return as_model(loaded, files, options, device, kind)


def _device(text: str, options: Options) -> torch.device:
    hint = device_hint(options)
    with failing(f"the device {text!r} was asked for and cannot be used", lambda error: reason(error, 120) + hint):
        device = torch.device(text)
        torch.empty(0, device=device)
    return device


def _loader(files: ModelFiles) -> tuple[str, Callable[[ModelFiles, Options, torch.device], Loaded]]:
    with (files.root / files.path).open("rb") as file:
        head = file.read(64)
    if head.startswith(b"PK\x03\x04"):
        records = export.record_names(files)
        if "archive_format" in records:
            return "an exported program", _exported
        if "constants.pkl" in records and any(name.startswith("code/") for name in records):
            return "TorchScript", _script
        return "weights", _weights
    if head.startswith(TORCH_MAGIC):
        return "weights", _weights
    if head[8:9] == b"{":
        return "safetensors", _safetensors
    raise LoadFailed(f"{files.path} is none of an exported program, TorchScript, torch.save weights or safetensors")


def _exported(files: ModelFiles, options: Options, device: torch.device) -> Loaded:
    if options.trust == "data" and (pickled := export.pickled(export.record_names(files))):
        why = f"its member {pickled[0]} is pickled"
        raise kind_refused(files.path, "an exported program", "data", why, "export it to ONNX", "restricted")
    loaded = export.load_exported(files, device, strict=not allows_code(options.trust))
    rows = {spec.shape[0] if len(spec.shape) > 1 else -1 for spec in loaded.inputs}
    if len(rows) != 1 or -1 in rows:
        return loaded
    free = f"to take any number, export it with a free first axis: {EXPORT}"
    return loaded._replace(warning=f"{files.path} takes a fixed number of rows a request, {rows.pop()}; {free}")


def _script(files: ModelFiles, options: Options, device: torch.device) -> Loaded:
    why = "TorchScript can read and write files"
    if options.trust == "data":
        raise kind_refused(files.path, "TorchScript", "data", why, EXPORT, "restricted")
    if not allows_code(options.trust) and not options.confined:
        why += ", and this worker is not confined by Landlock"
        raise kind_refused(files.path, "TorchScript", options.trust, why, EXPORT, None)
    if not allows_code(options.trust):
        export.check_script(files)
    module = torch.jit.load(str(files.root / files.path), map_location=device).eval()
    if not allows_code(options.trust):
        with export.only_operators(files.path):
            check_graph(module)
    types = [str(argument.type) for argument in module.forward.schema.arguments[1:]]

    def arrange(tensors: list[torch.Tensor]) -> tuple[tuple[Any, ...], dict[str, Any]]:
        kinds = (*types, *("Tensor" for _ in tensors))  # a forward with defaults may take fewer
        return tuple(t.item() if k in SCALARS else t for t, k in zip(tensors, kinds, strict=False)), {}

    steady = not module.inlined_graph.findAllNodes("prim::Loop")
    if options.inputs or options.sampled or (found := tried_input(copied(module), device)) is None:
        return Loaded(module, arrange=arrange, steady=steady)
    said = f"{files.path} does not say what it takes; rows of {found.name} {found.datatype} {list(found.shape)} passed"
    return Loaded(module, (found,), arrange=arrange, steady=steady, warning=f"{said}, {OTHERS}")


def _weights(files: ModelFiles, options: Options, device: torch.device) -> Loaded:
    text = _told_entrypoint(files, options)
    weights_only = bool(options.own.get("weights_only", True))
    try:
        with kit_on_path(files), torch.serialization.safe_globals(_plain()):
            state = torch.load(files.root / files.path, map_location=device, weights_only=weights_only)
    except pickle.UnpicklingError as error:
        instead = (
            "save model.state_dict(), or say weights_only: false in model.parameters.serving.options to unpickle it all"
        )
        raise LoadFailed(f"{files.path} holds more than weights ({export.wanted(error)}); {instead}") from error
    return _with_state(files, options, text, state)


def _plain() -> list[Any]:
    """Returns what stands beside weights in checkpoints, and holds data: command lines, numbers of numpy."""
    arrays = import_module("numpy._core.multiarray")  # as pickles name it
    functions = (arrays.scalar, arrays._reconstruct)  # noqa: SLF001
    older = ((function, f"numpy.core.multiarray.{function.__name__}") for function in functions)
    return [argparse.Namespace, np.ndarray, np.dtype, *map(type, map(np.dtype, "?bBhHiIlLefd")), *functions, *older]


def _safetensors(files: ModelFiles, options: Options, device: torch.device) -> Loaded:
    text = _told_entrypoint(files, options)
    check_header(files.root / files.path, files.path)
    reader = framework("safetensors.torch", "pytorch")
    with failing(f"{files.path} is not a whole safetensors file"):
        state = reader.load_file(files.root / files.path, device=str(device))
    return _with_state(files, options, text, state, mapped=options.mapped)


def check_header(path: Path, name: str) -> None:
    """Raises LoadFailed if the header is too long, has too many tensors or a name twice."""
    with path.open("rb") as file:
        size = int.from_bytes(file.read(8), "little")
        if size > MAX_HEADER_BYTES:
            raise LoadFailed(f"{name} says that its header takes {size} bytes; at most {MAX_HEADER_BYTES} are read")
        header = file.read(size)
    try:
        found = json.loads(header, object_pairs_hook=_once)
    except ValueError as error:
        raise LoadFailed(f"{name} is not a whole safetensors file: {error}") from error
    if len(found) > MAX_TENSORS:
        raise LoadFailed(f"{name} holds {len(found)} tensors; at most {MAX_TENSORS} are read")


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    checks.need(len(made := dict(pairs)) == len(pairs), "a name occurs twice")
    return made


def _told_entrypoint(files: ModelFiles, options: Options) -> str:
    """Returns the entry point. Raises LoadFailed or Refused with all that the kit and the command line lack."""
    text = options.own.get("entrypoint")
    if posixpath.join(posixpath.dirname(files.path), "adapter_config.json") in files.files and not text:
        raise LoadFailed(f"{files.path} is an adapter of PEFT, and not a model: {MERGE}")
    if not isinstance(text, str) and (whole := _class_in(files)):
        instead = f"save model.state_dict() and name the code that makes the model, or export it: {EXPORT}"
        raise LoadFailed(f"{files.path} holds a whole pickled module ({whole}), which needs its code: {instead}")
    allowed, told = allows_code(options.trust), isinstance(text, str)
    if isinstance(text, str) and (options.inputs or options.sampled):
        if not allowed:
            raise code_refused(files.path, f"{files.path} with the entry point {text!r}", options.trust, EXPORT)
        return text
    lacks = {
        "model.parameters.serving.options.entrypoint (module:callable, the kit's code that makes the model)": not told,
        "model.parameters.serving.inputs (name, datatype, shape of each)": not (options.inputs or options.sampled),
        "--trust unsafe, as the code is the kit's": not allowed,
    }
    needs = " and ".join(what for what, is_missing in lacks.items() if is_missing)
    said = f"{files.path} holds weights only, and needs {needs}; or export the whole model: {EXPORT}"
    raise Refused(said, file=files.path) if told and not allowed else LoadFailed(said)


def _class_in(files: ModelFiles) -> str | None:
    """Returns the class of the module that torch.save has pickled whole; None for weights."""
    path = files.root / files.path
    with path.open("rb") as file:
        if not file.read(4).startswith(b"PK"):
            return None
    reader = torch._C.PyTorchFileReader(str(path))  # noqa: SLF001 - it has no public name
    named = set[tuple[str, str]]()
    data = reader.get_record("data.pkl")
    with suppress(Exception):  # what comes before the end of a broken pickle counts
        Names(Bounded(io.BytesIO(data), len(data)), named).load()
    found = sorted(f"{m}.{n}" for m, n in named if m.partition(".")[0] not in PLAIN or m.startswith("torch.nn.modules"))
    return next((name for name in found if not name.startswith("torch.nn.modules")), next(iter(found), None))


def _with_state(files: ModelFiles, options: Options, text: str, state: Any, *, mapped: bool = False) -> Loaded:
    arguments: Any = options.own.get("arguments", {})
    module = entrypoint(files, text)(**arguments)
    if not isinstance(module, torch.nn.Module):
        raise LoadFailed(f"the entry point {text!r} made a {type(module).__name__}, not a torch.nn.Module")
    if isinstance(state, torch.nn.Module):
        raise LoadFailed(f"{files.path} holds a whole module, not weights; save model.state_dict()")
    weights = _weights_in(state)
    if not isinstance(weights, dict) or not all(isinstance(key, str) for key in weights):
        raise LoadFailed(f"{files.path} holds no weights, which are tensors by name; save model.state_dict()")
    weights = _renamed(weights, set(module.state_dict()))
    lacks, more = module.load_state_dict(weights, strict=False)
    own = module.state_dict(keep_vars=True)
    there = {id(own[name]) for name in weights if name in own}
    lacks = [name for name in lacks if id(own[name]) not in there]  # safetensors' save_model writes tied weights once
    if lacks or more:
        raise LoadFailed(f"{files.path} lacks {listed(lacks)}, and has {listed(more)}, which {text!r} has not")
    if mapped:
        _share(module, weights)
    return Loaded(module.eval())


def _share(module: torch.nn.Module, weights: Mapping[str, torch.Tensor]) -> None:
    """Has a module use the mapped file itself for those weights that it has as they are there."""
    for name, own in module.state_dict(keep_vars=True).items():
        there = weights.get(name)
        if there is not None and (own.dtype, own.device) == (there.dtype, there.device) and torch.equal(own, there):
            own.data = there


def _weights_in(state: Any) -> Any:
    """Returns the state dict in a checkpoint: by its usual names, or the only one there is."""
    if not isinstance(state, dict) or any(isinstance(value, torch.Tensor) for value in state.values()):
        return state
    named = [state[key] for key in CHECKPOINT if isinstance(state.get(key), dict)]
    dicts = [value for value in state.values() if isinstance(value, dict) and value]
    weights = [value for value in dicts if all(isinstance(tensor, torch.Tensor) for tensor in value.values())]
    inner = named[:1] or (weights if len(weights) == 1 else [])
    return _weights_in(inner[0]) if inner else state


def _renamed(weights: dict[str, Any], own: set[str]) -> dict[str, Any]:
    """Returns the weights below the prefix under which most of the module's `own` names are: torch.compile,
    DataParallel and modules around a module put one in front of each name."""
    plain = {key.replace("_orig_mod.", ""): value for key, value in weights.items()}
    found = Counter(key.removesuffix(name) for key in plain for name in _ends(key) & own)
    (prefix, most), *others = found.most_common(2) or [("", 0)]
    if not prefix or any(count == most for _, count in others):
        return plain
    return {key.removeprefix(prefix): value for key, value in plain.items() if key.startswith(prefix)}


def _ends(key: str) -> set[str]:
    """Returns the key, and what is behind each of its dots."""
    parts = key.split(".")
    return {".".join(parts[at:]) for at in range(len(parts))}
