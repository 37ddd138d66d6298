import os
import resource
import socket

import pytest

from runtime.link.channel import Channel
from runtime.link.messages import Failed, Load, Prepare, Ready, Stop
from runtime.link.model_files import ModelFacts
from tests.descriptors import open_descriptors

STOP = Stop("m", 1.5)
FACTS = ModelFacts("model.bin", "python", "", None, (), ())


@pytest.fixture
def ends():
    """The supervisor's end, and the worker's."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    ours.setblocking(False)
    supervisor, worker = Channel(ours), Channel(theirs, takes_files=True)
    yield supervisor, worker
    for channel in (supervisor, worker):
        channel.close()
        for descriptor in channel.files:
            os.close(descriptor)


@pytest.fixture
def raw():
    """The supervisor's end, and the bare socket of a worker in strange hands."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    ours.setblocking(False)
    with ours, theirs:
        yield Channel(ours), theirs


def test_messages_arrive_whole_and_in_order(ends):
    supervisor, worker = ends
    prepare = Prepare("m", ModelFacts("a\nb.onnx", "", "", {"serving": [1, None]}, ("x",), ()))
    supervisor.send(prepare)
    supervisor.send(STOP)
    assert worker.receive(Prepare, Stop) == prepare
    assert worker.receive(Prepare, Stop) == STOP


@pytest.mark.slow
def test_a_message_to_a_worker_may_have_any_size(ends):
    supervisor, worker = ends
    before = open_descriptors()
    load = Load("m", FACTS, "/kit", "host/kit:v1", "v1", None, "true", {"x": "ä" * 5_000_000})
    supervisor.send(load)
    assert worker.receive(Load) == load
    assert open_descriptors() <= before


def test_a_worker_that_reads_nothing_does_not_block_the_supervisor(ends):
    supervisor, worker = ends
    load = Load("m", FACTS, "/kit", "host/kit:v1", "v1", None, "true", {"x": "y" * 60_000})
    with pytest.raises(BlockingIOError):  # noqa: PT012 - the third or fourth of them
        for _ in range(100):
            supervisor.send(load)
    assert worker.receive(Load) == load


def test_descriptors_come_with_messages_and_are_closed_in_what_a_worker_starts(ends):
    supervisor, worker = ends
    read_end, write_end = os.pipe()
    supervisor.send(STOP, files=[write_end])
    assert worker.receive(Stop) == STOP
    (inherited,) = worker.files
    worker.files.clear()
    assert not os.get_inheritable(inherited)
    os.write(inherited, b"x")
    assert os.read(read_end, 1) == b"x"
    for descriptor in (read_end, write_end, inherited):
        os.close(descriptor)


def test_nothing_there_is_none(ends):
    supervisor, worker = ends
    assert supervisor.receive(Ready) is None
    os.set_blocking(worker.fileno(), False)
    assert worker.receive(Stop) is None
    assert supervisor.fileno() != worker.fileno()


def test_the_end_of_the_peer_is_an_eof(ends):
    supervisor, worker = ends
    worker.close()
    with pytest.raises(EOFError):
        supervisor.receive(Ready)
    with pytest.raises(BrokenPipeError):
        supervisor.send(STOP)


def test_a_peer_that_ended_with_messages_unread_is_an_eof(ends):
    supervisor, worker = ends
    supervisor.send(STOP)
    worker.close()  # the kernel says ECONNRESET then
    with pytest.raises(EOFError):
        supervisor.receive(Ready)


@pytest.mark.parametrize(
    "packet",
    [b"\xff", b"{", b"@", b"x" * 200_000, b'["Stop","m",1]', b'["Ready","m"'],
    ids=lambda packet: repr(packet[:12]),
)
def test_what_is_no_message_costs_its_packet_and_nothing_else(raw, packet):
    supervisor, worker = raw
    worker.send(packet)
    worker.send(b'["Failed","m","LoadFailed","no"]')
    with pytest.raises(ValueError, match="not a message"):
        supervisor.receive(Ready, Failed)
    assert supervisor.receive(Ready, Failed) == Failed("m", "LoadFailed", "no")


@pytest.mark.slow
def test_a_worker_cannot_fill_the_descriptors_of_the_supervisor(raw):
    supervisor, worker = raw
    before = open_descriptors()
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    null = os.open(os.devnull, os.O_RDONLY)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(int(number) for number, _ in before) + 16, hard))
    try:
        for _ in range(4000):
            socket.send_fds(worker, [b"@"], [null] * 8)
            with pytest.raises(ValueError, match="not a message"):
                supervisor.receive(Ready)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        os.close(null)
    assert open_descriptors() <= before
