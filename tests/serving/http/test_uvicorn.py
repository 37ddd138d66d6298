"""What we use of uvicorn (`exchange.py` imports it) is not its public interface: here is seen when a release changes it."""

from __future__ import annotations

import asyncio
import socket
import tomllib

import pytest
import uvicorn
from uvicorn.protocols.http.flow_control import FlowControl
from uvicorn.protocols.utils import get_local_addr, get_remote_addr

from tests.places import ROOT

CHANGED = f"uvicorn {uvicorn.__version__} changed {{}}: mend runtime/serving/http/exchange.py, or lower the bound in pyproject.toml"
FIELDS = ("read_paused", "write_paused")
METHODS = ("pause_reading", "resume_reading", "pause_writing", "resume_writing", "drain")


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


def test_flow_control_has_what_a_connection_needs(transport):
    loop, made = transport
    flow = FlowControl(made)
    for name in FIELDS:
        assert getattr(flow, name, None) is False, CHANGED.format(f"FlowControl.{name}")
    for name in METHODS:
        assert callable(getattr(flow, name, None)), CHANGED.format(f"FlowControl.{name}()")
    flow.pause_reading()
    flow.pause_reading()
    assert (flow.read_paused, made.is_reading()) == (True, False), CHANGED.format("FlowControl.pause_reading()")
    flow.resume_reading()
    flow.resume_reading()
    assert (flow.read_paused, made.is_reading()) == (False, True), CHANGED.format("FlowControl.resume_reading()")
    flow.pause_writing()
    waits = loop.create_task(flow.drain())
    loop.run_until_complete(asyncio.sleep(0))
    assert (flow.write_paused, waits.done()) == (True, False), CHANGED.format("FlowControl.drain()")
    flow.resume_writing()
    loop.run_until_complete(asyncio.wait_for(waits, 5))
    assert flow.write_paused is False, CHANGED.format("FlowControl.resume_writing()")


def test_addresses_are_what_asgi_wants(transport):
    _, made = transport
    assert get_remote_addr(made) is None, CHANGED.format("get_remote_addr() of a Unix socket")
    assert get_local_addr(made) == ("", None), CHANGED.format("get_local_addr() of a Unix socket")


def test_uvicorn_has_an_upper_bound():
    wanted = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["dependencies"]
    assert [one for one in wanted if one.startswith("uvicorn")] == ["uvicorn>=0.50,<1"]
