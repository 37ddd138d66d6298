"""A process in the environment of each client, that runs one case of scripts/ after another."""

from __future__ import annotations

import json
import subprocess
import threading
from pathlib import Path
from typing import Any

from tests.clients import environments

SCRIPTS = Path(__file__).parent / "scripts"
PATIENCE_SECONDS = 90.0


class Broken(Exception):
    """A test of ours does not work: no answer of a server's, so it counts where a failure is expected, too."""


class Drivers:
    """As a context manager it leaves nothing running."""

    def __init__(self) -> None:
        self._running: dict[str, subprocess.Popen[str]] = {}

    def __enter__(self) -> Drivers:
        return self

    def __exit__(self, *_: object) -> None:
        for process in self._running.values():
            process.kill()
            process.communicate()

    def run(self, environment: str, script: str, order: dict[str, Any]) -> Any:
        """What a function of a script returns. A process that does not answer is ended."""
        process = self._running.get(environment)
        if process is None:
            process = self._running[environment] = subprocess.Popen(
                [environments.python(environment), "driver.py"],
                cwd=SCRIPTS,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                text=True,
                env={"HOME": "/nonexistent", "PYTHONDONTWRITEBYTECODE": "1"},
            )
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(json.dumps({"module": script, **order}) + "\n")
        process.stdin.flush()
        end = threading.Timer(PATIENCE_SECONDS, process.kill)
        end.start()
        line = process.stdout.readline()
        end.cancel()
        if not line:
            process.kill()
            process.communicate()
            del self._running[environment]
            raise Broken(f"{script} did not answer in {PATIENCE_SECONDS:.0f} s, or died")
        answer = json.loads(line)
        if "broken" in answer:
            raise Broken(answer["broken"])
        assert "failed" not in answer, answer["failed"]
        return answer["result"]
