"""A line for a shell that sends a request which a model answers.

A worker says what the request is, the supervisor writes the line: an operator may paste it, so no word of a worker
reaches the shell unquoted, and the only code in it is ours.
"""

import json
import shlex
from collections.abc import Mapping, Sequence
from typing import Any, Final

_LONGEST: Final = 1500  # characters of JSON that are still pleasant to paste
_REPEATED: Final = "repeated"
_encode: Final = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"))


def shown(request: Mapping[str, Any]) -> str:
    """Returns `request` as JSON for `curl_line`: tensors of one value are shortened where needed; "" if still long."""
    inputs = [{**tensor, "data": _repeated(tensor["data"])} for tensor in request["inputs"]]
    return _short_json(request) or _short_json({**request, "inputs": inputs})


def curl_line(address: str, model: str, example: str) -> str:
    """Returns `curl` with the request `example` of `shown`; without one, `curl` for what the model wants."""
    url = f"{address}/v2/models/{model}"
    try:
        request = json.loads(example)
        inputs = [{**tensor, "data": _Data(tensor["data"])} for tensor in request["inputs"]]
        script = repr({**request, "inputs": inputs})
    except (ValueError, TypeError, KeyError, OverflowError, RecursionError):
        return f"curl -s {url}"
    if _REPEATED not in example:
        return f"curl -s {url}/infer -d {shlex.quote(_encode.encode(request))}"
    return f"python3 -c {shlex.quote(f'import json; print(json.dumps({script}))')} | curl -s {url}/infer -d @-"


def _short_json(value: object) -> str:
    text = ""
    for piece in _encode.iterencode(value):  # a request may take 10 MB: it is not written out to see that it is long
        text += piece
        if len(text) > _LONGEST:
            return ""
    return text


def _repeated(data: Sequence[Any]) -> object:
    same = len(data) > 1 and data.count(data[0]) == len(data)
    return {_REPEATED: data[0], "times": len(data)} if same else data


class _Data:
    """Data as Python code shows it: what is repeated, as one element times its number."""

    def __init__(self, data: Any) -> None:
        self._data = data

    def __repr__(self) -> str:
        if not isinstance(self._data, dict):
            return repr(self._data)
        return f"[{self._data[_REPEATED]!r}] * {int(self._data['times'])}"
