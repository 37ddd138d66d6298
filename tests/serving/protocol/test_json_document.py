"""What a JSON body costs in memory is known before it is read; strings hold no structure."""

import json

import pytest

from runtime.errors import InvalidInput, TooLarge
from runtime.serving.protocol.json_document import read_document


@pytest.mark.parametrize("piece", [b"[]", b"{}", b'{"a":0}', b"0.5", b'"\\u0100"', b"[" * 60 + b"]" * 60])
def test_what_would_take_much_memory_as_objects_is_refused_before_they_are_made(piece: bytes):
    body = b'{"inputs":[' + b",".join([piece] * (100_000 // len(piece))) + b"]}"
    with pytest.raises(TooLarge, match=r"body too large: read as JSON it would take \d+ bytes, at most \d{6}; send"):
        read_document(body, 64, 100_000)
    assert read_document(body, 64)


@pytest.mark.parametrize("text", ['[{,:"\\', "\\", '"', '\\"', "a\\\\", "é,["])
def test_what_is_in_texts_takes_no_memory_as_objects_and_is_no_nesting(text: str):
    document = {"a": text * 20_000, "b": [text], "c:": [[1]]}
    assert read_document(json.dumps(document).encode(), 3, 10_000) == document
    with pytest.raises(InvalidInput, match="nesting deeper than 2"):
        read_document(json.dumps(document).encode(), 2, 10_000)
