"""When a connection reads and writes, with a transport of an event loop; its addresses are in `test_application.py`."""

from __future__ import annotations

import asyncio
import socket

import pytest

from runtime.serving.http.flow import Flow, addresses


@pytest.fixture
def transport():
    """A real one, at one end of a socket pair."""
    loop = asyncio.new_event_loop()
    ours, theirs = socket.socketpair()
    made, _ = loop.run_until_complete(loop.connect_accepted_socket(asyncio.Protocol, ours))
    yield loop, made
    made.close()
    loop.run_until_complete(asyncio.sleep(0))
    theirs.close()
    loop.close()


def test_a_transport_is_paused_and_resumed_once(transport):
    loop, made = transport
    flow = Flow(made)
    assert (flow.read_paused, flow.write_paused) == (False, False)
    flow.pause_reading()
    flow.pause_reading()
    assert (flow.read_paused, made.is_reading()) == (True, False)
    flow.resume_reading()
    flow.resume_reading()
    assert (flow.read_paused, made.is_reading()) == (False, True)
    flow.pause_writing()
    waits = loop.create_task(flow.drain())
    loop.run_until_complete(asyncio.sleep(0))
    assert (flow.write_paused, waits.done()) == (True, False)
    flow.resume_writing()
    loop.run_until_complete(asyncio.wait_for(waits, 5))
    assert not flow.write_paused


def test_an_end_without_a_name_has_no_client(transport):
    _, made = transport
    assert addresses(made) == (("", None), None)


def test_a_client_that_has_left_has_no_address():
    loop = asyncio.new_event_loop()
    with socket.create_server(("127.0.0.1", 0)) as listener:
        client, (ours, _) = socket.create_connection(listener.getsockname()), listener.accept()
        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")  # ends with a reset
        made, _ = loop.run_until_complete(loop.connect_accepted_socket(asyncio.Protocol, ours))
        client.close()
        assert addresses(made) == (listener.getsockname(), None)
        made.abort()
        loop.run_until_complete(asyncio.sleep(0))
    loop.close()
