"""What is served: one loaded model, where it came from, and the table of them by name."""

import threading
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from dataclasses import replace
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import quote

from adapters.base import Model, TensorSpec
from adapters.values import Arrays
from runtime.errors import NotReady, Poisoned, UnknownModel
from runtime.link.board import Board
from runtime.link.limits import Limits
from runtime.link.meter import Meter
from runtime.link.totals import Totals
from runtime.log import Answered, Log
from runtime.serving.engine.batches import Verdict
from runtime.serving.engine.engine import Engine
from runtime.serving.engine.learning import Learning
from runtime.serving.engine.request import Request, Signature
from runtime.serving.health import Health
from runtime.serving.image_inputs import NO_PICTURES, Picture
from runtime.serving.protocol.examples import example_rows
from runtime.serving.protocol.json_elements import arrays_of
from runtime.serving.statuses import Header, Response
from runtime.serving.wording import listed, shown

if TYPE_CHECKING:
    from runtime.serving.accounts import Account
    from runtime.serving.engine.trial import Ran, Trial
    from runtime.serving.in_hand import InHand


class Provenance(NamedTuple):
    """One served model's origin. Everything in it is the operator's or the kit's word, never a client's."""

    name: str
    """The served name, `[A-Za-z0-9._-]+`."""
    reference: str
    """Canonical text of the resolved reference."""
    digest: str | None
    """Manifest digest, `sha256:…`; None for an unverified folder."""
    versions: tuple[str, ...]
    """What URLs may name, at least one; answers report the first."""
    framework: str
    """As the Kitfile writes it."""
    adapter: str
    verified: str
    """What its files were compared with: `true` (the digest), `receipt` (that of `unpack`) or `false` (nothing)."""
    trust: str
    sandbox: str = "off"
    """How the worker is confined: `landlock-6`, `none: why`, `off`."""
    about: Mapping[str, str] = {}
    """What its author says of the kit, for people."""
    signed_by: str | None = None
    """The name of the operator's key that signed the kit, if one was asked for."""

    def headers(self) -> tuple[Header, ...]:
        """Returns `modelkit-digest`, `-reference` and `-verified`, the headers of every answer about this model."""
        origin = ((b"modelkit-reference", _visible(self.reference)), (b"modelkit-verified", _visible(self.verified)))
        return origin if self.digest is None else ((b"modelkit-digest", _visible(self.digest)), *origin)


class Served:
    """A model, where it came from, what runs it, and what each protocol has prepared for it."""

    def __init__(self, model: Model, provenance: Provenance, limits: Limits, meter: Meter, log: Log,
                 pictures: Mapping[str, Picture] = NO_PICTURES) -> None:  # fmt: skip
        self.name = provenance.name
        self.model, self.provenance, self.limits, self.meter, self.log = model, provenance, limits, meter, log
        self.signature = Signature.of(model, pictures)
        given = model, self.signature, limits, self.name, meter
        self.engine = Engine(*given) if model.learn is None else Learning(*given, model.learn, self._adopt)
        self.in_hand: InHand | None = None
        """Where requests are noted that might end this process; a program without a supervisor has none."""
        self.begin: Callable[..., Any] | None = None
        """Makes the calls of requests, where they are traced: `traced.TracedCall`."""
        self.forms: dict[str, Any] = {}
        """What each protocol has prepared, by its name."""
        self.prepare: dict[str, Callable[[Served], object]] = {}
        """What prepares it."""
        self.trial: Trial | None = None
        """Shows whether the model may be batched."""
        self.example: Mapping[str, Any] | None = None
        """A request in V2 JSON: a sample of the kit, or one of several rows for a model that takes none alone."""
        self.takes_one_row = True
        """False if the model takes no row of `example` alone."""
        self.accounts: dict[str, Account] = {}
        """That of each protocol's requests, by its name."""
        self.answered: dict[str, Answered] = {}
        """What logs an answer of each protocol, by its name."""
        self.learnt: Callable[[Model], object] = lambda _: None
        """Is called, in any thread, with the model once its first answer has shown its outputs."""
        self._origin = provenance.headers()
        self._stamped: dict[tuple[Header, ...], tuple[Header, ...]] = {}
        self._usual: tuple[Header, ...] = ()
        self._turn = nullcontext() if model.threadsafe else threading.Lock()

    def predict(self, inputs: Mapping[str, Any]) -> Arrays:
        """Returns the default outputs for arrays or nested lists by name, checked and converted as a request's are.

        For programs without a server: it runs in the thread that calls, and no metric or log knows of it. Raises
        InvalidInput if the inputs do not fit the model, PredictFailed if the model raised; `__cause__` is what.
        """
        request = Request(arrays_of(inputs, self.signature, self.limits), self.signature.default)
        with self._turn:
            return self.engine.predict(request)

    def _adopt(self, model: Model) -> Signature:
        """Takes the model with the outputs that its first answer has shown."""
        self.signature = Signature.of(model, self.signature.pictures)
        self.model = model
        self.lay_out()
        self.learnt(model)
        outputs = [f"{spec.name} {spec.datatype} {list(spec.shape)}" for spec in model.outputs]
        self.log.info("model.learnt", model=self.name, outputs=outputs)
        return self.signature

    def show(self, outputs: tuple[TensorSpec, ...], *, batch: bool) -> None:
        """Shows the outputs that another worker has learnt. This one learns them itself all the same: that worker may
        be a hostile model's."""
        facts = {key: text for key, text in self.model.properties.items() if key != "outputs"}
        self.model = replace(self.model, outputs=outputs, batch=batch, properties=facts)
        self.lay_out()

    def example_rows(self) -> list[Any]:
        """Returns rows that the model takes: one, or those of its example if it takes none alone."""
        return example_rows(self.signature, self.example, alone=self.takes_one_row)

    def lay_out(self) -> None:
        """Prepares again what each protocol has prepared: something that it shows of the model has changed."""
        self.forms = {name: prepare(self) for name, prepare in self.prepare.items()}

    async def try_batching(self) -> None:
        """Finds out in the background whether requests may be joined, and joins them from then on if they may."""
        if self.trial is None:
            return
        steps = self.trial if self.in_hand is None else _noted(self.trial, self.in_hand, self.name)
        verdict = await self.engine.try_batching(steps)
        if verdict.reason:
            message = f"requests for {self.name} are not joined: {verdict.reason}"
            self.log.info("batching.off", message=message, model=self.name, reason=verdict.reason)
        else:
            message = f"requests for {self.name} that wait are joined, up to {verdict.most_rows} rows"
            facts = {"rows": verdict.most_rows, "difference": verdict.difference}
            self.log.info("batching.on", message=message, model=self.name, **facts)

    @property
    def batching(self) -> dict[str, str]:
        """What the metadata says of batches: the most rows of one, and the largest difference that was measured."""
        if self.trial is None:
            return {}
        verdict = self.engine.verdict
        if verdict is None:
            return {"batching": "being tried"}
        if verdict.reason:
            return {"batching": f"off: {verdict.reason}"}
        return {"batching": str(verdict.most_rows), "batching_difference": f"{verdict.difference:.1g}"}

    def stamp(self, response: Response) -> Response:
        """Returns the answer with the headers that say where the model is from, if it lacks them."""
        if response.headers is self._usual:
            return response
        status, headers, body, variable, tail = response
        return Response(status, self.stamped(headers), body, variable, tail)

    def stamped(self, headers: tuple[Header, ...]) -> tuple[Header, ...]:
        """Returns `headers`, one of a few tuples, and those that say where the model is from."""
        if headers not in self._stamped:
            whole = headers + self._origin
            self._stamped[headers] = self._stamped[whole] = whole
        self._usual = self._stamped[headers]
        return self._usual


