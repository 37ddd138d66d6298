"""Requests in both forms, and answers taken apart, for tests."""

from __future__ import annotations

import json
import struct
from math import isfinite, isnan
from typing import Any

import numpy as np

from adapters.values import DTYPES
from runtime.serving.statuses import Response

HEADER = "inference-header-content-length"


def raw(array: Any) -> bytes:
    """The bytes of a tensor, written the simplest way there is."""
    if array.dtype != np.object_:
        return array.tobytes()
    return b"".join(struct.pack("<I", len(value)) + value for value in array.reshape(-1).tolist())


def tensor(name: str, datatype: str, array: Any, *, binary: bool, **parameters: Any) -> dict[str, Any]:
    """The tensor as a request has it; its bytes are to follow if it is binary."""
    made = {"name": name, "datatype": datatype, "shape": list(array.shape)}
    if binary:
        return {**made, "parameters": {"binary_data_size": len(raw(array)), **parameters}}
    return {
        **made,
        "data": list(map(element, array.reshape(-1).tolist())),
        **({"parameters": parameters} if parameters else {}),
    }


def element(value: Any) -> Any:
    """The value as JSON has it: no NaN, and infinities by their names."""
    if isinstance(value, bytes):
        return value.decode()
    if not isinstance(value, float) or isfinite(value):
        return value
    return None if isnan(value) else "Infinity" if value > 0 else "-Infinity"


def framed(document: Any, *tensors: bytes) -> tuple[dict[str, str], bytes]:
    """Headers and body of a request with binary tensors."""
    text = json.dumps(document).encode()
    return {HEADER: str(len(text))}, b"".join((text, *tensors))


def outputs(answer: Response) -> dict[str, Any]:
    """The outputs of an answer by name, as arrays."""
    headers, body = dict((*answer.headers, *answer.variable)), b"".join((answer.body, *answer.tail))
    length = headers.get(HEADER.encode())
    document = json.loads(body if length is None else body[: int(length)])
    rest, found = b"" if length is None else body[int(length) :], {}
    for output in document["outputs"]:
        size, dtype = output.get("parameters", {}).get("binary_data_size"), DTYPES[output["datatype"]]
        if size is None:
            flat = json_array(output["data"], dtype)
        else:
            flat, rest = strings(rest[:size]) if dtype == np.object_ else np.frombuffer(rest[:size], dtype), rest[size:]
        found[output["name"]] = flat.reshape(output["shape"])
    assert not rest
    return found


def json_array(data: list[Any], dtype: Any) -> Any:
    if dtype != np.object_:
        return np.array([float(value) if isinstance(value, str) else value for value in data], dtype)
    return objects([value.encode() for value in data])


def strings(data: bytes) -> Any:
    found = []
    while data:
        size = 4 + int.from_bytes(data[:4], "little")
        found.append(data[4:size])
        data = data[size:]
    return objects(found)


def objects(values: list[bytes]) -> Any:
    array = np.empty(len(values), np.object_)
    array[:] = values
    return array
