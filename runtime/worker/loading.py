"""From a verified kit to a model that may be served: load, replay the author's samples, warm up."""

import math
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Final

import orjson

import adapters
from adapters.base import Adapter, LoadFailed, Model, Options, Refused
from adapters.values import DTYPES
from adapters.wording import reason
from runtime.errors import RequestFailed, SamplesDiffer
from runtime.link.curl import shown
from runtime.link.limits import Limits
from runtime.link.messages import Load, Ready, Terms
from runtime.link.meter import Meter
from runtime.link.model_files import in_layer
from runtime.log import Log
from runtime.serving.codec_table import CODECS
from runtime.serving.engine.trial import Wish, trial
from runtime.serving.image_inputs import AS_IT_IS, pictures
from runtime.serving.inference import rehearse
from runtime.serving.protocol.codec import Codec, prepare
from runtime.serving.protocol.examples import as_written
from runtime.serving.protocol.v1 import V1
from runtime.serving.protocol.v2.codec import V2_JSON
from runtime.serving.protocol.v2.encode import LONGEST_SHOWN, example_request, row_size
from runtime.serving.served import Provenance, Served
from runtime.worker.declared import Batching, Declared
from runtime.worker.harden import FULL
from runtime.worker.samples import Sample, common_inputs, first_inputs, read_samples

_WARM_UPS: Final = 5
_EXAMPLE_ROWS: Final = (1, 4, 16)
_IMAGE_GROWTH: Final = 4  # at most this many times the body's size once it is read: an image becomes FP32


def load(kit: Load, terms: Terms, *, limits: Limits, meter: Meter, log: Log, codecs: tuple[Codec, ...] = CODECS,
         predicts: Callable[[], None] = lambda: None) -> tuple[Served, Ready]:  # fmt: skip
    """Loads the kit of a supervisor's message under the operator's terms; returns it and the answer to the message.
    `predicts` is called before the model is asked for the first time.

    Raises AdapterError if the model cannot or may not be loaded, InvalidKitfile if what the kit says about serving
    cannot be, SamplesDiffer if the model does not answer what its author saw.
    """
    started = time.monotonic()
    confined = _say_terms(terms, meter, log)
    root, declared = Path(kit.root), Declared.parse(kit.facts.parameters)
    samples = read_samples(root / declared.samples) if declared.samples else ()
    told = replace(declared.options, sampled=common_inputs(samples), sample=first_inputs(samples))
    adapter, model = _read_model(kit, terms, replace(told, threads=limits.threads, confined=confined), log)
    images = pictures(model.inputs, {**dict.fromkeys(model.pictures, AS_IT_IS), **declared.images})
    check_size(model, limits)
    served = Served(model, _provenance(kit, terms, adapter.name), limits, meter, log, images)
    served.example = as_written(samples[0].request) if samples else None
    prepare(served, codecs)
    predicts()
    for number, sample in enumerate(samples, 1):
        replay(served, number, sample)
    bodies = [sample.body for sample in samples]
    try:
        if bodies:
            rehearse(served, V2_JSON, bodies[0], times=_WARM_UPS)
            _try_one_row(served)
        else:
            bodies = [_warm_up(served)]
        if wish := _wish(terms.batching, declared.batching):
            served.trial = trial(served.model, [V2_JSON.decode({}, body, served).inputs for body in bodies], wish)
    except RequestFailed as error:  # zeros need not be a valid input of this model
        log.warning("model.not_warmed_up", reason=str(error), cause=reason(error.__cause__) if error.__cause__ else "")
    request = served.example or example_request(model)
    seconds = time.monotonic() - started
    meter.set("runtime_model_load_seconds", seconds)
    return served, Ready(kit.model, adapter.name, terms.sandbox, len(samples), round(seconds, 4), shown(request))


def _read_model(kit: Load, terms: Terms, options: Options, log: Log) -> tuple[Adapter, Model]:
    """Returns the model of the kit's files, and the adapter that read it. Raises AdapterError."""
    facts = kit.facts
    allowed = replace(options, trust=terms.trust, allow_globals=terms.allow_globals, mapped=kit.verified != "false")
    files, names = facts.files(Path(kit.root)), {"framework": facts.framework, "format": facts.format}
    try:
        return adapters.load(
            files, allowed, **names, adapter=terms.adapter, warn=lambda odd: log.warning("model.odd", reason=odd)
        )
    except Refused as refused:
        raise Refused(f"{refused}{in_layer(refused.file, kit.layers)}", file=refused.file) from refused


