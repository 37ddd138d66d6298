"""JSON that two readers cannot understand differently: no repeated keys, no NaN or infinity, bounded size.

https://www.rfc-editor.org/rfc/rfc8259
"""

import json
import math

from runtime.errors import BadContent
from runtime.kit.format.limits import MAX_DOCUMENT_BYTES


def read_object(raw: bytes, subject: str, error: type[BadContent], most: int = MAX_DOCUMENT_BYTES) -> dict[str, object]:
    """Reads `raw`, at most so many bytes, as one JSON object. Raises `error`, whose message begins with `subject`."""
    if len(raw) > most:
        raise error(f"{subject} has more than the {most} bytes that are read")
    try:
        value = json.loads(raw.decode(), object_pairs_hook=_unique, parse_constant=_no_constant, parse_float=finite)
        if b"\\ud" in raw.lower():  # a lone surrogate is valid JSON, but cannot be printed
            json.dumps(value, ensure_ascii=False).encode("utf-8")
    except (ValueError, RecursionError) as problem:
        reason = "nested too deeply" if isinstance(problem, RecursionError) else str(problem)
        raise error(f"{subject} is not JSON: {reason}") from problem
    if not isinstance(value, dict):
        raise error(f"{subject} is not a JSON object")
    return value


def _unique(pairs: list[tuple[str, object]]) -> dict[str, object]:
    seen: dict[str, object] = {}
    for key, value in pairs:
        if key in seen:
            raise ValueError(f"the key {key[:80]!r} occurs twice in one object")
        seen[key] = value
    return seen


def finite(text: str) -> float:
    """Returns `text` as a float. Raises ValueError if no float is that large."""
    number = float(text)
    if math.isinf(number):
        raise ValueError(f"the number {text[:40]} is too large")
    return number


def _no_constant(name: str) -> object:
    raise ValueError(f"{name} is not a JSON number")
