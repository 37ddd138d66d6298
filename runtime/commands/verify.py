"""`runtime verify`: does the model answer what its author saw? Everything that serving does, except serving."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

from adapters.base import AdapterError
from runtime.commands.serve import supervise
from runtime.errors import Failure
from runtime.exits import exit_code

if TYPE_CHECKING:
    from runtime.log import Log
    from runtime.settings import Settings
    from runtime.supervisor.process import WorkerProcess
    from runtime.supervisor.supervisor import Supervisor


def run(settings: Settings, log: Log, first: WorkerProcess | None, /) -> tuple[int, list[str]]:
    """Loads the kit in the worker `first` and reports. Stopped by a signal it reports nothing and has failed."""
    supervisor = supervise(settings, log, first, serving=False)

    import asyncio

    failure = None
    try:
        code = asyncio.run(supervisor.run())
    except (Failure, AdapterError) as error:
        code, failure = exit_code(error), error
    if code and not failure:
        return code, []
    report = _report(supervisor, failure)
    shown = json.dumps(asdict(report), indent=2, ensure_ascii=False).split("\n") if settings.json else _as_text(report)
    return code, shown


@dataclass(frozen=True, slots=True)
class _Report:
    """The keys of `--json`. `reference` has the digest that the supervisor pulled."""

    name: str
    reference: str
    passed: bool
    adapter: str | None = None
    samples: int | None = None
    load_seconds: float | None = None
    reason: str | None = None


def _report(supervisor: Supervisor, failure: Exception | None) -> _Report:
    reference = supervisor.kit.reference if supervisor.kit else supervisor.reference
    name, proof = supervisor.reference.name, supervisor.proof
    if proof is None:
        return _Report(name, str(reference), passed=False, reason=str(failure))
    return _Report(name, str(reference), True, proof.adapter, proof.samples, proof.load_seconds)


def _as_text(report: _Report) -> list[str]:
    if not report.passed:
        return [f"{report.name}: FAILS", f"  {report.reason}"]
    count = report.samples
    proof = f"{count} of {count} samples answered as their author saw" if count else "loads; it has no samples"
    return [f"{report.name}: passes", f"  {report.reference}", f"  {proof}, by the {report.adapter} adapter"]
