from __future__ import annotations

from runtime.serving.protocol.grpc.descriptor import FILE
from tests.serving.protocol.grpc.__main__ import compiled


def test_the_descriptor_is_that_of_the_proto_file():
    assert compiled() == FILE, "python -m tests.serving.protocol.grpc writes it"
