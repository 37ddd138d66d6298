"""BentoML's way to serve a model of one's own."""

from __future__ import annotations

from typing import Any

import bentoml

from loadtests.peer_apps.model import answer


@bentoml.service(workers=1, traffic={"timeout": 30}, logging={"access": {"enabled": False}})
class Model:
    """The model in MODEL."""

    @bentoml.api  # type: ignore[untyped-decorator]  # it has no types here
    def infer(self, inputs: list[dict[str, Any]]) -> dict[str, Any]:
        return answer({"inputs": inputs})
