"""An answer's bytes, and what is kept of them."""

from __future__ import annotations

from runtime.serving.http.exchange import _constant_lines, rendered
from runtime.serving.statuses import Response

DATE = b"date: now\r\n"


def test_an_answer_is_its_lines_and_its_body():
    response = Response(200, ((b"a", b"1"), (b"b", b"2")), b"body", ((b"c", b"3"),))
    head, _, body = rendered(response, DATE, keep_alive=True).partition(b"\r\n\r\n")
    assert head.split(b"\r\n") == [b"HTTP/1.1 200 OK", b"date: now", b"a: 1", b"b: 2", b"c: 3", b"content-length: 4"]
    assert body == b"body"
    assert b"\r\nconnection: close\r\n\r\n" in rendered(response, DATE, keep_alive=False)


def test_lines_that_vary_are_not_kept_and_others_only_so_many():
    constant = ((b"content-type", b"test"),)
    rendered(Response(200, constant, b""), DATE, keep_alive=True)
    kept = _constant_lines.cache_info().currsize
    for number in range(1000):
        rendered(Response(200, constant, b"", ((b"length", b"%d" % number),)), DATE, keep_alive=True)
    assert _constant_lines.cache_info().currsize == kept
    for number in range(1000):
        rendered(Response(200, ((b"other", b"%d" % number),), b""), DATE, keep_alive=True)
    assert _constant_lines.cache_info().currsize == 256
