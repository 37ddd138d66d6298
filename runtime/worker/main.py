"""A worker's first steps, in an order that matters: gives up privileges, imports, waits for its order, serves."""

import os
import socket
import sys
from typing import Final

from runtime.link.board import Board
from runtime.link.channel import Channel
from runtime.link.messages import Order
from runtime.worker.harden import harden, shut_in
from runtime.worker.survivor import start as start_survivor

_SWITCH_SECONDS: Final = 10e-6
"""GIL switch interval. With Python's 5 ms the event loop waits too long for a prediction in a thread. A waiting thread
also wakes whenever the model releases the GIL, hundreds of times in a forest's prediction: with 5 ms, one of 8 clients'
predictions cost 1.6 times the processor time of a single client's."""


def main(control: int, supervisor: int) -> None:
    """Runs a worker whose supervisor, the process `supervisor`, speaks to it through the socket `control`."""
    harden(supervisor, control)
    os.set_inheritable(control, False)
    channel = Channel(socket.socket(fileno=control), takes_files=True)
    # part of the imports, while the supervisor reads its settings; none of them starts a thread
    import httptools  # noqa: F401
    import uvloop

    try:
        order = channel.receive(Order)
    except EOFError:  # the supervisor ended before it sent one
        sys.exit(1)
    assert order, "the channel waits for it"
    if order.limits.deadline_seconds:
        start_survivor(Board(*channel.files[:2]).signs(order.slot), order.limits.deadline_seconds)
    level = shut_in(order.terms.sandbox, order.kits, memory_bytes=order.limits.memory_bytes)
    terms = order.terms._replace(sandbox=level)
    from runtime.worker.service import Service

    sys.setswitchinterval(_SWITCH_SECONDS)
    uvloop.run(Service(channel, order._replace(terms=terms)).run())
