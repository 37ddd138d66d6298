import contextlib
import ctypes
import errno
import fcntl
import os
import select
import socket
import stat
import struct
import threading
from pathlib import Path

import pytest

from runtime.commands.health import run as health
from runtime.errors import CannotListen
from runtime.settings import Settings
from runtime.supervisor.sockets import (
    afresh,
    another,
    connect,
    curl_address,
    is_intact,
    is_reachable,
    listen,
    queue,
    url,
)


def test_a_taken_port_says_what_to_do():
    with listen("127.0.0.1", 0) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(CannotListen) as caught:
            listen("127.0.0.1", port)
    assert (
        str(caught.value)
        == f"cannot listen on 127.0.0.1 port {port}: another program listens there; stop it, or give another --port"
    )


def test_of_servers_that_start_together_one_takes_the_port():
    with listen("127.0.0.1", 0) as free:
        port = free.getsockname()[1]
    for _ in range(100):
        starts, listeners = threading.Barrier(2), []

        def start(starts=starts, listeners=listeners) -> None:
            starts.wait(10)
            with contextlib.suppress(CannotListen):
                listeners.append(listen("127.0.0.1", port))

        threads = [threading.Thread(target=start) for _ in range(2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(10)
        count = len(listeners)
        for listener in listeners:
            listener.close()
        assert count == 1


@pytest.mark.parametrize(
    ("host", "reason"),
    [
        ("203.0.113.7", "not an address of this machine"),
        ("no such host", "the host name cannot be resolved"),
        ("[::1", "the host name cannot be resolved"),
        ("a..b", "not a valid host name"),
        (".", "not a valid host name"),
        ("x" * 64 + ".example", "not a valid host name"),
    ],
)
def test_a_host_that_is_not_ours_is_refused(host, reason):
    with pytest.raises(CannotListen, match=f"^cannot listen on .* port 0: {reason}; give another --host$"):
        listen(host, 0)


@pytest.mark.parametrize(
    ("host", "seen"),
    [
        ("127.0.0.1", "http://127.0.0.1:"),
        ("0.0.0.0", "http://127.0.0.1:"),
        ("::1", "http://[::1]:"),
        ("[::1]", "http://[::1]:"),
        ("[::]", "http://[::1]:"),
    ],
)
def test_url_is_one_that_reaches_the_listener(host, seen):
    with listen(host, 0) as listener:
        port = listener.getsockname()[1]
        assert url(listener) == f"{seen}{port}"
        with connect(host, port, 5.0) as client:
            accepted, peer = listener.accept()
            accepted.close()
            assert peer[:2] == client.getsockname()[:2]


def test_curl_gets_an_address_that_a_shell_leaves_alone():
    with listen("::1", 0) as listener:
        assert curl_address(listener) == f"'http://[::1]:{listener.getsockname()[1]}'"


def test_health_of_nobody_is_not_healthy(tmp_path):
    with listen("127.0.0.1", 0) as listener:
        port = listener.getsockname()[1]
    unix = f"unix:{tmp_path}/none"
    for host, place, reason in (
        ("127.0.0.1", f"127.0.0.1 port {port}", "Connection refused"),
        ("a..b", f"a..b port {port}", "not a valid host name"),
        (unix, unix, "No such file or directory"),
        ("unix:~no.such.user/s", "unix:~no.such.user/s", "No such file or directory"),
    ):
        settings = Settings.read(["health", "--host", host, "--port", str(port)], {})
        assert health(settings) == (1, [f"no server answers on {place}: {reason}"])


@pytest.mark.slow
def test_who_is_turned_away_meets_a_closed_port_and_who_waits_is_kept():
    with listen("127.0.0.1", 0) as listener, listener.dup() as workers:
        port = listener.getsockname()[1]
        with connect("127.0.0.1", port, 5.0):
            listener.turn_away()
            with socket.socket() as late:
                late.setblocking(False)
                with pytest.raises(BlockingIOError):
                    late.connect(("127.0.0.1", port))
                workers.settimeout(5)
                accepted, _ = workers.accept()
                accepted.close()
                workers.setblocking(False)
                with pytest.raises(BlockingIOError):
                    workers.accept()
                listener.close()
                workers.close()
                end = select.poll()
                end.register(late, select.POLLOUT)
                assert end.poll(10_000)  # its second try, after a second
                assert late.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) == errno.ECONNREFUSED


# Unix sockets


def killed(path: Path) -> None:
    """Leaves at `path` what a server leaves that was killed."""
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(path))
        dead.listen()


