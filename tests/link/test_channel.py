import os
import socket

import pytest

from runtime.link.channel import Channel


@pytest.fixture
def ends():
    left, right = (Channel(end, most_files=1) for end in socket.socketpair())
    yield left, right
    left.close()
    right.close()


def test_messages_arrive_whole_and_in_order(ends):
    left, right = ends
    left.send({"do": "prepare", "text": "a\nb"})
    left.send({"do": "stop"})
    assert right.receive() == [{"do": "prepare", "text": "a\nb"}, {"do": "stop"}]


def test_a_message_larger_than_one_read_waits_for_its_end(ends):
    left, right = ends
    left.send({"text": "x" * 100_000})
    received = []
    while not received:
        received = right.receive()
    assert len(received[0]["text"]) == 100_000


def test_descriptors_come_with_messages(ends):
    left, right = ends
    read_end, write_end = os.pipe()
    left.send({"do": "serve"}, files=[write_end])
    assert right.receive() == [{"do": "serve"}]
    (inherited,) = right.files
    os.write(inherited, b"x")
    assert os.read(read_end, 1) == b"x"
    for descriptor in (read_end, write_end, inherited):
        os.close(descriptor)


def test_nothing_there_is_an_empty_list_once_unblocked(ends):
    ends[1].unblock()
    assert ends[1].receive() == []


def test_the_end_of_the_peer_is_an_eof(ends):
    ends[0].close()
    with pytest.raises(EOFError):
        ends[1].receive()


def test_sending_to_a_peer_that_is_gone_is_not_an_error(ends):
    ends[1].close()
    ends[0].send({"do": "stop"})


@pytest.mark.parametrize(
    "line", [b"{\n", b"[1]\n", b"3\n", b"\xff\n", b"[" * 100_000 + b"\n"], ids=lambda line: repr(line[:4])
)
def test_what_is_no_message_is_the_end_of_the_peer(line):
    raw, other = socket.socketpair()
    with raw:
        raw.sendall(line[:60_000] + b"\n")
        channel = Channel(other)
        with pytest.raises(EOFError):
            channel.receive()
        channel.close()
