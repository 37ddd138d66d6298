"""Exported programs (.pt2), checked before `torch.export` loads them, which can run code that a file brings.

torch 2.13 unpickles everything if a strict unpickle fails, evaluates the expressions in the file with sympy, looks
targets up anywhere below `torch`, and writes names from the file into source that it executes. So every member and
every string of the program has to be what `torch.export.save` writes. The archive is read with torch's own reader:
another zip reader could see another file. Format: https://docs.pytorch.org/docs/stable/export/pt2_archive.html, schema
of the program: https://github.com/pytorch/pytorch/blob/main/torch/_export/serde/schema.py.
"""

import ast
import io
import json
import re
from collections import namedtuple
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any, Final

import torch
from torch.utils import _pytree as pytree

from adapters.base import LoadFailed, ModelFiles, TensorSpec
from adapters.checks import Damaged, need
from adapters.imports import name_temporary_folder
from adapters.pytorch.model import WIDER, Loaded, named
from adapters.pytorch.operators import NAMESPACES, check_globals, check_sources, is_refused
from adapters.pytorch.storages import check_storages
from adapters.trust import content_refused
from adapters.values import DATATYPE
from adapters.wording import failing

MEMBERS: Final = re.compile(
    r"archive_format|archive_version|byteorder|version|\.data/(version|serialization_id)|models/model\.json"
    r"|\.format_version|\.storage_alignment|data/sample_inputs/model\.pt|extra/.*"
    r"|data/weights/(weight_\d+|model_weights_config\.json)|data/constants/(tensor_\d+|model_constants_config\.json)"
)
PROGRAM: Final = "models/model.json"
NAMED_TUPLE: Final = "collections.namedtuple"
SAMPLE: Final = "data/sample_inputs/model.pt"
IDENTIFIER: Final = re.compile(r"[A-Za-z_]\w*")
DOTTED: Final = re.compile(r"[\w.+:\-]*")
SYMBOL: Final = re.compile(r"[A-Za-z]\w*|-?\d+(\.\d+)?(e[+-]?\d+)?")
"""A text in an expression: the name of a symbol or the digits of a number."""
FUNCTIONS: Final = frozenset({
    "Abs", "Add", "And", "BooleanFalse", "BooleanTrue", "CeilDiv", "CeilToInt", "CleanDiv", "Eq", "Equality", "Float",
    "FloatPow", "FloatTrueDiv", "FloorDiv", "FloorToInt", "Ge", "GreaterThan", "Gt", "Half", "Identity", "Infinity",
    "IntInfinity", "IntTrueDiv", "Integer", "Le", "LessThan", "LShift", "Lt", "Max", "Min", "Mod", "ModularIndexing",
    "Mul", "Ne", "NegativeInfinity", "NegativeOne", "Not", "One", "Or", "Pow", "PowByNatural", "PythonMod", "RShift",
    "Rational", "RoundDecimal", "RoundToInt", "StrictGreaterThan", "StrictLessThan", "Symbol", "ToFloat",
    "TruncToFloat", "TruncToInt", "Unequality", "Where", "Zero", "ceiling", "false", "floor", "int_oo", "oo", "true",
    "zoo",
})  # fmt: skip
ARITHMETIC: Final = (
    ast.Expression, ast.Load, ast.BinOp, ast.UnaryOp, ast.Compare, ast.operator, ast.unaryop, ast.cmpop, ast.keyword,
)  # fmt: skip
OPERATORS: Final = frozenset({
    "_operator.add", "_operator.and_", "_operator.eq", "_operator.floordiv", "_operator.ge", "_operator.getitem",
    "_operator.gt", "_operator.le", "_operator.lt", "_operator.mod", "_operator.mul", "_operator.ne", "_operator.neg",
    "_operator.not_", "_operator.or_", "_operator.pos", "_operator.pow", "_operator.sub", "_operator.truediv",
    "math.ceil", "math.floor", "math.sqrt", "math.trunc", "torch.sym_float", "torch.sym_int", "torch.sym_ite",
    "torch.sym_max", "torch.sym_min", "torch.sym_not", "torch.sym_sum", "torch.ops.higher_order.cond",
    "torch.ops.higher_order.map_impl", "torch.ops.higher_order.scan", "torch.ops.higher_order.while_loop",
    "torch.ops.higher_order.wrap_with_autocast", "torch.ops.higher_order.wrap_with_set_grad_enabled",
})  # fmt: skip
CONTAINERS: Final = frozenset({
    None, "builtins.dict", "builtins.list", "builtins.tuple", "collections.OrderedDict", NAMED_TUPLE,
})  # fmt: skip
STAND_INS: Final = set[str]()
"""Names of classes in files for which this process has registered a dict or a tuple."""
FREE_TEXT: Final = frozenset({"metadata", "as_string", "guards_code", "as_strings"})
"""Keys below which text is data: torch quotes it with repr, or does not read it (the guards are dropped)."""
KINDS: Final = {"ScalarType": "as_scalar_type", "Layout": "as_layout", "MemoryFormat": "as_memory_format"}
"""How a program says arguments that are numbers to torch."""
AGAIN: Final = "torch.export.save of torch 2.13, with tensors as examples; or ONNX, with torch.onnx.export"