@pytest.mark.parametrize("mask", [0o000, 0o022, 0o077])
def test_the_socket_is_for_its_owner_and_its_group_whatever_the_umask(tmp_path, mask):
    before = os.umask(mask)
    try:
        with listen(f"unix:{tmp_path}/s", 8080) as listener:
            assert stat.S_IMODE((tmp_path / "s").lstat().st_mode) == 0o660
            assert url(listener) == f"unix:{tmp_path}/s"
    finally:
        os.umask(before)


def test_a_path_is_taken_from_here_and_from_home(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    for host, name in (("unix:a", "a"), ("unix:./b", "b"), ("unix:~/c", "c")):
        with listen(host, 0) as listener:
            assert url(listener) == f"unix:{tmp_path}/{name}"
            assert (tmp_path / name).is_socket()


def test_curl_gets_the_path_in_quotes(tmp_path):
    (tmp_path / "it's").mkdir()
    with listen(f"unix:{tmp_path}/it's/s", 0) as listener:
        assert curl_address(listener).startswith("--unix-socket '")
        assert curl_address(listener).endswith(" http://localhost")


def test_a_dead_servers_file_is_replaced(tmp_path):
    killed(tmp_path / "s")
    with listen(f"unix:{tmp_path}/s", 0) as listener, connect(f"unix:{tmp_path}/s", 0, 5.0):
        listener.accept()[0].close()


def test_a_live_servers_file_stays(tmp_path):
    place = f"unix:{tmp_path}/s"
    with listen(place, 0) as listener:
        with pytest.raises(CannotListen) as refused:
            listen(place, 0)
        assert str(refused.value) == (
            f"cannot listen on {place}: another program listens there; stop it, or give another path"
        )
        with connect(place, 0, 5.0):
            listener.accept()[0].close()


def test_a_live_server_whose_backlog_is_full_is_alive(tmp_path):
    with socket.socket(socket.AF_UNIX) as busy, contextlib.ExitStack() as clients:
        busy.bind(f"{tmp_path}/s")
        busy.listen(0)
        while True:
            client = clients.enter_context(socket.socket(socket.AF_UNIX))
            client.setblocking(False)
            if client.connect_ex(f"{tmp_path}/s"):
                break
        with pytest.raises(CannotListen, match="another program listens there"):
            listen(f"unix:{tmp_path}/s", 0)
        assert (tmp_path / "s").is_socket()


def test_of_servers_that_start_over_a_dead_ones_file_one_listens(tmp_path):
    killed(tmp_path / "s")
    starts, listeners, refused = threading.Barrier(8), [], []

    def start() -> None:
        starts.wait(10)
        try:
            listeners.append(listen(f"unix:{tmp_path}/s", 0))
        except CannotListen as error:
            refused.append(error)

    threads = [threading.Thread(target=start) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)
    assert (len(listeners), len(refused)) == (1, 7)
    with listeners[0] as listener, connect(f"unix:{tmp_path}/s", 0, 5.0):
        listener.accept()[0].close()


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("file", "what is there is no socket; remove it, or give another path"),
        ("folder", "that is a folder; give the path of a socket in it"),
        ("none/s", "there is no such folder; make it first"),
        ("file/s", "Not a directory"),
        ("x" * 108, "the path has more than 107 bytes; give a shorter one"),
    ],
)
def test_a_path_that_can_be_no_socket_is_refused_and_left_alone(tmp_path, name, reason):
    (tmp_path / "file").write_text("mine")
    (tmp_path / "folder").mkdir()
    with pytest.raises(CannotListen) as refused:
        listen(f"unix:{tmp_path}/{name}", 0)
    assert str(refused.value) == f"cannot listen on unix:{tmp_path}/{name}: {reason}"
    assert (tmp_path / "file").read_text() == "mine"


def test_a_locked_folder_is_not_waited_for_for_ever(tmp_path, monkeypatch):
    monkeypatch.setattr("runtime.supervisor.sockets._LOCK_SECONDS", 0.02)
    folder = os.open(tmp_path, os.O_RDONLY)
    fcntl.flock(folder, fcntl.LOCK_EX)
    try:
        with pytest.raises(CannotListen, match="another program has locked the folder; stop it, or give another path"):
            listen(f"unix:{tmp_path}/s", 0)
    finally:
        os.close(folder)


def test_who_is_turned_away_finds_no_file_and_who_waits_is_kept(tmp_path):
    place = f"unix:{tmp_path}/s"
    with listen(place, 0) as listener, listener.dup() as workers, connect(place, 0, 5.0):
        listener.turn_away()
        assert not (tmp_path / "s").exists()
        listener.close()
        workers.accept()[0].close()


