"""The two metadata answers: the server's and a model's (docs/protocol.md, 2)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import orjson

from runtime.version import __version__

if TYPE_CHECKING:
    from collections.abc import Iterable

    from adapters.base import Model, TensorSpec
    from runtime.serving.provenance import Provenance

EXTENSIONS: tuple[str, ...] = ()
"""Only what works."""


def server_metadata() -> dict[str, object]:
    """What `GET /v2` answers."""
    return {"name": "modelkit-runtime", "version": __version__, "extensions": EXTENSIONS}


def model_metadata(model: Model, provenance: Provenance) -> dict[str, object]:
    """What `GET /v2/models/{name}` answers; `properties` say where the model came from, all of them strings."""
    return {
        "name": provenance.name,
        "versions": provenance.served_versions,
        "platform": model.platform,
        "inputs": _tensors(model.inputs),
        "outputs": _tensors(model.outputs),
        "properties": _properties(model, provenance),
    }


def _tensors(specs: Iterable[TensorSpec]) -> list[dict[str, Any]]:
    return [{"name": spec.name, "datatype": spec.datatype, "shape": spec.shape} for spec in specs]


def _properties(model: Model, provenance: Provenance) -> dict[str, str]:
    facts = {
        **model.properties,
        "reference": provenance.reference,
        "framework": provenance.framework,
        "adapter": provenance.adapter,
        "trust": provenance.trust,
        "sandbox": provenance.sandbox,
        "verified": provenance.verified,
    }
    if provenance.digest is not None:
        facts["digest"] = provenance.digest
    if model.labels is not None:
        facts["labels"] = orjson.dumps(model.labels).decode()
    return {key: text for key, text in facts.items() if text}
