"""One loaded model and everything that answering for it takes, whatever the protocol."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from runtime.serving.engine.engine import Engine
from runtime.serving.engine.request import Request, Signature
from runtime.serving.protocol.arrays import arrays_of

if TYPE_CHECKING:
    from adapters.base import Arrays, Model
    from runtime.link.metrics import Meter, Requests
    from runtime.serving.engine.limits import Limits
    from runtime.serving.journal import Log
    from runtime.serving.provenance import Header, Provenance
    from runtime.serving.statuses import Response


class Served:
    """A model, where it came from, what runs it, and what each protocol has prepared for it."""

    def __init__(self, model: Model, provenance: Provenance, limits: Limits, meter: Meter, log: Log) -> None:
        self.name = provenance.name
        self.model, self.provenance, self.limits, self.meter, self.log = model, provenance, limits, meter, log
        self.signature = Signature.of(model)
        self.engine = Engine(model, self.signature, limits, self.name)
        self.headers = provenance.headers()
        """On every answer about this model."""
        self.forms: dict[str, Any] = {}
        """What each protocol has prepared, by its name."""
        self.meters: dict[str, Requests] = {}
        """The account of each protocol's requests, by its name."""
        self._stamped: dict[tuple[Header, ...], tuple[Header, ...]] = {}
        self._usual: tuple[Header, ...] = ()
        self._one_at_a_time = threading.Lock()

    def predict(self, inputs: Mapping[str, Any]) -> Arrays:
        """The model's default outputs for arrays or nested lists by name, checked and converted as a request's are.

        For programs that have no server: it waits, in the thread that calls, and is in no metric and no log.

        Raises:
            InvalidInput: the inputs do not fit the model.
            PredictFailed: the model raised; `__cause__` is what.
        """
        request = Request(arrays_of(inputs, self.signature, self.limits), self.signature.default)
        if self.model.threadsafe:
            return self.engine.predict(request)
        with self._one_at_a_time:
            return self.engine.predict(request)

    def stamp(self, response: Response) -> Response:
        """The answer with the headers that say where the model is from; as it is if it has them from `stamped`."""
        if response.headers is self._usual:
            return response
        return response._replace(headers=self.stamped(response.headers))

    def stamped(self, headers: tuple[Header, ...]) -> tuple[Header, ...]:
        """`headers`, one of a few tuples, and those that say where the model is from."""
        if headers not in self._stamped:
            whole = headers + self.headers
            self._stamped[headers] = self._stamped[whole] = whole
        self._usual = self._stamped[headers]
        return self._usual

    def close(self) -> None:
        """Lets go of the threads, waiting for none."""
        self.engine.close()
