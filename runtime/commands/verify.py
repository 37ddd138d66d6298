"""`runtime verify`: does the model answer what its author saw? Everything that serving does, but to serve."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from runtime.kit.format.reference import Reference


def report(reference: Reference, proof: dict[str, Any] | None, failure: Exception | None, *, as_json: bool) -> str:
    """What is to be said of the kit: `proof` is a worker's word that it is ready, `failure` why it is not."""
    facts = {
        "name": reference.name,
        "reference": proof["reference"] if proof else str(reference),
        "passed": proof is not None,
        "adapter": proof["adapter"] if proof else None,
        "samples": proof["samples"] if proof else None,
        "load_seconds": proof["load_seconds"] if proof else None,
        "reason": str(failure) if failure else None,
    }
    return json.dumps(facts, indent=2, ensure_ascii=False) + "\n" if as_json else _as_text(facts)


def _as_text(facts: dict[str, Any]) -> str:
    if not facts["passed"]:
        return f"{facts['name']}: FAILS\n  {facts['reason']}\n"
    samples = facts["samples"]
    proof = f"{samples} of {samples} samples answered as their author saw" if samples else "loads; it has no samples"
    return f"{facts['name']}: passes\n  {facts['reference']}\n  {proof}, by the {facts['adapter']} adapter\n"
