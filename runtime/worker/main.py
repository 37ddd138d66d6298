"""A worker's first steps, in an order that matters: give up privileges, import, hear the order, serve."""

import os
import socket
import sys
from typing import Final

from runtime.link.channel import Channel
from runtime.link.messages import Order
from runtime.worker.harden import harden, shut_in

_SWITCH_SECONDS: Final = 10e-6
"""A prediction in a thread gives way to the event loop after so long, not after Python's 5 ms. Whoever waits is also
woken whenever the model lets go of the interpreter, and a forest does so hundreds of times a prediction: with 5 ms, 8
clients made one cost 1.6 times the processor time of one client's."""


def main(control: int, supervisor: int) -> None:
    """Runs a worker whose supervisor, the process `supervisor`, speaks to it through the socket `control`."""
    harden(supervisor, control)
    os.set_inheritable(control, False)
    channel = Channel(socket.socket(fileno=control), takes_files=True)
    # half of what a server imports, while the supervisor still reads its settings
    import httptools  # noqa: F401
    import uvloop

    try:
        order = channel.receive(Order)
    except EOFError:  # the supervisor ended before it said what to do
        sys.exit(1)
    assert order, "the channel waits for it"
    level = shut_in(order.terms.sandbox, order.kits, memory_bytes=order.limits.memory_bytes, files=(channel.files[2],))
    terms = order.terms._replace(sandbox=level)
    from runtime.worker.service import Service

    sys.setswitchinterval(_SWITCH_SECONDS)
    uvloop.run(Service(channel, order._replace(terms=terms)).run())
