"""`runtime verify`: does the model answer what its author saw? Everything that serving does, except serving."""

import json
import signal
from typing import TYPE_CHECKING, Any

from adapters import names
from adapters.base import AdapterError
from runtime.commands.serve import supervise
from runtime.errors import Failure, NotExamined
from runtime.exits import exit_code
from runtime.log import Log, with_short_digests
from runtime.settings import Settings
from runtime.supervisor.process import WorkerProcess

if TYPE_CHECKING:
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
    if supervisor.proof and supervisor.proof.adapter not in names():
        failure = NotExamined("the worker names an adapter that does not exist")
        code, supervisor.proof = exit_code(failure), None
    for signum in (signal.SIGTERM, signal.SIGINT):
        signal.signal(signum, signal.SIG_DFL)  # a reader may keep the report waiting
    report = _report(supervisor, failure)
    shown = json.dumps(report, indent=2, ensure_ascii=False).split("\n") if settings.json else _as_text(report)
    return code, shown


def _report(supervisor: "Supervisor", failure: Exception | None) -> dict[str, Any]:
    """Returns what `--json` shows. `reference` has the digest that the supervisor pulled."""
    reference = supervisor.kit.reference if supervisor.kit else supervisor.reference
    proof = supervisor.proof
    return {
        "name": supervisor.reference.name,
        "reference": str(reference),
        "verified": supervisor.kit.verified if supervisor.kit else None,
        "passed": proof is not None,
        **{fact: getattr(proof, fact, None) for fact in ("adapter", "samples")},
        "load_seconds": supervisor.load_seconds if proof else None,
        "reason": None if proof else str(failure),
    }


def _as_text(report: dict[str, Any]) -> list[str]:
    name, count = report["name"], report["samples"]
    if not report["passed"]:
        return [f"{name}: FAILS", f"  {report['reason']}"]
    proof = f"{count} of {count} samples answered as their author saw" if count else "it has no samples"
    by = ", verified by receipt" if report["verified"] == "receipt" else ""
    return [
        f"{name}: passes",
        f"  {with_short_digests(report['reference'])}{by}",
        f"  {proof}; the {report['adapter']} adapter loaded it in {report['load_seconds']:g} s",
    ]
