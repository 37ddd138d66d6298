"""What a kit's files are and whether the trust level would load them, found out in a process that may be lost.

Nothing of the kit is loaded. Even so its bytes are read by frameworks (what types does this file want?), so it is done
where a worker would do it: cleaned environment, no new privileges, confined to reading the kit.
"""

from __future__ import annotations

import os
import socket
import warnings
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from runtime.link.channel import Channel, Message
from runtime.link.model_files import ModelFacts
from runtime.supervisor.process import WorkerProcess
from runtime.worker.harden import harden, shut_in

if TYPE_CHECKING:
    from runtime.kit.pull import Kit
    from runtime.settings import Settings


@dataclass(frozen=True, slots=True)
class Examined:
    """The adapter that would serve the kit, or None and why; and a message for each file: path, adapter, refused."""

    adapter: str | None
    reason: str
    files: tuple[Message, ...]


def examine(kit: Kit, settings: Settings) -> Examined:
    """Looks at the files of a verified kit under the operator's trust settings."""
    facts = ModelFacts.of(kit.kitfile)
    order: Message = {
        "model": asdict(facts),
        "root": str(kit.root),
        "trust": settings.trust,
        "allow_globals": settings.allow_global,
        "adapter": settings.adapter,
    }
    process = WorkerProcess(0, "runtime.worker.examine")
    process.channel.send(order)
    heard = list(_messages(process.channel))
    why = f"not known: the process that looked at it ended ({process.reap()})"
    chosen, *files = heard or [{"adapter": None, "reason": why}]
    left = facts.files(kit.root).files[len(files) :]
    files += [{"path": path, "adapter": None, "refused": why} for path in left]
    return Examined(chosen["adapter"], chosen["reason"], tuple(files))


def _messages(channel: Channel) -> Iterator[Message]:
    while True:
        try:
            yield from channel.receive()
        except EOFError:
            return


def main(control: int, parent: int) -> None:
    """Runs the process that looks: hears one order through the socket `control`, answers, ends."""
    harden(parent)
    os.dup2(2, 1)  # standard output is the report's
    warnings.simplefilter("ignore")
    channel = Channel(socket.socket(fileno=control))
    order = next(_messages(channel))
    shut_in("auto", [order["root"]])
    for message in _look(order):
        channel.send(message)


def _look(order: Message) -> Iterator[Message]:
    import adapters
    from adapters.base import AdapterError, Options
    from adapters.inspection import verdicts

    facts, said = ModelFacts(**order["model"]), list[str]()
    files = facts.files(Path(order["root"]))
    names, asked = {"framework": facts.framework, "format": facts.format}, order["adapter"]
    chosen: tuple[str, str] | None = None
    try:
        adapter, found = adapters.choose(files, **names, adapter=asked, warn=said.append)
        chosen = (found.path, adapter.name)
        yield {"adapter": adapter.name, "reason": "; ".join([f"by the file {found.path}", *said])}
    except AdapterError as error:
        yield {"adapter": None, "reason": str(error)}
    options = Options(trust=order["trust"], allow_globals=tuple(order["allow_globals"]))
    yield from map(asdict, verdicts(files, options, chosen))
