"""A line for a shell that sends a request which this model answers."""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping, Sequence
from typing import Any, Final

_LONGEST_BODY: Final = 1500
"""Characters of JSON that are still pleasant to paste."""
_ADDRESS: Final = "{address}"


def curl_line(name: str, request: Mapping[str, Any]) -> str:
    """`curl` with the request, to the model `name` on `{address}`; long tensors are written as what makes them."""
    url = f"{_ADDRESS}/v2/models/{name}/infer"
    body = json.dumps(request, ensure_ascii=False, separators=(",", ":"))
    if len(body) <= _LONGEST_BODY:
        return f"curl -s {url} -d {shlex.quote(body)}"
    inputs = [{**tensor, "data": _Repeated(tensor["data"])} for tensor in request["inputs"]]
    script = f"import json; print(json.dumps({ {**request, 'inputs': inputs} }))"
    return f"python3 -c {shlex.quote(script)} | curl -s {url} -d @-"


class _Repeated:
    """A list that Python code shows as one element times its length, where they are all the same."""

    def __init__(self, data: Sequence[Any]) -> None:
        self._data = list(data)

    def __repr__(self) -> str:
        same = len(self._data) > 1 and self._data.count(self._data[0]) == len(self._data)
        return f"[{self._data[0]!r}]*{len(self._data)}" if same else repr(self._data)