def test_the_file_of_another_server_stays_when_ours_ends(tmp_path):
    place = f"unix:{tmp_path}/s"
    with listen(place, 0) as ours:
        (tmp_path / "s").unlink()
        with listen(place, 0) as other:
            ours.turn_away()
            with connect(place, 0, 5.0):
                other.accept()[0].close()


# a socket for each worker


@pytest.mark.parametrize("host", ["127.0.0.1", "0.0.0.0", "::1", "::"])
def test_connections_are_spread_over_the_sockets_that_listen(host):
    with listen(host, 0) as first, another(first, listening=False) as second:
        with socket.create_connection(("::1" if ":" in host else "127.0.0.1", first.getsockname()[1])):
            first.accept()[0].close()  # the only one that listens
        second.listen()
        assert is_reachable(first)
        first.close()
        assert is_reachable(second)
        second.accept()[0].close()


@pytest.mark.parametrize("damage", ["shut", "filtered", "unlistened"])
def test_damage_to_a_socket_is_seen(damage):
    with listen("127.0.0.1", 0) as listener:
        assert is_intact(listener)
        assert is_reachable(listener)
        if damage == "shut":
            listener.shutdown(socket.SHUT_RDWR)
        elif damage == "unlistened":
            connect_to_nothing(listener)
        else:
            drop_all(listener)
        assert not is_intact(listener)
        assert not is_reachable(listener)


@pytest.mark.slow
def test_a_socket_that_lets_no_packet_in_is_not_reachable():
    with listen("127.0.0.1", 0) as listener:
        listener.setsockopt(socket.IPPROTO_IP, 21, 255)  # IP_MINTTL: no option says so, a connection does
        assert is_intact(listener)
        assert not is_reachable(listener)


def test_a_socket_with_a_full_queue_is_reachable_however_short_its_worker_made_it(monkeypatch):
    monkeypatch.setattr("runtime.supervisor.sockets._BACKLOG", 8)
    with listen("127.0.0.1", 0) as listener, contextlib.ExitStack() as clients:
        listener.listen(0)
        clients.enter_context(connect("127.0.0.1", listener.getsockname()[1], 5.0))
        assert queue(listener) == (1, 0)
        assert is_reachable(listener)
        waiting, most = queue(listener)
        for _ in range(most + 1 - waiting):
            client = clients.enter_context(socket.socket())
            client.setblocking(False)
            client.connect_ex(listener.getsockname())
        assert queue(listener)[0] >= most
        assert is_reachable(listener)


def drop_all(listener):
    program = ctypes.create_string_buffer(struct.pack("HBBI", 6, 0, 0, 0) * 20)
    listener.setsockopt(socket.SOL_SOCKET, 26, struct.pack("HP", 20, ctypes.addressof(program)))


def connect_to_nothing(listener):
    """connect(2) with AF_UNSPEC takes a TCP socket back to its beginning."""
    nothing = ctypes.create_string_buffer(16)
    assert ctypes.CDLL(None).connect(listener.fileno(), nothing, 16) == 0


def test_unix_sockets_are_the_same_for_all(tmp_path):
    with listen(f"unix:{tmp_path}/s", 0) as listener, another(listener, listening=True) as second:
        assert is_reachable(second)
        listener.accept()[0].close()


def test_a_spoilt_unix_socket_is_seen_and_made_afresh(tmp_path):
    place = f"unix:{tmp_path}/s"
    for spoil in (lambda listener: listener.shutdown(socket.SHUT_RDWR), drop_all):
        with listen(place, 0) as listener, another(listener, listening=True) as second:
            assert is_intact(listener)
            spoil(second)
            assert not is_intact(listener)
            assert not is_reachable(listener)
            with afresh(listener) as fresh:
                assert is_intact(fresh)
                assert url(fresh) == place
                assert stat.S_IMODE((tmp_path / "s").lstat().st_mode) == 0o660
                with connect(place, 0, 5.0):
                    fresh.accept()[0].close()
                listener.turn_away()
                assert (tmp_path / "s").exists()
                fresh.turn_away()
                assert not (tmp_path / "s").exists()


def test_a_unix_socket_with_a_full_queue_is_reachable(tmp_path, monkeypatch):
    monkeypatch.setattr("runtime.supervisor.sockets._BACKLOG", 0)
    with listen(f"unix:{tmp_path}/s", 0) as listener, contextlib.ExitStack() as clients:
        for _ in range(2):
            client = clients.enter_context(socket.socket(socket.AF_UNIX))
            client.setblocking(False)
            full = client.connect_ex(f"{tmp_path}/s")
        assert full == errno.EAGAIN
        assert is_reachable(listener)
