"""How files are mutated: as bytes, as pickle opcodes, as trees of plain values, as members of an archive."""

from __future__ import annotations

import io
import json
import pickle
import pickletools
import re
import struct
import zipfile
from collections.abc import Callable, Iterator
from random import Random
from typing import Any, Final

import numpy as np

TELLING: Final = (".json", ".py", ".pkl")
"""Members of archives that say what is done with the others."""
Mutator = Callable[[bytes, Random], bytes]
NUMBERS: Final = (
    0, 1, -1, 2, 3, 7, 8, 31, 32, 63, 64, 127, 128, 255, 256, 1000, 32767, 65535, 65536, 10**6, 2**31 - 1, -(2**31), 2**31, 2**32,
    2**40, 2**63 - 1, -(2**63),
)  # fmt: skip
FLOATS: Final = (0.0, -1.0, 0.5, 1e300, -1e300, 1e-300, float("nan"), float("inf"), float("-inf"))


def number(rng: Random, old: int = 0) -> int:
    return rng.choice((rng.choice(NUMBERS), old + rng.choice((-2, -1, 1, 2)), old * 2, ~old, rng.randrange(64)))


def raw(data: bytes, rng: Random) -> bytes:
    """Changes bytes wherever they are: an array's elements, lengths, names."""
    made = bytearray(data)
    for _ in range(rng.choice((1, 1, 2, 4, 16))):
        if not made:
            break
        at = rng.randrange(len(made))
        kind = rng.randrange(6)
        if kind == 0:
            made[at] ^= 1 << rng.randrange(8)
        elif kind == 1:
            made[at] = rng.randrange(256)
        elif kind < 4:
            size = rng.choice("bhiq")
            value = number(rng) & (256 ** struct.calcsize(size) - 1)
            made[at : at + struct.calcsize(size)] = value.to_bytes(struct.calcsize(size), rng.choice(("little", "big")))
        elif kind == 4:
            made[at : at + 8] = struct.pack(rng.choice(("<d", ">d")), rng.choice(FLOATS))
        else:
            length = rng.randrange(1, 33)
            made[at : at + length] = made[rng.randrange(len(made)) :][:length]
    if rng.random() < 0.05:
        del made[rng.randrange(len(made) or 1) :]
    return bytes(made)


def _counted(kind: str, size: str, data: bytes) -> bytes:
    return kind.encode("latin1") + struct.pack(size, len(data)) + data


def opcodes(data: bytes, rng: Random) -> bytes:
    """Changes what opcodes of a pickle hold: numbers, texts, the bytes of arrays, which object stands in a place."""
    found = [[op.name, arg, at] for op, arg, at in pickletools.genops(data)]
    ends = [at for _, _, at in found[1:]] + [len(data)]
    parts = [data[at:end] for (_, _, at), end in zip(found, ends, strict=True)]
    can = [i for i, (name, _, _) in enumerate(found) if name in CHANGES]
    memo = [arg for name, arg, _ in found if name in ("BINGET", "LONG_BINGET")]
    for i in rng.choices(can, k=rng.choice((1, 1, 1, 2, 3))):
        parts[i] = CHANGES[found[i][0]](found[i][1], rng, memo)
    return b"".join(part for part, (name, _, _) in zip(parts, found, strict=True) if name != "FRAME")


