"""A line for a shell that sends a request which a model answers.

A worker says what the request is, the supervisor writes the line: an operator may paste it, so no word of a worker
reaches the shell unquoted.
"""

import json
import shlex
from collections.abc import Mapping
from typing import Any, Final

_LONGEST: Final = 300  # characters of JSON that are still pleasant to paste
_encode: Final = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"))


def shown(request: Mapping[str, Any]) -> str:
    """Returns `request` as JSON for `curl_line`; "" if it is long."""
    text = ""
    for piece in _encode.iterencode(request):  # a request may take 10 MB: it is not written out to see that it is long
        text += piece
        if len(text) > _LONGEST:
            return ""
    return text


def curl_line(address: str, model: str, example: str) -> str:
    """Returns `curl` with the request `example` of `shown`; without one, `curl` twice: the server has one, too."""
    url = f"{address}/v2/models/{model}"
    try:
        request = json.loads(example)
        text = _encode.encode(request) if isinstance(request["inputs"], list) else ""
    except (ValueError, TypeError, KeyError, RecursionError):
        text = ""
    if not text or len(text) > _LONGEST:
        return f"curl -s {url}/example | curl -s {url}/infer -d @-"
    return f"curl -s {url}/infer -d {shlex.quote(text)}"
