"""The process that looks at a kit's files for `runtime inspect --files`: what each is, and whether it would be loaded.

No model predicts. But frameworks read the files, and pickles are put together as far as the trust level allows, so this
process is confined as a worker is. Its parent, `runtime/commands/files.py`, checks every message of it.
"""

import os
import socket
import warnings
from collections.abc import Iterator
from pathlib import Path

from runtime.errors import InvalidKitfile
from runtime.link.channel import Channel
from runtime.link.messages import Examine, Verdict
from runtime.worker.harden import FULL, harden, shut_in


def main(control: int, parent: int) -> None:
    """Reads one order from the socket `control` and answers it; `parent` is the process that sent it."""
    harden(parent, control)
    warnings.simplefilter("ignore")
    channel = Channel(socket.socket(fileno=control), takes_files=True)
    order = channel.receive(Examine)
    assert order, "the channel waits for it"
    confined = bool(FULL.fullmatch(shut_in(order.terms.sandbox, order.root)))
    for verdict in _look(order, confined=confined):
        channel.send(verdict)
    os._exit(0)  # a framework may take seconds to clean up after itself


def _look(order: Examine, *, confined: bool) -> Iterator[Verdict]:
    import adapters
    from adapters.base import AdapterError, Options
    from adapters.inspection import verdicts

    facts, terms, warned = order.facts, order.terms, list[str]()
    files = facts.files(Path(order.root))
    chosen: tuple[str, str] | None = None
    try:
        adapter, found = adapters.choose(
            files,
            framework=facts.framework,
            format=facts.format,
            adapter=terms.adapter,
            has_code=_has_code(facts.parameters),
            warn=warned.append,
        )
        chosen = (found.path, adapter.name)
        yield Verdict(None, adapter.name, "; ".join([f"by the file {found.path}", *warned]))
    except AdapterError as error:
        yield Verdict(None, None, str(error))
    options = Options(trust=terms.trust, allow_globals=terms.allow_globals, confined=confined)
    for verdict in verdicts(files, options, chosen):
        yield Verdict(verdict.path, verdict.adapter, verdict.refused)


def _has_code(parameters: object) -> bool:
    """Returns True if the kit names code of its own that makes the model. Wrong parameters are reported by serving."""
    from runtime.worker.declared import Declared  # imports numpy, whose threads would escape Landlock before it

    try:
        return "entrypoint" in Declared.parse(parameters).options.own
    except InvalidKitfile:
        return False
