"""The engine of a model whose outputs are unknown until its first answer (`Model.learn`)."""

from collections.abc import Callable
from dataclasses import replace
from typing import NamedTuple

from adapters.base import Model, WrongInput
from adapters.values import Arrays
from runtime.link.limits import Limits
from runtime.link.meter import Meter
from runtime.serving.engine.engine import Engine
from runtime.serving.engine.request import Request, Signature
from runtime.serving.wording import listed, shown


class Unread(NamedTuple):
    """Stands for the form of a request that was decoded before the outputs were known: `decode` does it again."""

    decode: Callable[[], Request]


class Learning(Engine):
    """Learns the outputs from the inputs of the first request that the model answers. Requests before that may name any
    outputs; those that name none get the default ones."""

    def __init__(self, model: Model, signature: Signature, limits: Limits, name: str, meter: Meter,
                 learn: Callable[[Arrays], Model], adopt: Callable[[Model], Signature]) -> None:  # fmt: skip
        """`adopt` is told the model as it was learnt, and returns its signature."""
        super().__init__(replace(model, predict=self._answer, learn=None), signature, limits, name, meter)
        self._learn: Callable[[Arrays], Model] | None = learn
        """None once the outputs are known: it may hold a second copy of the model."""
        self._adopt, self._known = adopt, model
        self._default: tuple[str, ...] = ()

    def predict(self, request: Request) -> Arrays:
        """Returns what `Engine.predict` does; `request` has the outputs and the form then that it asked for. Raises
        what decoding does, too."""
        outputs = super().predict(request)
        if isinstance(request.form, Unread):
            again = request.form.decode()
            request.wanted, request.form = again.wanted, again.form
        request.wanted = request.wanted or self._default
        return outputs

    def _answer(self, inputs: Arrays, wanted: tuple[str, ...]) -> Arrays:
        if (learn := self._learn) is not None:
            self._known = learn(inputs)
            signature = self._adopt(self._known)
            self._outputs, self._default, self._learn = signature.outputs, signature.default, None
        if unknown := [name for name in wanted if name not in self._outputs]:
            raise WrongInput(f"unknown output {shown(unknown[0])}; the model has {listed(sorted(self._outputs))}")
        return self._known.predict(inputs, wanted or self._default)
