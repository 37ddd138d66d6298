"""Writes `descriptor.py` from `inference.proto`: python -m tests.serving.protocol.grpc."""

import subprocess
import sys
import tempfile
from pathlib import Path

from runtime.serving.protocol import grpc as room

ROOM = Path(room.__file__).parent
_HEAD = '''\
"""The FileDescriptorProto of `inference.proto`, written by python -m tests.serving.protocol.grpc.

No `_pb2.py`: that would register the names in the pool that a whole process shares, where tritonclient and KServe's SDK
register the same ones, and whoever comes second fails.
"""

from typing import Final

FILE: Final = \
'''


def compiled() -> bytes:
    from google.protobuf.descriptor_pb2 import FileDescriptorSet
    from grpc_tools import protoc

    with tempfile.TemporaryDirectory() as folder:
        made = Path(folder, "set")
        assert protoc.main(["protoc", f"-I{ROOM}", f"--descriptor_set_out={made}", "inference.proto"]) == 0
        [file] = FileDescriptorSet.FromString(made.read_bytes()).file
    return file.SerializeToString()


def literal(data: bytes) -> str:
    """Python's text for `data`, over several lines."""
    lines, start = list[str](), 0
    while start < len(data):
        end = start + 1
        while end < len(data) and len(ascii(data[start : end + 1])) <= 114:
            end += 1
        text = ascii(data[start:end])
        lines.append("    b" + (text[1:].replace('"', '\\"') if text[1] == "'" else text[1:]))
        start = end
    return "(\n" + "\n".join(f'    b"{line[6:-1]}"' for line in lines) + "\n)\n"


def write(path: Path, text: str) -> None:
    path.write_text(text)
    subprocess.run([sys.executable, "-m", "ruff", "format", "--quiet", path], check=True)


if __name__ == "__main__":
    write(ROOM / "descriptor.py", _HEAD + literal(compiled()))
