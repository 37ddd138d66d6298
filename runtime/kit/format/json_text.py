"""JSON that two readers cannot understand differently: no repeated keys, no NaN or infinity, bounded size.

https://www.rfc-editor.org/rfc/rfc8259
"""

import json
import math

from runtime.errors import BadContent
from runtime.kit.format.limits import MAX_DOCUMENT_BYTES


def read_object(
    raw: bytes, subject: str, failure: type[BadContent], *, most_bytes: int = MAX_DOCUMENT_BYTES
) -> dict[str, object]:
    """Reads `raw` as one JSON object in UTF-8. Raises `failure`, whose message begins with `subject`."""
    if len(raw) > most_bytes:
        raise failure(f"{subject} has {len(raw)} bytes, more than the {most_bytes} that are read")
    try:
        value: object = json.loads(
            raw.decode("utf-8"), object_pairs_hook=_unique, parse_constant=_no_constant, parse_float=finite
        )
        if b"\\ud" in raw.lower():  # a lone surrogate is valid JSON, but cannot be printed
            json.dumps(value, ensure_ascii=False).encode("utf-8")
    except (ValueError, RecursionError) as problem:
        reason = "nested too deeply" if isinstance(problem, RecursionError) else str(problem)
        raise failure(f"{subject} is not JSON: {reason}") from problem
    if not isinstance(value, dict):
        raise failure(f"{subject} is not a JSON object")
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