class Models:
    """The served models by name, a mapping that is filled while the server runs."""

    def __init__(self, served: Mapping[str, Served], health: Health, board: Board, log: Log) -> None:
        self.served, self.health, self.log, self._board = served, health, log, board

    def settle(self) -> None:
        """Counts what requests have noted until now."""
        for served in self.served.values():
            for account in served.accounts.values():
                account.settle()

    def totals(self) -> Totals:
        """Returns what the workers have counted together."""
        self.settle()
        return Totals.of(map(self._board.slot, range(self._board.slots)))

    def find(self, model: str | None = None, version: str | None = None) -> Served:
        """Returns the model of that name, or the only one. Raises UnknownModel, and NotReady if it is still to come."""
        names = self.health.model_names
        if model is None:
            model, *others = self.served or names or ("",)
            if others:
                raise UnknownModel(f"this path is for servers with one model; this one has {listed([model, *others])}")
        served = self.served.get(model)
        if served is None:
            if not self.health.ready and not self.served and (model in names or not names):
                raise NotReady(f"model {shown(model)} is not ready: {self._reason()}; try again")
            raise UnknownModel(f"unknown model {shown(model)}; this server has {listed(self.served or names)}")
        versions = served.provenance.versions
        if version is not None and version not in versions:
            raise UnknownModel(f"unknown version {shown(version)} of model {shown(model)}; it has {listed(versions)}")
        return served

    def find_ready(self, model: str, version: str | None = None) -> Served:
        """Returns what `find` does; raises NotReady also while predictions should not be sent here."""
        served = self.find(model, version)
        if not (self.health.ready and model in self.health.model_names):
            raise NotReady(f"model {listed([model])} is not ready: {self._reason()}")
        return served

    def stamp(self, response: Response, parameters: Mapping[str, str]) -> Response:
        """Returns the answer with the headers of the model that its path's parameters name, if they name one."""
        served = self.served.get(parameters.get("model", ""))
        return response if served is None else served.stamp(response)

    def _reason(self) -> str:
        return str(self.health.report().get("reason", "loading"))


def _noted(trial: "Trial", in_hand: "InHand", name: str) -> "Trial":
    """Has the steps of a trial stand on the board as requests do: a model that one of them ends is tried no more."""
    body = b"trial of batching: " + name.encode()
    ran: Ran | None = None
    while True:
        try:
            request = next(trial) if ran is None else trial.send(ran)
            mark = in_hand.take(body)
        except StopIteration as end:
            verdict: Verdict = end.value
            return verdict
        except Poisoned:
            return Verdict(reason="a worker ended while the model was tried")
        ran = yield request
        in_hand.left(mark, late=False)


def _visible(text: str) -> bytes:
    # A folder's path may hold anything, line ends included: nothing but visible ASCII may reach a header.
    return quote(text, safe="".join(map(chr, range(0x21, 0x7F)))).encode()
