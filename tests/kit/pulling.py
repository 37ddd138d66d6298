"""An observer that remembers, and short ways to pull with it."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from runtime.kit.format.reference import Reference
from runtime.kit.pull import Kit, PullOptions, pull

if TYPE_CHECKING:
    from runtime.kit.format.kitfile import Kitfile
    from runtime.kit.format.manifest import Manifest
    from runtime.kit.format.placing import Placed
    from runtime.kit.observer import Phase


AT_ONCE_SECONDS = 15.0
"""What waits for nothing has ended by then, however busy the machine is; what waits for a time limit has not."""


@dataclass
class Recorder:
    """Everything a pull told; `stop` decides about going on."""

    stop: Callable[[], bool] = lambda: False
    events: list[str] = field(default_factory=list)
    phases: dict[str, float] = field(default_factory=dict)
    warnings: list[tuple[str, dict[str, object]]] = field(default_factory=list)
    marks: list[tuple[str, int, int]] = field(default_factory=list)
    left: list[str] = field(default_factory=list)
    reference: Reference | None = None

    def phase(self, name: Phase, seconds: float) -> None:
        self.events.append(name)
        self.phases[name] = seconds

    def resolved(self, reference: Reference, manifest: Manifest) -> None:
        self.events.append("resolved")
        self.reference = reference

    def kitfile(self, kitfile: Kitfile) -> None:
        self.events.append("kitfile")

    def left_out(self, layers: Sequence[Placed]) -> None:
        self.left += [each.section for each in layers]

    def progress(self, layer: str, done_bytes: int, total_bytes: int) -> None:
        if self.events[-1:] != ["progress"]:
            self.events.append("progress")
        self.marks.append((layer, done_bytes, total_bytes))

    def warning(self, event: str, **fields: object) -> None:
        self.warnings.append((event, fields))

    def cancelled(self) -> bool:
        return self.stop()

    @property
    def warned(self) -> list[str]:
        """Names of the warnings, in order."""
        return [event for event, _ in self.warnings]


def pulled(
    reference: str, cache: Path, watch: Recorder | None = None, docker_config: Path | None = None, **options: object
) -> Kit:
    """Pull a kit by its reference; options are those of PullOptions. What would be retried takes longer than AT_ONCE.

    `docker_config`: the folder of the config.json that has the logins, during this pull.
    """
    named = PullOptions(cache, **{"retry_budget_seconds": 2 * AT_ONCE_SECONDS, **options})
    before = os.environ.get("DOCKER_CONFIG")
    if docker_config is not None:
        os.environ["DOCKER_CONFIG"] = str(docker_config)
    try:
        return pull(Reference.parse(reference), named, watch or Recorder())
    finally:
        os.environ.pop("DOCKER_CONFIG", None)
        if before is not None:
            os.environ["DOCKER_CONFIG"] = before


def tree(root: Path) -> dict[str, bytes]:
    """Every file below a folder, by relative path."""
    return {str(path.relative_to(root)): path.read_bytes() for path in sorted(root.rglob("*")) if path.is_file()}


def unverified(cache: Path) -> list[str]:
    """Files under blobs/ whose name is not the digest of their bytes: always none."""
    files = [path for path in (cache / "blobs").rglob("*") if path.is_file()]
    return [str(path) for path in files if hashlib.new(path.parent.name, path.read_bytes()).hexdigest() != path.name]


def leftovers(cache: Path) -> list[str]:
    """Unfinished files and trees: none after a pull, however it ended."""
    return [str(path) for path in [*(cache / "ingest").glob("*"), *(cache / "kits").glob(".tmp-*")]]
