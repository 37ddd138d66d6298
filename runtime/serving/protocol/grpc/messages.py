"""The messages of `inference.proto`, in a pool of their own (why: `descriptor`)."""

from typing import Any, Final

from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message_factory import GetMessageClass

from runtime.serving.protocol.grpc.descriptor import FILE

SERVICE: Final = "inference.GRPCInferenceService"
Message = Any
"""An instance of such a class: protobuf makes them at run time, so no type checker knows their fields."""

_pool: Final = DescriptorPool()
_pool.AddSerializedFile(FILE)  # type: ignore[no-untyped-call,unused-ignore]


def message(name: str) -> Any:
    """Returns the class of the message `name`."""
    return GetMessageClass(_pool.FindMessageTypeByName(f"inference.{name}"))


METHODS: Final = {method.name: (GetMessageClass(method.input_type), GetMessageClass(method.output_type))
                  for method in _pool.FindServiceByName(SERVICE).methods}  # fmt: skip
"""The classes of request and answer of each method, by its name."""


def chosen(parameter: Message) -> Any:
    """Returns the value of an InferParameter, or of a setting of the log; None if it has none."""
    return getattr(parameter, parameter.WhichOneof("parameter_choice") or "", None)
