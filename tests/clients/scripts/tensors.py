"""Tensors of golden requests as numpy arrays, and arrays as JSON."""

import numpy as np

TYPES = {"BOOL": "bool", "FP16": "float16", "FP32": "float32", "FP64": "float64", "BYTES": "object"}


def array(tensor):
    data = tensor["data"]
    if tensor["datatype"] == "BYTES":
        data = [text.encode() for text in data]
    name = TYPES.get(tensor["datatype"], tensor["datatype"].lower())
    return np.array(data, dtype=name).reshape(tensor["shape"])


def flat(values):
    """A flat list; text where there is some."""
    listed = np.asarray(values).reshape(-1).tolist()
    return [value.decode() if isinstance(value, bytes) else value for value in listed]
