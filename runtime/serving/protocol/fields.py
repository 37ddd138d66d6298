"""What the fields of a request in V2 may say, whether they came as JSON or as protobuf."""

from collections.abc import Iterable, Mapping
from typing import Any, Final

from adapters.base import TensorSpec
from runtime.errors import InputAtFault, InvalidInput
from runtime.link.limits import Limits
from runtime.serving.engine.request import Signature
from runtime.serving.protocol.json_elements import ALIASES
from runtime.serving.wording import listed, quoted, shown

_SEQUENCES: Final = ("sequence_id", "sequence_start", "sequence_end")
_MOST_MICROSECONDS: Final = 2**63


def valid_id(given: str, limits: Limits) -> str:
    """Returns the client's own name for a request. Raises InvalidInput if it is too long to be echoed."""
    if len(given.encode()) > limits.id_bytes:
        raise InvalidInput(f"id too long: {len(given.encode())} bytes, at most {limits.id_bytes}")
    return given


def known_datatype(given: object, spec: TensorSpec) -> str:
    """Returns the datatype that a client announced for the input `spec`. Raises InputAtFault if there is none such."""
    known = ALIASES.get(given) if type(given) is str else None
    if known is None:
        said = f"unknown datatype {shown(given)}; expected {spec.datatype}"
        raise InputAtFault(f"input {quoted(spec.name)}: {said}")
    return known


def wanted_outputs(names: Iterable[str], signature: Signature) -> tuple[str, ...]:
    """Returns the outputs that are asked for by `names`, or the default ones. Raises InvalidInput."""
    wanted: dict[str, None] = {}
    for name in names:
        if name not in signature.outputs and signature.outputs:  # a model of unknown outputs says it itself
            raise InvalidInput(f"unknown output {shown(name)}; the model has {listed(sorted(signature.outputs))}")
        if name in wanted:
            raise InvalidInput(f"duplicate output {quoted(name)}")
        wanted[name] = None
    return tuple(wanted) or signature.default


def check_parameters(given: Mapping[str, object], where: str) -> None:
    """Raises InvalidInput for what would change the answer and is not supported; the protocol is open for others."""
    for key, value in given.items():
        if key.startswith("shared_memory_"):
            raise InvalidInput(f"{where}: parameter {shown(key)}: shared memory is not supported; send the data itself")
        if value and ((key == "classification" and not where.startswith("outputs")) or key in _SEQUENCES):
            raise InvalidInput(f"{where}: invalid parameter {quoted(key)}: not supported")


def timeout_seconds(parameters: Mapping[str, Any]) -> float:
    """Returns the deadline that a request asks for with Triton's `timeout`, in microseconds there; 0: none.

    https://github.com/triton-inference-server/server/blob/main/docs/protocol/extension_schedule_policy.md
    """
    given = parameters.get("timeout", 0)
    if type(given) is not int or not 0 <= given < _MOST_MICROSECONDS:
        said = f"must be a whole number of microseconds, got {shown(given)}"
        raise InvalidInput(f"request: invalid parameter 'timeout': {said}")
    return given / 1e6
