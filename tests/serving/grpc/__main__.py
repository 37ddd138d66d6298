"""Writes `standard_services.py` from grpcio's packages: python -m tests.serving.grpc."""

from pathlib import Path

from grpc_health.v1 import health_pb2
from grpc_reflection.v1alpha import reflection_pb2

from runtime.serving import grpc as room
from tests.serving.protocol.grpc.__main__ import literal, write

_HEAD = '''\
"""The FileDescriptorProtos of the standard services, for reflection: those of grpcio-health-checking and
grpcio-reflection, written by python -m tests.serving.grpc."""

from typing import Final
'''


def text() -> str:
    files = {"HEALTH": health_pb2.DESCRIPTOR, "REFLECTION": reflection_pb2.DESCRIPTOR}
    return _HEAD + "".join(f"\n{name}: Final = {literal(file.serialized_pb)}" for name, file in files.items())


if __name__ == "__main__":
    write(Path(room.__file__).parent / "standard_services.py", text())