def _number(old: Any, rng: Random, _memo: Any) -> bytes:
    value = number(rng, int(old or 0))  # NEWTRUE has no argument
    if -(2**31) <= value < 2**31:
        return b"J" + struct.pack("<i", value)
    return _counted("\x8a", "<B", value.to_bytes(value.bit_length() // 8 + 1, "little", signed=True))


def _float(_old: Any, rng: Random, _memo: Any) -> bytes:
    return b"G" + struct.pack(">d", rng.choice(FLOATS))


def _bytes(old: bytes, rng: Random, _memo: Any) -> bytes:
    made = raw(old, rng)
    return _counted("B", "<I", made)


def _text(old: str, rng: Random, _memo: Any) -> bytes:
    made = rng.choice((old[:-1], old + "x", "", "<f4", "<i8", "O8", "V8", "minkowski", "linear", old[::-1]))
    return _counted("X", "<I", made.encode("utf-8", "surrogatepass"))


def _another(_old: Any, rng: Random, memo: list[int]) -> bytes:
    known = memo or [0]
    object_ = b"j" + struct.pack("<I", rng.choice((rng.choice(known), rng.randrange(max(known) + 1))))
    return rng.choice((object_, object_, b"N", b"\x88", b")", b"]", b"}", b"K\x03"))


CHANGES: Final[dict[str, Callable[[Any, Random, list[int]], bytes]]] = {
    **dict.fromkeys(("BININT", "BININT1", "BININT2", "LONG1", "NEWTRUE", "NEWFALSE"), _number),
    "BINFLOAT": _float,
    **dict.fromkeys(("BINBYTES", "SHORT_BINBYTES"), _bytes),
    **dict.fromkeys(("BINUNICODE", "SHORT_BINUNICODE"), _text),
    **dict.fromkeys(("BINGET", "LONG_BINGET", "NONE", "EMPTY_TUPLE", "EMPTY_LIST"), _another),
}


def objects(data: bytes, rng: Random) -> bytes:
    """Changes one array or number that an object of a pickle holds, to one that those beside it do not expect."""
    root = pickle.loads(data)
    holders = list(_holders(root))
    for _ in range(rng.choice((1, 1, 1, 2))):
        at, key = rng.choice(holders)
        at[key] = _other(at[key], rng)
    return pickle.dumps(root, 4)


def _holders(root: Any) -> Iterator[tuple[Any, Any]]:
    stack, seen = [root], set[int]()
    while stack:
        thing = stack.pop()
        if id(thing) in seen:
            continue
        seen.add(id(thing))
        if isinstance(thing, np.ndarray):
            stack += thing.ravel().tolist() if thing.dtype.hasobject else []
            continue
        inside = thing if isinstance(thing, dict | list) else getattr(thing, "__dict__", None)
        stack += thing if isinstance(thing, tuple) else ()
        for key, value in inside.items() if isinstance(inside, dict) else enumerate(inside or ()):
            stack.append(value)
            if isinstance(value, np.ndarray | int | float):
                yield inside, key


def _other(old: Any, rng: Random) -> Any:
    if not isinstance(old, np.ndarray):
        return number(rng, int(old)) if isinstance(old, int) else rng.choice(FLOATS)
    if not old.ndim or not old.size:
        return np.zeros(rng.choice((0, 1, 3)), old.dtype)
    axis = rng.randrange(old.ndim)
    which = rng.randrange(7)
    if which == 0:
        return np.take(old, range(rng.randrange(old.shape[axis])), axis)
    if which == 1:
        return np.concatenate([old, old], axis)
    if which == 2:
        return np.ascontiguousarray(old.T)
    if which == 3:
        return old[0]
    if which == 4 and not old.dtype.hasobject and old.dtype.names is None and old.dtype.kind not in "SU":
        return old.astype(rng.choice(("<f4", "<f8", "<i4", "<i8", "u1", ">f8")))
    made = old.copy(order="F" if which == 5 else "C")
    if old.dtype.kind in "iu":
        made.flat[rng.randrange(old.size)] = rng.choice(
            (0, 1, -1, 2, 7, 64, 127, old.max() + 1, old.max() * 2 + 1, 100)
        )
    elif old.dtype.kind == "f":
        made.flat[rng.randrange(old.size)] = rng.choice(FLOATS)
    return made


def _places(tree: Any) -> Iterator[tuple[Any, Any]]:
    stack = [tree]
    while stack:
        thing = stack.pop()
        for key, value in list(thing.items() if isinstance(thing, dict) else enumerate(thing)):
            yield thing, key
            if isinstance(value, dict | list):
                stack.append(value)


def tree(plain: Any, rng: Random) -> Any:
    """Changes plain values in lists and objects."""
    places = list(_places(plain))
    for _ in range(rng.choice((1, 1, 2, 3))):
        at, key = rng.choice(places)
        if (isinstance(at, list) and key >= len(at)) or (isinstance(at, dict) and key not in at):
            continue
        at[key] = _changed(at[key], rng, places)
        if rng.random() < 0.1:
            del at[key]
    return plain


def _changed(old: Any, rng: Random, places: list[tuple[Any, Any]]) -> Any:
    if isinstance(old, list) and old:
        which = rng.randrange(5)
        i = rng.randrange(len(old))
        if which == 0:
            return old[:i]
        if which == 1:
            return [*old, *old[:i]]
        if which == 2:
            return old[::-1]
        return [*old[:i], _changed(old[i], rng, places), *old[i + 1 :]]
    if isinstance(old, bool):
        return not old
    if isinstance(old, int):
        return number(rng, old)
    if isinstance(old, float):
        return rng.choice(FLOATS[:6])
    if isinstance(old, str) and re.fullmatch(r"-?\d+", old):
        return str(number(rng, int(old)))
    if isinstance(old, str):
        at, key = rng.choice(places)
        other = at[key] if (isinstance(at, dict) and key in at) else old
        return other if isinstance(other, str) and rng.random() < 0.7 else old[:-1]
    return rng.choice((None, 0, -1, [], {}, "x"))


def json_text(data: bytes, rng: Random) -> bytes:
    return json.dumps(tree(json.loads(data), rng)).encode()


def tokens(data: bytes, rng: Random) -> bytes:
    """Changes numbers in a text, and lengths that it says of itself where it says any (`tree_sizes`)."""
    parts = re.split(r"(-?\d+(?:\.\d+)?(?:e[-+]?\d+)?)", data.decode())
    if len(parts) == 1:
        return raw(data, rng)
    for _ in range(rng.choice((1, 1, 2, 3))):
        i = rng.randrange(1, len(parts), 2)
        parts[i] = (
            str(number(rng, int(parts[i]) if parts[i].isdigit() else 0))
            if rng.random() < 0.8
            else rng.choice(("nan", "1e300", "", "1 2"))
        )
    text = "".join(parts)
    if rng.random() < 0.7:
        blocks = re.split(r"(?=^Tree=)|(?=^end of trees)", text, flags=re.MULTILINE)
        sizes = " ".join(str(len(b)) for b in blocks if b.startswith("Tree="))
        text = re.sub(r"^tree_sizes=.*$", f"tree_sizes={sizes}", text, count=1, flags=re.MULTILINE)
    return text.encode()


def member(change: Callable[[str, bytes, Random], bytes]) -> Mutator:
    """Returns the mutator of one member of a zip archive."""

    def mutate(data: bytes, rng: Random) -> bytes:
        made = io.BytesIO()
        with zipfile.ZipFile(io.BytesIO(data)) as old, zipfile.ZipFile(made, "w") as new:
            names = old.namelist()
            chosen = rng.choices(names, [8 if name.endswith(TELLING) else 1 for name in names])[0]
            for name in names:
                new.writestr(name, change(name, old.read(name), rng) if name == chosen else old.read(name))
        return made.getvalue()

    return mutate