def _reader(files: ModelFiles) -> Any:
    """Returns torch's archive reader, the one that its loader uses. Raises LoadFailed."""
    with failing(f"{files.path} is not a whole archive of PyTorch"):
        return torch._C.PyTorchFileReader(str(files.root / files.path))  # noqa: SLF001 - it has no public name


def record_names(files: ModelFiles) -> list[str]:
    """Returns the members of an archive of torch. Raises LoadFailed."""
    return list(_reader(files).get_all_records())


def pickled(records: list[str]) -> list[str]:
    """Returns the members of an exported program that are pickled: the sample inputs, if there are any."""
    return [name for name in records if name.endswith(".pt")]


def load_exported(files: ModelFiles, device: torch.device, *, strict: bool) -> Loaded:
    """Returns the exported program in `files.path`. If `strict`, raises Refused for what could run code."""
    if strict:
        check_archive(files)
    _stand_in(json.loads(_reader(files).get_record(PROGRAM)))
    with (files.root / files.path).open("rb") as file:
        programs = _load_pt2()(file).exported_programs
    if "model" not in programs:
        raise LoadFailed(f"{files.path} holds no exported program called 'model'")
    program = programs["model"]
    inputs, arrange = _inputs(program, files.path), _arrange(program)
    if device.type != "cpu":
        from torch.export.passes import move_to_device_pass

        program = move_to_device_pass(program, device)
    return Loaded(program.module(check_guards=False), inputs, arrange, _outputs(program), _dtypes(program))


def _load_pt2() -> Any:
    """Returns torch's loader of the archive; torch.export.load would try an older format if this one fails.
    Importing it imports torch's compiler."""
    name_temporary_folder()
    from torch.export.pt2_archive._package import load_pt2

    return load_pt2


def _arrange(program: Any) -> Callable[[list[Any]], Any]:
    """Returns what puts tensors where the program takes them, with the constants that the export has seen between."""
    given, spec = program.graph_signature.user_inputs, program.call_spec.in_spec
    names = {node.name for node in _placeholders(program)}

    def arrange(tensors: list[Any]) -> Any:
        left = iter(tensors)
        return pytree.tree_unflatten([next(left) if value in names else value for value in given], spec)

    return arrange


def _stand_in(program: Any) -> None:
    """Registers what stands in for classes of inputs and outputs, whose code is not in the file."""
    calls = [call["signature"] for call in program["graph_module"]["module_call_graph"] if call.get("signature")]
    stack = [json.loads(call[key]) for call in calls for key in ("in_spec", "out_spec")]
    while stack:
        found = stack.pop()
        if isinstance(found, dict):
            stack.extend(found["children_spec"])
            named = found["type"] == NAMED_TUPLE
            name = found["context"] if named else found["type"]
            if name is not None and name not in pytree.SERIALIZED_TYPE_TO_PYTHON_TYPE:
                STAND_INS.add(name)
                _register_tuple(name, len(found["children_spec"])) if named else _register_record(name)
        elif isinstance(found, list):
            stack.extend(found)


def _register_tuple(name: str, size: int) -> None:
    """Registers a named tuple. The file does not have the names of its fields: they are those of a plain tuple."""
    made = namedtuple("StandIn", [f"output_{i}" for i in range(size)])  # type: ignore[misc]  # each file has its own
    pytree._register_namedtuple(made, serialized_type_name=name)  # noqa: SLF001 - it has no public name


def _register_record(name: str) -> None:
    """Registers a dict for a dataclass, or for a dict of another class. Its context is kept as the file has it."""

    class StandIn(dict[str, Any]):
        context: Any

    def unflatten(values: Any, context: Any) -> StandIn:
        is_dataclass = context and isinstance(context[0], list)  # then: fields with a value, fields that are None
        made = StandIn(zip(context[0] if is_dataclass else context, values, strict=True))
        made.context = context
        return made

    pytree.register_pytree_node(
        StandIn, lambda record: (list(record.values()), record.context), unflatten, serialized_type_name=name
    )


