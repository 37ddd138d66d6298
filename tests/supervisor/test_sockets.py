import socket

import pytest

from runtime.commands.health import ask
from runtime.errors import CannotListen
from runtime.supervisor.sockets import listen, url


def test_a_taken_port_says_what_to_do():
    with listen("127.0.0.1", 0) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(CannotListen) as caught:
            listen("127.0.0.1", port)
    assert (
        str(caught.value)
        == f"cannot listen on 127.0.0.1 port {port}: another program listens there; stop it, or give another --port"
    )


@pytest.mark.parametrize(
    ("host", "reason"),
    [("203.0.113.7", "not an address of this machine"), ("no such host", "the host name cannot be resolved")],
)
def test_a_host_that_is_not_ours_is_refused(host, reason):
    with pytest.raises(CannotListen, match=reason):
        listen(host, 0)


@pytest.mark.parametrize(
    ("host", "seen"), [("127.0.0.1", "http://127.0.0.1:"), ("0.0.0.0", "http://127.0.0.1:"), ("::1", "http://[::1]:")]
)
def test_url_is_one_that_reaches_the_listener(host, seen):
    with listen(host, 0) as listener:
        assert url(listener).startswith(seen)
        with socket.create_connection(
            (listener.getsockname()[0].replace("0.0.0.0", "127.0.0.1"), listener.getsockname()[1])
        ):
            pass


def test_health_of_nobody_is_not_healthy():
    with listen("127.0.0.1", 0) as listener:
        port = listener.getsockname()[1]
    ready, answer = ask("127.0.0.1", port)
    assert not ready
    assert answer.startswith(f"no server answers on 127.0.0.1 port {port}")
