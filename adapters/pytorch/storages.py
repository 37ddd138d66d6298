"""What TorchScript's pickles say of their tensors' memory: torch takes a member of an archive to be as long as that."""

from io import BytesIO
from typing import Any, Final

from adapters.checks import Damaged, need
from adapters.pickles.file import Bounded, PurePython

ELEMENTS: Final = {
    "Double": 8, "Float": 4, "Half": 2, "BFloat16": 2, "Long": 8, "Int": 4, "Short": 2, "Char": 1, "Byte": 1, "Bool": 1,
    "ComplexDouble": 16, "ComplexFloat": 8, "QUInt8": 1, "QInt8": 1, "QInt32": 4, "Untyped": 1,
}  # fmt: skip
"""Bytes of an element, by the class of storages."""


class Thing:
    """Stands for whatever a pickle names or makes, and does nothing."""

    name = ""

    def __init__(self, *_: Any) -> None:
        pass

    def __setstate__(self, _: Any) -> None:
        pass

    def __setitem__(self, *_: Any) -> None:
        pass

    def append(self, _: Any) -> None:
        """Takes an element of a list."""


class Storages(PurePython):  # type: ignore[misc]  # see PurePython: untyped
    """Reads a pickle, and collects the storages that it refers to."""

    def __init__(self, data: bytes) -> None:
        super().__init__(Bounded(BytesIO(data), len(data)))
        self.found: list[tuple[str, str, int]] = []

    def find_class(self, module: str, name: str) -> Any:
        """Returns a stand-in."""
        return type(name, (Thing,), {"name": f"{module}.{name}"})

    def persistent_load(self, pid: Any) -> Any:
        """Returns a stand-in for a tensor's memory. Raises Damaged."""
        need(
            isinstance(pid, tuple) and len(pid) == 5 and pid[0] == "storage", "it refers to something that is no tensor"
        )
        _, kind, key, _, count = pid
        plain = isinstance(kind, type) and isinstance(key, str) and isinstance(count, int) and count >= 0
        need(plain, "it describes a tensor in an unusual way")
        self.found.append((kind.name, key, count))
        return Thing()


def check_storages(reader: Any, archive: str) -> None:
    """Raises Damaged unless each tensor in `archive`.pkl has its memory in a member that is that long."""
    try:
        storages = Storages(reader.get_record(f"{archive}.pkl"))
        storages.load()
    except (EOFError, LookupError, TypeError, AttributeError) as error:
        raise Damaged(f"{archive}.pkl is not whole: {error}") from error
    for kind, key, count in storages.found:
        size = ELEMENTS.get(kind.removeprefix("torch.").removesuffix("Storage"))
        need(size, f"{kind[:80]} is no memory of tensors")
        member = f"{archive}/{key}"
        held = reader.get_record_size(member) if reader.has_record(member) else -1
        need(held == count * (size or 0), f"{member} has {held} bytes and should have {count} elements of {kind}")
