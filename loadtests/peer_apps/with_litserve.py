"""LitServe's way to serve a model of one's own."""

from __future__ import annotations

import sys
from typing import Any

import litserve

from loadtests.peer_apps.model import answer


class Model(litserve.LitAPI):  # type: ignore[misc]  # it has no types here
    """The model in MODEL."""

    def setup(self, device: str) -> None:
        pass

    def predict(self, given: dict[str, Any]) -> dict[str, Any]:
        return answer(given)


if __name__ == "__main__":
    server = litserve.LitServer(Model(), accelerator="cpu")
    server.run(host="127.0.0.1", port=int(sys.argv[1]), log_level="warning", generate_client_file=False)
