"""Heads: which Hosts, lengths and targets are any."""

from __future__ import annotations

import pytest

from runtime.link.limits import Limits
from runtime.serving.http.head import Refused, check_head, target


def head(*headers: tuple[bytes, bytes], version: str = "1.1") -> tuple[int | None, bool]:
    return check_head(version, b"/v2", list(headers), Limits(), upgrade=False)


GOOD = [
    "",
    "a",
    "a:8080",
    "a:",
    "localhost",
    "127.0.0.1:1",
    "[::1]",
    "[::1]:8080",
    "[fe80::1]:",
    "xn--a.b_c~d%41",
    "a,b;c=d!$&'()*+",
]
BAD = [
    "a/b",
    "a b",
    "user@a",
    "a:b",
    "a:1:2",
    "[::1",
    "::1]",
    "[::1]x",
    "[::1]:x",
    "[]",
    "[g]",
    "a?b",
    "a#b",
    "\xe4",
    "a\tb",
    "[::1]]",
]


@pytest.mark.parametrize("host", GOOD)
def test_a_host_that_can_be_one_is_taken(host: str):
    assert head((b"host", host.encode("latin-1"))) == (None, False)


@pytest.mark.parametrize("host", BAD)
def test_any_other_host_is_refused(host: str):
    with pytest.raises(Refused, match="invalid Host header"):
        head((b"host", host.encode("latin-1")))


@pytest.mark.parametrize(("value", "length"), [(b"0", 0), (b"17", 17), (b"17 ", 17)])
def test_a_length_is_digits(value: bytes, length: int):
    assert head((b"host", b"a"), (b"content-length", value))[0] == length


@pytest.mark.parametrize("value", [b"", b" ", b"-1", b"+1", b"1_0", b"1,1", b"0x1", b"\xb2"])
def test_any_other_length_is_refused(value: bytes):
    with pytest.raises(Refused, match="invalid Content-Length") as refused:
        head((b"host", b"a"), (b"content-length", value))
    assert refused.value.status == 400


def test_only_a_1_1_client_can_wait_for_a_100():
    expects = (b"expect", b" 100-Continue ")
    assert head((b"host", b"a"), expects) == (None, True)
    assert head(expects, version="1.0") == (None, False)


@pytest.mark.parametrize(
    ("url", "path", "query"),
    [
        (b"/v2", "/v2", b""),
        (b"/v2?a=b?c", "/v2", b"a=b?c"),
        (b"/v2#x", "/v2", b""),
        (b"*", "*", b""),
        (b"http://a:1/v2?x", "/v2", b"x"),
        (b"http://a", "/", b""),
    ],
)
def test_a_target_is_a_path_and_a_query(url: bytes, path: str, query: bytes):
    assert target(url) == (path, query)
