"""Locust against a running server: its first model, zeros of the right shape.

locust -f loadtests/locustfile.py --host http://127.0.0.1:8080
"""

from __future__ import annotations

import os
from math import prod
from typing import Any

from locust import FastHttpUser, constant_throughput, task

ROWS = int(os.environ.get("ROWS", "1"))
"""What a free dimension becomes."""


class Client(FastHttpUser):  # type: ignore[misc]  # locust has no types here
    """One client that sends at a fixed rate, whatever the answers do."""

    wait_time = constant_throughput(float(os.environ.get("RATE", "10")))

    def on_start(self) -> None:
        """Learns from the metadata what a request looks like."""
        model = self.client.get("/v2/models").json()["models"][0]
        metadata = self.client.get(f"/v2/models/{model}").json()
        self.path = f"/v2/models/{model}/infer"
        self.body = {"inputs": [zeros(tensor) for tensor in metadata["inputs"]]}

    @task  # type: ignore[untyped-decorator]  # likewise
    def infer(self) -> None:
        """One prediction; any other status than 200 counts as failed."""
        self.client.post(self.path, json=self.body)


def zeros(tensor: dict[str, Any]) -> dict[str, Any]:
    """An input of the signature's datatype and shape, filled with zeros."""
    shape = [ROWS if size < 0 else size for size in tensor["shape"]]
    zero: object = {"BOOL": False, "BYTES": ""}.get(tensor["datatype"], 0)
    return {"name": tensor["name"], "datatype": tensor["datatype"], "shape": shape, "data": [zero] * prod(shape)}
