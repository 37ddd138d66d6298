"""What the clients talk to: a `runtime` process for each kit, started when the first case asks for it."""

from __future__ import annotations

import os
import shutil
from contextlib import ExitStack
from pathlib import Path
from typing import NamedTuple

from tests.e2e.server import Server
from tests.places import KITS


class Address(NamedTuple):
    """Where a kit is served."""

    url: str
    grpc: str
    """HOST:PORT."""


class Servers:
    """As a context manager it leaves nothing running."""

    def __init__(self, folder: Path) -> None:
        self._folder, self._stack = folder, ExitStack()
        self._known: dict[tuple[str, ...], Address] = {}

    def __enter__(self) -> Servers:
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def address(self, kit: str, *options: str) -> Address:
        """Where a golden kit is served, or one that is made here, with further options."""
        key = (kit, *options)
        if key not in self._known:
            self._known[key] = self._start(kit, options)
        return self._known[key]

    def _start(self, kit: str, options: tuple[str, ...]) -> Address:
        reference, environ = f"oci:{KITS / kit}:v1", {}
        if kit == "echo":
            reference, environ = (
                str(self._echo()),
                {"PYTHONPATH": f"{self._folder / 'site'}:{os.environ.get('PYTHONPATH', '')}"},
            )
        elif kit == "catboost":
            reference = f"{kit}={self._catboost()}"
        elif kit == "transformers":
            from tests.adapters.test_huggingface import saved

            reference = f"{kit}={saved(self._folder / kit, 'BertForSequenceClassification')}"
        server = self._stack.enter_context(
            Server(
                reference, "--drain-delay", "0", "--grpc-port", "0", *options, cache=self._folder / "cache", **environ
            )
        )
        ready = server.event("server.ready")
        return Address(ready["address"].rstrip("/"), ready["grpc"])

    def _echo(self) -> Path:
        site, kit = self._folder / "site", self._folder / "echo"
        info = site / "echo_adapter-1.0.dist-info"
        info.mkdir(parents=True)
        (info / "METADATA").write_text("Metadata-Version: 2.1\nName: echo-adapter\nVersion: 1.0\n")
        (info / "entry_points.txt").write_text("[modelkit_runtime.adapters]\necho = echo_adapter:ADAPTER\n")
        shutil.copy(Path(__file__).parent / "echo_adapter.py", site)
        kit.mkdir()
        (kit / "model.echo").write_text("echo\n")
        (kit / "Kitfile").write_text(
            "manifestVersion: 1.0.0\npackage: {name: echo}\nmodel: {path: model.echo, framework: echo}\n"
        )
        return kit

    def _catboost(self) -> Path:
        import catboost
        import numpy as np

        rows, path = np.random.default_rng(0).normal(size=(60, 4)), self._folder / "model.cbm"
        made = catboost.CatBoostClassifier(iterations=10, allow_writing_files=False, verbose=False, random_seed=0)
        made.fit(rows, rows[:, 0] > 0)
        made.save_model(path)
        return path
