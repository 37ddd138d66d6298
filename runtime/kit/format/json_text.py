"""JSON that two readers cannot understand differently: no repeated keys, no NaN or infinity, bounded size."""

import json
import math

from runtime.errors import BadContent

MAX_DOCUMENT_BYTES = 4 << 20  # what a registry accepts as a manifest; a Kitfile is smaller


def read_json(raw: bytes, subject: str, failure: type[BadContent], *, most_bytes: int = MAX_DOCUMENT_BYTES) -> object:
    """Parse `raw` as one JSON value (RFC 8259, UTF-8). Raises `failure`, whose line begins with `subject`."""
    if len(raw) > most_bytes:
        raise failure(f"{subject} has {len(raw)} bytes, more than the {most_bytes} that are read")
    try:
        value: object = json.loads(
            raw.decode("utf-8"), object_pairs_hook=_unique, parse_constant=_no_constant, parse_float=finite
        )
        if b"\\ud" in raw.lower():  # half a surrogate pair is no character: whoever prints it would fail
            json.dumps(value, ensure_ascii=False).encode("utf-8")
        return value
    except (ValueError, RecursionError) as problem:
        reason = "nested too deeply" if isinstance(problem, RecursionError) else str(problem)
        raise failure(f"{subject} is not JSON: {reason}") from problem


def _unique(pairs: list[tuple[str, object]]) -> dict[str, object]:
    seen: dict[str, object] = {}
    for key, value in pairs:
        if key in seen:
            raise ValueError(f"the key {key[:80]!r} occurs twice in one object")
        seen[key] = value
    return seen


def finite(text: str) -> float:
    """Give the number that `text` is. Raises ValueError where no float is that large."""
    number = float(text)
    if math.isinf(number):
        raise ValueError(f"the number {text[:40]} is too large")
    return number


def _no_constant(name: str) -> object:
    raise ValueError(f"{name} is not a JSON number")
