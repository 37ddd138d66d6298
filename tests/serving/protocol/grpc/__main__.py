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

FILE: Final = (
'''


def compiled() -> bytes:
    from google.protobuf.descriptor_pb2 import FileDescriptorSet
    from grpc_tools import protoc

    with tempfile.TemporaryDirectory() as folder:
        made = Path(folder, "set")
        assert protoc.main(["protoc", f"-I{ROOM}", f"--descriptor_set_out={made}", "inference.proto"]) == 0
        [file] = FileDescriptorSet.FromString(made.read_bytes()).file
    return file.SerializeToString()


def main() -> None:
    data, lines, start = compiled(), [], 0
    while start < len(data):
        end = start + 1
        while end < len(data) and len(ascii(data[start : end + 1])) <= 114:
            end += 1
        text = ascii(data[start:end])
        lines.append("    b" + (text[1:].replace('"', '\\"') if text[1] == "'" else text[1:]))
        start = end
    lines = [f'    b"{line[6:-1]}"' for line in lines]
    written = ROOM / "descriptor.py"
    written.write_text(_HEAD + "\n".join(lines) + "\n)\n")
    subprocess.run([sys.executable, "-m", "ruff", "format", "--quiet", written], check=True)


if __name__ == "__main__":
    main()
