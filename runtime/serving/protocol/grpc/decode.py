"""A ModelInferRequest → named arrays that fit the model, or one line that says why not (docs/grpc.md)."""

from collections.abc import Iterable, Mapping
from contextlib import suppress
from typing import Any, Final

from google.protobuf.message import DecodeError

from adapters.base import TensorSpec
from adapters.values import Array, Arrays
from runtime.errors import InputAtFault, InvalidInput
from runtime.link.limits import Limits
from runtime.serving.engine.request import Request
from runtime.serving.media import Body, Head
from runtime.serving.protocol.classes import wanted_classes
from runtime.serving.protocol.content_types import carried, of_outputs, of_request, undone
from runtime.serving.protocol.fields import check_parameters, known_datatype, timeout_seconds, valid_id, wanted_outputs
from runtime.serving.protocol.grpc.encode import Asked
from runtime.serving.protocol.grpc.messages import METHODS, Message, chosen
from runtime.serving.protocol.grpc.typed import LONG, cut
from runtime.serving.protocol.grpc.typed import array_from as typed_array
from runtime.serving.protocol.grpc.wire import fields, split
from runtime.serving.protocol.rows import columns_of, matrix_of
from runtime.serving.protocol.tensor_bytes import array_from
from runtime.serving.served import Served
from runtime.serving.wording import quoted

_Request: Final = METHODS["ModelInfer"][0]
_MODEL_NAME, _MODEL_VERSION, _ID, _RAW = 1, 2, 3, 7  # fields of ModelInferRequest
_FINAL: Final = "triton_enable_empty_final_response"


def names(body: Body) -> tuple[str, str]:
    """Returns the model and the version that a request asks, "" where it names none. Raises InvalidInput."""
    found = {_MODEL_NAME: "", _MODEL_VERSION: ""}
    for number, _, begin, end in fields(body):
        if number in found:
            try:
                found[number] = str(body[begin:end], "utf-8")
            except UnicodeDecodeError:
                raise InvalidInput("not a valid ModelInferRequest: a name is not UTF-8") from None
    return found[_MODEL_NAME], found[_MODEL_VERSION]


def own_id(body: Body, limits: Limits) -> str:
    """Returns the id that a request gave itself, "" where it has none that can be answered."""
    with suppress(InvalidInput, UnicodeDecodeError):
        for number, _, begin, end in fields(body):
            if number == _ID:
                return valid_id(str(body[begin:end], "utf-8"), limits)
    return ""


def text_bytes(_: Head, body: Body) -> int:
    """Returns how many bytes of a message are not those of raw tensors. Raises InvalidInput."""
    return len(body) - sum(end - begin for number, _, begin, end in fields(body) if number == _RAW)


def decode(_: Head, body: Body, served: Served) -> Request:
    """Returns the request that `body` holds. Raises InvalidInput, InputAtFault where the inputs are what is wrong."""
    signature, limits = served.signature, served.limits
    rest, raws = split(body, _RAW)
    rest, contents = cut(rest) if len(rest) > LONG else (rest, None)
    try:
        request = _Request.FromString(rest)
    except DecodeError:
        raise InvalidInput("not a valid ModelInferRequest") from None
    parameters = _parameters(request.parameters, "request")
    inputs = _inputs(request.inputs, raws, contents, parameters, served)
    wanted = wanted_outputs((output.name for output in request.outputs), signature)
    own = {output.name: _parameters(output.parameters, f"outputs[{index}]")
           for index, output in enumerate(request.outputs)}  # fmt: skip
    raw, final = bool(raws) or not request.inputs, bool(parameters.get(_FINAL))
    asked = Asked(raw, final, wanted_classes(own, served.model.outputs), of_outputs(own), of_request(parameters))
    return Request(inputs, wanted, valid_id(request.id, limits) or None, asked, timeout_seconds(parameters))


def _inputs(given: Iterable[Message], raws: list[memoryview], contents: list[memoryview | None] | None,
            parameters: Mapping[str, Any], served: Served) -> Arrays:  # fmt: skip
    """Returns the inputs, whose `contents` are beside them in a long message."""
    tensors, signature, limits = list(given), served.signature, served.limits
    if signature.also is not None:
        signature = signature.meant([tensor.name for tensor in tensors])
    if len(tensors) > limits.inputs and len(tensors) > (most := max(limits.inputs, 2 * len(signature.inputs))):
        raise InputAtFault(f"too many inputs: {len(tensors)}, at most {most}")
    if not tensors and signature.required:
        raise InputAtFault("inputs must be a non-empty array of tensors, got none")
    if raws and len(raws) != len(tensors):
        raise InputAtFault(f"raw_input_contents must have one entry for each input: {len(tensors)}, got {len(raws)}")
    is_table = parameters.get("content_type") == "pd"
    columns = columns_of(signature, [tensor.name for tensor in tensors]) if is_table else None
    only = signature.only if len(tensors) == 1 else None
    arrays: Arrays = {}
    for index, tensor in enumerate(tensors):
        spec = columns[tensor.name] if columns else only or signature.input(tensor.name)
        if spec.name in arrays:
            raise InputAtFault(f"duplicate input {quoted(tensor.name)}")
        own = _parameters(tensor.parameters, f"inputs[{index}]")
        typed = contents[index] if contents else tensor.contents if tensor.HasField("contents") else None
        arrays[spec.name] = _array(spec, tensor, own, raws[index] if raws else None, typed, limits)
    if columns:
        assert signature.only is not None
        arrays = matrix_of(arrays, signature.only, served.model.properties)
    signature.check_complete(arrays)
    return arrays


def _array(spec: TensorSpec, tensor: Message, parameters: Mapping[str, Any], raw: memoryview | None, typed: Any,
           limits: Limits) -> Array:  # fmt: skip
    datatype, shape = known_datatype(tensor.datatype, spec), list(tensor.shape)
    content_type = parameters.get("content_type") if datatype == "BYTES" else None
    to = carried(spec, content_type)
    if raw is None:
        array = typed_array(to, datatype, shape, tensor.contents if typed is None else typed, limits)
    elif typed is None:
        array = array_from(to, datatype, shape, raw, limits)
    else:
        raise InputAtFault(f"input {quoted(spec.name)}: contents and raw_input_contents must not be mixed")
    return array if content_type is None else undone(spec, content_type, array, limits)


def _parameters(given: Mapping[str, Message], where: str) -> dict[str, Any]:
    parameters = {key: value for key, parameter in given.items() if (value := chosen(parameter)) is not None}
    check_parameters(parameters, where)
    return parameters
