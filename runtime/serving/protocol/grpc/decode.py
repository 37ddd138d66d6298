"""A ModelInferRequest → named arrays that fit the model, or one line that says why not."""

from collections.abc import Iterable, Mapping
from typing import Final

from google.protobuf.message import DecodeError

from adapters.base import TensorSpec
from adapters.values import Arrays
from runtime.errors import InputAtFault, InvalidInput
from runtime.link.limits import Limits
from runtime.serving.engine.request import Request, Signature
from runtime.serving.media import Head
from runtime.serving.protocol.grpc.messages import METHODS, Message
from runtime.serving.protocol.grpc.tensors import from_contents, from_raw
from runtime.serving.protocol.grpc.wire import fields, split
from runtime.serving.protocol.json_elements import ALIASES
from runtime.serving.served import Served
from runtime.serving.wording import listed, quoted, shown

_Request: Final = METHODS["ModelInfer"][0]
_MODEL_NAME, _MODEL_VERSION, _RAW = 1, 2, 7  # fields of ModelInferRequest
_SEQUENCES: Final = ("sequence_id", "sequence_start", "sequence_end")
_FINAL: Final = "triton_enable_empty_final_response"


class GrpcRequest(Request):
    """A request, and how its answer is written."""

    __slots__ = ("final", "raw")

    def __init__(self, inputs: Arrays, wanted: tuple[str, ...], id: str | None, *, raw: bool, final: bool) -> None:  # noqa: A002 - its name
        super().__init__(inputs, wanted, id)
        self.raw, self.final = raw, final
        """Whether outputs are raw bytes; whether the answer says that it is the last one."""


def names(body: bytes) -> tuple[str, str]:
    """Returns the model and the version that a request asks, "" where it names none. Raises InvalidInput."""
    found = {_MODEL_NAME: "", _MODEL_VERSION: ""}
    for number, _, begin, end in fields(body):
        if number in found:
            try:
                found[number] = body[begin:end].decode()
            except UnicodeDecodeError:
                raise InvalidInput("not a valid ModelInferRequest: a name is not UTF-8") from None
    return found[_MODEL_NAME], found[_MODEL_VERSION]


def decode(_: Head, body: bytes, served: Served) -> GrpcRequest:
    """Returns the request that `body` holds. Raises InvalidInput, InputAtFault where the inputs are what is wrong."""
    signature, limits = served.signature, served.limits
    rest, raws = split(body, _RAW)
    try:
        request = _Request.FromString(rest)
    except DecodeError:
        raise InvalidInput("not a valid ModelInferRequest") from None
    _check_parameters(request.parameters, "request")
    inputs = _inputs(request.inputs, raws, signature, limits)
    wanted = _wanted(request.outputs, signature)
    final = _FINAL in request.parameters and bool(_value(request.parameters[_FINAL]))
    raw = bool(raws) or not request.inputs
    return GrpcRequest(inputs, wanted, _id(request.id, limits), raw=raw, final=final)


def _id(given: str, limits: Limits) -> str | None:
    if len(given.encode()) > limits.id_bytes:
        raise InvalidInput(f"id too long: {len(given.encode())} bytes, at most {limits.id_bytes}")
    return given or None


def _inputs(given: Message, raws: list[memoryview], signature: Signature, limits: Limits) -> Arrays:
    if len(given) > limits.inputs:
        raise InputAtFault(f"too many inputs: {len(given)}, at most {limits.inputs}")
    if not given and signature.required:
        raise InputAtFault("inputs must be a non-empty array of tensors, got none")
    if raws and len(raws) != len(given):
        raise InputAtFault(f"raw_input_contents must have one entry for each input: {len(given)}, got {len(raws)}")
    only = signature.only if len(given) == 1 else None
    arrays: Arrays = {}
    for index, tensor in enumerate(given):
        spec = only or signature.input(tensor.name)
        if spec.name in arrays:
            raise InputAtFault(f"duplicate input {quoted(tensor.name)}")
        _check_parameters(tensor.parameters, f"inputs[{index}]")
        _check_datatype(tensor.datatype, spec)
        shape = list(tensor.shape)
        if not raws:
            arrays[spec.name] = from_contents(spec, shape, tensor.contents, limits)
        elif tensor.HasField("contents"):
            raise InputAtFault(f"input {quoted(spec.name)}: contents and raw_input_contents must not be mixed")
        else:
            arrays[spec.name] = from_raw(spec, shape, raws[index], limits)
    signature.check_complete(arrays)
    return arrays


def _check_datatype(datatype: str, spec: TensorSpec) -> None:
    known = ALIASES.get(datatype)
    if known is None:
        raise InputAtFault(f"input {quoted(spec.name)}: unknown datatype {shown(datatype)}; expected {spec.datatype}")
    if known != spec.datatype:
        raise InputAtFault(f"input {quoted(spec.name)}: expected datatype {spec.datatype}, got {known}")


def _wanted(given: Iterable[Message], signature: Signature) -> tuple[str, ...]:
    wanted: dict[str, None] = {}
    for index, output in enumerate(given):
        if output.name not in signature.outputs:
            has = listed(sorted(signature.outputs))
            raise InvalidInput(f"unknown output {shown(output.name)}; the model has {has}")
        if output.name in wanted:
            raise InvalidInput(f"duplicate output {quoted(output.name)}")
        _check_parameters(output.parameters, f"outputs[{index}]")
        wanted[output.name] = None
    return tuple(wanted) or signature.default


def _check_parameters(given: Mapping[str, Message], where: str) -> None:
    """Refuses parameters that would change the answer; others are let through, since the protocol is open."""
    for key in given:
        if key.startswith("shared_memory_"):
            raise InvalidInput(f"{where}: parameter {shown(key)}: shared memory is not supported; send the data itself")
        if key == "classification" or (key in _SEQUENCES and _value(given[key])):
            raise InvalidInput(f"{where}: invalid parameter {quoted(key)}: not supported")


def _value(parameter: Message) -> object:
    kind = parameter.WhichOneof("parameter_choice")
    return None if kind is None else getattr(parameter, kind)