def _inputs(program: Any, name: str) -> tuple[TensorSpec, ...]:
    specs = []
    for node in _placeholders(program):
        value = node.meta["val"]
        if not isinstance(value, torch.Tensor):
            kind = type(value).__name__
            raise LoadFailed(f"input {node.name!r} of {name} is a {kind}, not a tensor; export without it")
        specs.append(_spec(node.name, value))
    return tuple(specs)


def _placeholders(program: Any) -> list[Any]:
    inputs = set(program.graph_signature.user_inputs)
    return [node for node in program.graph.nodes if node.op == "placeholder" and node.name in inputs]


def _spec(name: str, value: torch.Tensor) -> TensorSpec:
    plain = torch.empty(0, dtype=WIDER.get(value.dtype, value.dtype)).numpy().dtype
    if plain not in DATATYPE:
        raise LoadFailed(f"{name} of the program is {plain}, which has no datatype in the protocol; export without it")
    return TensorSpec(name, DATATYPE[plain], tuple(d if isinstance(d, int) else -1 for d in value.shape))


def _dtypes(program: Any) -> tuple[torch.dtype | None, ...]:
    kinds = (node.meta["val"].dtype for node in _placeholders(program))
    return tuple(kind if kind in WIDER else None for kind in kinds)


def _outputs(program: Any) -> tuple[TensorSpec, ...]:
    """Returns the outputs that the program says; none if one of them is no tensor."""
    nodes = {node.name: node for node in program.graph.nodes}
    made = [nodes[name].meta["val"] if name in nodes else None for name in program.graph_signature.user_outputs]
    if not all(isinstance(value, torch.Tensor) for value in made):
        return ()
    whole = pytree.tree_unflatten(made, program.call_spec.out_spec)
    return tuple(_spec(name, value) for name, value in named(whole))


def check_archive(files: ModelFiles) -> None:
    """Raises Refused if a member or a string of the program is not what `torch.export.save` writes."""
    name, reader = files.path, _reader(files)
    records = list(reader.get_all_records())
    if odd := sorted(record for record in records if not MEMBERS.fullmatch(record)):
        raise content_refused(name, f"has the member {odd[0]!r}", AGAIN)
    for config in (record for record in records if record.endswith("_config.json")):
        if tensors := [k for k, v in json.loads(reader.get_record(config))["config"].items() if v["use_pickle"]]:
            raise content_refused(name, f"has the pickled tensor {tensors[0]!r}", AGAIN)
    if SAMPLE in records and (sample := reader.get_record(SAMPLE)):
        try:
            torch.load(io.BytesIO(sample), weights_only=True)
        except MemoryError:
            raise
        except Exception as error:  # here torch would unpickle everything
            said = f"has sample inputs that are more than tensors ({wanted(error)})"
            raise content_refused(name, said, AGAIN) from error
    try:
        _check_program(json.loads(reader.get_record(PROGRAM)))
    except Damaged as error:
        raise content_refused(name, f"is a program with more than operators of torch: {error}", AGAIN) from error


def check_script(files: ModelFiles) -> None:
    """Raises Refused if TorchScript in `files.path` calls more than operators of torch on tensors."""
    reader = _reader(files)
    records = list(reader.get_all_records())
    with only_operators(files.path):
        check_sources(str(reader.get_record(name), "utf-8", "replace") for name in records if name.endswith(".py"))
        for name in records:
            if name.endswith(".pkl"):
                check_globals(reader.get_record(name))
    try:
        for archive in ("data", "constants"):
            if f"{archive}.pkl" in records:
                check_storages(reader, archive)
    except ValueError as error:
        raise LoadFailed(f"{files.path} is not whole TorchScript: {error}") from error


@contextmanager
def only_operators(path: str) -> Iterator[None]:
    """Turns what a check of TorchScript finds into Refused."""
    try:
        yield
    except ValueError as error:  # pickletools says so of a broken pickle
        raise content_refused(path, f"is TorchScript with more than operators of torch: {error}", AGAIN) from error


def wanted(error: Exception) -> str:
    """Returns the global at which torch's weights-only unpickler stopped, or its reason."""
    text = " ".join(re.sub(r"\x1b\[\d*m", "", str(error)).split())
    named = re.search(r"GLOBAL (\S+)|Unsupported class (\S+)", text)
    found = named[1] or named[2] if named else text.partition("WeightsUnpickler error: ")[2]
    return (found or text)[:120].strip("`'. ")