def _warm_up(served: Served) -> bytes:
    """Returns the body of the example that the model answers: of one row, or of more, for a model that takes its rows
    in groups. Raises what the first one does if there is none."""
    failed: RequestFailed | None = None
    has_rows = any(spec.shape[:1] == (-1,) for spec in served.model.inputs)
    for rows in _EXAMPLE_ROWS if has_rows and row_size(served.model) <= LONGEST_SHOWN else (1,):
        request = example_request(served.model, rows)
        try:
            rehearse(served, V2_JSON, body := orjson.dumps(request), times=_WARM_UPS)
        except RequestFailed as error:
            failed = failed or error
        else:
            if rows > 1:
                served.example, served.takes_one_row = request, False
                served.lay_out()
            return body
    assert failed is not None
    raise failed


def _try_one_row(served: Served) -> None:
    """Finds out whether the model takes the first row of the kit's sample alone, as examples in V1 show it."""
    body = orjson.dumps({"instances": served.example_rows()})
    try:
        rehearse(served, V1, body)
    except RequestFailed:
        served.takes_one_row = False
        served.lay_out()


def _wish(mode: str, declared: Batching | None) -> Wish | None:
    """Returns what `--batching` and the kit together ask for; None: no batching."""
    wish = Wish(exact=mode == "exact")
    if declared:
        wish = wish._replace(most_rows=declared.max_size, delay_seconds=declared.max_delay_ms / 1000, must_pay=False)
    if mode.isdigit():
        wish = wish._replace(most_rows=int(mode), must_pay=False)
    return None if mode == "off" or wish.most_rows < 2 else wish


def _say_terms(terms: Terms, meter: Meter, log: Log) -> bool:
    """Logs and meters the terms; returns True if this process is confined. Raises Refused."""
    confined = bool(FULL.fullmatch(terms.sandbox))
    meter.set("runtime_sandboxed", confined)
    meter.set("runtime_unsafe_loading", terms.trust == "unsafe")
    if terms.trust == "unsafe":
        log.warning("trust.unsafe", reason="--trust unsafe: whatever the kit holds may run in this process")
    if not confined and terms.sandbox != "off":
        if terms.require_sandbox:
            raise Refused(f"--sandbox require, and this worker cannot be wholly confined ({terms.sandbox})")
        log.warning("worker.not_sandboxed", reason=terms.sandbox)
    log.debug("worker.sandboxed", sandbox=terms.sandbox)
    return confined


def check_size(model: Model, limits: Limits) -> None:
    """Raises LoadFailed if an input is larger than any request can be: an example of it would fill the memory."""
    most = _IMAGE_GROWTH * limits.body_bytes
    for spec in model.inputs:
        size = math.prod(max(axis, 1) for axis in spec.shape) * DTYPES[spec.datatype].itemsize
        if size > most:
            shape = f"{spec.name} of {spec.datatype} {list(spec.shape)}"
            raise LoadFailed(f"its input {shape:.200} takes {size} bytes, at most 4 times --max-body-bytes are served")


def _provenance(kit: Load, terms: Terms, adapter: str) -> Provenance:
    return Provenance(
        name=kit.model,
        reference=kit.reference,
        digest=kit.digest,
        versions=tuple(dict.fromkeys(filter(None, (kit.tag, kit.digest, "1")))),
        framework=kit.facts.framework,
        adapter=adapter,
        verified=kit.verified,
        trust=terms.trust,
        sandbox=terms.sandbox,
        about=kit.about,
        signed_by=kit.signed_by,
    )


def replay(served: Served, number: int, sample: Sample) -> None:
    """Sends the model a sample's request, as a client would. Raises SamplesDiffer if the answer is another."""
    try:
        answer = rehearse(served, V2_JSON, sample.body).body
    except RequestFailed as error:
        cause = f": {reason(error.__cause__)}" if error.__cause__ else ""
        raise SamplesDiffer(f"sample {number}: the model does not answer its request: {error}{cause}") from error
    sample.check(number, orjson.loads(answer))
