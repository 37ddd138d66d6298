"""What a request is to the engine, whatever its protocol: named arrays that fit the model's signature."""

from collections.abc import Collection, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from adapters.base import Model, TensorSpec
from adapters.values import DTYPES, Arrays
from runtime.errors import InputAtFault
from runtime.serving.image_inputs import NO_PICTURES, Picture
from runtime.serving.wording import listed, shown


def spelt(name: str, known: Collection[str]) -> str:
    """Returns the name as it is `known`: LightGBM's files have `_` for each blank."""
    return name if name in known or (other := str(name).replace(" ", "_")) not in known else other


class Request:
    """What a client asks of a model, checked against the model's signature."""

    __slots__ = ("deadline_seconds", "form", "id", "inputs", "wanted")

    def __init__(self, inputs: Arrays, wanted: tuple[str, ...], id: str | None = None, form: Any = None,  # noqa: A002 - its name
                 deadline_seconds: float = 0.0) -> None:  # fmt: skip
        self.inputs, self.wanted = inputs, wanted
        """Arrays by name; output names in the order of the answer."""
        self.id = id
        """The client's own name for the request; where it gives none, the runtime's before `encode` sees it."""
        self.form = form
        """What the protocol's `decode` tells its `encode` about the answer, None for the plain one."""
        self.deadline_seconds = deadline_seconds
        """The time from arrival to answer that the client gives itself; 0: no shorter one than the operator does."""

    @property
    def rows(self) -> int:
        """Length of the first input's first axis; 1 for a scalar."""
        for array in self.inputs.values():
            return len(array) if array.ndim else 1
        return 0


class Signature(NamedTuple):
    """What a model takes and gives, laid out for looking things up."""

    inputs: Mapping[str, TensorSpec]
    required: tuple[str, ...]
    only: TensorSpec | None
    """The input of a model that has just one: it is meant, whatever name a client gives it."""
    outputs: Mapping[str, np.dtype[Any]]
    default: tuple[str, ...]
    """The outputs of a request that names none."""
    pictures: Mapping[str, Picture] = NO_PICTURES
    """What the kit says about inputs that are pictures, by the input's name."""
    example: Mapping[str, Sequence[object]] = {}
    """Elements of a row that the model answers, by the input's name, for those where zeros are none."""
    also: "Signature | None" = None
    """The same model with the inputs that a request may give in place of these."""

    @classmethod
    def of(cls, model: Model, pictures: Mapping[str, Picture] = NO_PICTURES) -> "Signature":
        """Returns the signature of `model`."""
        also = cls._of(model, model.also) if model.also else None
        return cls._of(model, model.inputs)._replace(also=also, pictures=pictures, example=model.example)

    @classmethod
    def _of(cls, model: Model, inputs: tuple[TensorSpec, ...]) -> "Signature":
        names = tuple(spec.name for spec in model.outputs)
        return cls(
            inputs={spec.name: spec for spec in inputs},
            required=tuple(spec.name for spec in inputs if not spec.optional),
            only=inputs[0] if len(inputs) == 1 else None,
            outputs={spec.name: DTYPES[spec.datatype] for spec in model.outputs},
            default=names if model.default_outputs is None else model.default_outputs,
        )

    def meant(self, names: Collection[object]) -> "Signature":
        """Returns this signature, or the model's other one if inputs of these names fit that alone: one matrix for
        columns, or columns for one matrix."""
        if self.also is None or (len(names) == 1) == (self.only is not None):
            return self
        return self.also if self.inputs.keys().isdisjoint(names) else self

    @property
    def alone(self) -> TensorSpec | None:
        """The input that all of a row may come in: the only one, or the one matrix in place of columns."""
        return self.only or (self.also.only if self.also else None)

    @property
    def text(self) -> TensorSpec | None:
        """The input that a lone text is for: of a model of texts the only one, or the only one that is required."""
        found = self.only or (self.inputs[self.required[0]] if len(self.required) == 1 else None)
        return found if found and found.datatype == "BYTES" else None

    def input(self, name: str) -> TensorSpec:
        """Returns the input of that name. Raises InputAtFault if there is none."""
        if name not in self.inputs and (name := spelt(given := name, self.inputs)) == given:
            raise InputAtFault(f"unknown input {shown(name)}; expected {listed(self.inputs)}")
        return self.inputs[name]

    def check_complete(self, arrays: Arrays) -> None:
        """Raises InputAtFault if a required input is missing."""
        if missing := [name for name in self.required if name not in arrays]:
            wanted, got = listed(self.inputs), listed(arrays) or "none"
            raise InputAtFault(f"missing input {listed(missing)}; expected {wanted}, got {got}")