def _check_program(program: Any) -> None:
    """Raises Damaged for a string that torch would evaluate, look up or write into source."""
    stack: list[tuple[str, Any]] = [("", program)]
    while stack:
        key, value = stack.pop()
        if key in FREE_TEXT:
            continue
        if isinstance(value, dict):
            if odd := [k for k in value if not DOTTED.fullmatch(k) or k == "as_custom_obj"]:
                raise Damaged(f"it has the key {odd[0][:60]!r}")
            is_call = "target" in value and "outputs" in value
            if is_call and (target := str(value["target"])) not in OPERATORS:
                need(target in _dispatched(), f"it calls {target[:80]!r}")
                _check_kinds(target, value["inputs"])
            stack.extend((k, v) for k, v in value.items() if not (k == "target" and is_call))
        elif isinstance(value, list):
            stack.extend((key, item) for item in value)
        elif isinstance(value, str):
            _check_text(key, value)


def _check_kinds(target: str, inputs: list[dict[str, Any]]) -> None:
    """Raises Damaged for a datatype, a layout or a memory format that is a plain number: torch does not look at it."""
    kinds = _kinds(target)
    for given in inputs:
        told = given["name"] not in kinds or given["arg"].keys() <= {"as_none", *KINDS.values()}
        need(told, f"it calls {target} with {str(given)[:80]}")


@cache
def _kinds(target: str) -> frozenset[str]:
    """Returns the arguments of an operator that are of KINDS."""
    *_, namespace, name, overload = target.split(".")
    arguments = getattr(getattr(getattr(torch.ops, namespace), name), overload)._schema.arguments  # noqa: SLF001
    return frozenset(one.name for one in arguments if any(kind in str(one.real_type) for kind in KINDS))


def _check_text(key: str, text: str) -> None:
    if key in ("in_spec", "out_spec"):
        _check_spec(text)
    elif key == "expr_str":
        _check_expression(text)
    elif key in ("name", "forward_arg_names"):
        need(not text or IDENTIFIER.fullmatch(text), f"it has the name {text[:60]!r}")
    else:
        need(DOTTED.fullmatch(text), f"{key} is {text[:60]!r}")


def _check_expression(text: str) -> None:
    """Raises Damaged unless sympy would evaluate only its own functions, symbols, numbers and arithmetic."""
    try:
        tree = ast.parse(text.strip(), mode="eval")
    except (SyntaxError, RecursionError, MemoryError) as error:
        raise Damaged(f"it has the expression {text[:60]!r}") from error
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            ok = isinstance(node.func, ast.Name) and node.func.id in FUNCTIONS
        elif isinstance(node, ast.Name):
            ok = SYMBOL.fullmatch(node.id) is not None and (node.id in FUNCTIONS or node.id[-1].isdigit())
        elif isinstance(node, ast.Constant):
            text_ok = isinstance(node.value, str) and SYMBOL.fullmatch(node.value) is not None
            ok = text_ok or isinstance(node.value, bool | int | float)
        else:
            ok = isinstance(node, ARITHMETIC)
        need(ok, f"it has the expression {text[:60]!r}")


@cache
def _dispatched() -> frozenset[str]:
    """Returns the operators of torch's dispatcher that `operators` lets a file call."""
    found = set()
    for schema in torch._C._jit_get_all_schemas():  # noqa: SLF001 - the list of operators has no public name
        namespace, _, operator = schema.name.partition("::")
        full = f"{schema.name}.{schema.overload_name}" if schema.overload_name else schema.name
        if namespace in NAMESPACES and not is_refused(operator) and torch._C._dispatch_has_kernel(full):  # noqa: SLF001 - as above
            found.add(f"torch.ops.{namespace}.{operator}.{schema.overload_name or 'default'}")
    return frozenset(found)


def _check_spec(text: str) -> None:
    stack = [json.loads(text)]
    while stack:
        value = stack.pop()
        if isinstance(value, dict):
            kind, context = value.get("type"), value.get("context")
            need(_is_container(kind), f"its inputs or outputs are in a {str(kind)[:60]!r}")
            if kind == NAMED_TUPLE:
                need(_is_container(context), f"its inputs or outputs are in a named tuple {str(context)[:60]!r}")
            else:
                names = json.loads(context) if isinstance(context, str) else context
                need(_are_names(names), f"its inputs or outputs are named {str(context)[:60]!r}")
            stack.extend(value.get("children_spec", ()))
        elif isinstance(value, list):
            stack.extend(value)


def _is_container(kind: Any) -> bool:
    """True for what torch makes without code of its own or of the file: plain containers, and stand-ins."""
    if kind in CONTAINERS or kind in STAND_INS:
        return True
    return isinstance(kind, str) and bool(DOTTED.fullmatch(kind)) and kind not in pytree.SERIALIZED_TYPE_TO_PYTHON_TYPE


def _are_names(context: Any) -> bool:
    """True for a name, a number, or lists of them: an object would be looked up as an enumeration."""
    if isinstance(context, list):
        return all(map(_are_names, context))
    return context is None or isinstance(context, int) or (isinstance(context, str) and bool(DOTTED.fullmatch(context)))
