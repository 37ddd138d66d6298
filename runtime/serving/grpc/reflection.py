"""Server reflection, so that grpcurl and its like need no .proto file.

https://github.com/grpc/grpc/blob/master/doc/server-reflection.md
"""

from typing import Any, Final

from google.protobuf.descriptor_pool import DescriptorPool

from runtime.serving.grpc.bidirectional import Bidirectional
from runtime.serving.grpc.metadata import CODES, Asked
from runtime.serving.grpc.standard_services import HEALTH, REFLECTION
from runtime.serving.grpc.state import Method, Methods
from runtime.serving.protocol.grpc.descriptor import FILE
from runtime.serving.protocol.grpc.wire import field, fields, varint

NAME: Final = "grpc.reflection.v1alpha.ServerReflection"
_NAMES: Final = (NAME, "grpc.reflection.v1.ServerReflection")
"""The messages of both are the same on the wire; grpcurl asks the second one first."""
_HOST, _FILE, _SYMBOL, _LIST = 1, 3, 4, 7  # fields of ServerReflectionRequest
_ASKED, _FILES, _SERVICES, _ERROR = 2, 4, 6, 7  # and of its response


class Reflection:
    """The one method, which tells of `services`."""

    def __init__(self, services: tuple[str, ...]) -> None:
        self._services, self._pool = services, DescriptorPool()
        for file in (FILE, HEALTH, REFLECTION):
            self._pool.AddSerializedFile(file)  # type: ignore[no-untyped-call,unused-ignore]

    @property
    def methods(self) -> Methods:
        """By path."""
        return {f"/{name}/ServerReflectionInfo".encode(): Method(stream=self._tell) for name in _NAMES}

    async def _tell(self, call: Bidirectional, _: Asked) -> None:
        async for body in call.messages():
            found = {number: body[begin:end] for number, _, begin, end in fields(body) if number}
            echo = (field(_HOST, found[_HOST]) if _HOST in found else b"") + field(_ASKED, body)
            await call.send(echo + self._answer(found))

    def _answer(self, asked: dict[int, bytes]) -> bytes:
        try:
            if _LIST in asked:
                return field(_SERVICES, b"".join(field(1, field(1, name.encode())) for name in self._services))
            if _FILE in asked:
                return self._files(self._pool.FindFileByName(asked[_FILE].decode(errors="replace")))
            if _SYMBOL in asked:
                return self._files(self._pool.FindFileContainingSymbol(asked[_SYMBOL].decode(errors="replace")))
        except KeyError:
            return _error("NOT_FOUND", "unknown name")
        return _error("NOT_FOUND", "these messages have no extensions")

    def _files(self, file: Any) -> bytes:
        return field(_FILES, field(1, file.serialized_pb))


def _error(code: str, text: str) -> bytes:
    return field(_ERROR, b"\x08" + varint(CODES[code]) + field(2, text.encode()))
