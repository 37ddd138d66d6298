"""An Arrow IPC stream → a model's inputs: its columns by name, as those of any table. Needs the extra `arrow`.

https://arrow.apache.org/docs/format/Columnar.html#ipc-streaming-format
"""

import struct
from collections.abc import Mapping
from typing import Any, Final

import numpy as np

from adapters.base import TensorSpec
from adapters.values import DATATYPE, Array, Arrays
from runtime.errors import InputAtFault, InvalidInput, UnsupportedMedia
from runtime.link.limits import Limits
from runtime.serving.engine.request import Signature
from runtime.serving.protocol.exact import check_kinds, converted
from runtime.serving.protocol.json_elements import count_of, fitted
from runtime.serving.protocol.rows import columns_of, complete, matrix_of
from runtime.serving.wording import shown

_BROKEN: Final = "the body is no Arrow IPC stream, or is broken"
_HEADER_FIELD: Final = 2
_COMPRESSION_FIELD: Final = 3


def read_arrow(body: bytes, signature: Signature, properties: Mapping[str, str], limits: Limits) -> Arrays:
    """Returns the inputs in `body`. Raises InvalidInput, InputAtFault where they do not fit, UnsupportedMedia."""
    table = _table(body)
    names = table.column_names
    if len(set(names)) < len(names):
        raise InputAtFault("the Arrow table has a column twice")
    matrix = columns_of(signature, names)
    only = signature.only if len(names) == 1 else None
    columns: Arrays = {}
    for name in names:
        spec = matrix[name] if matrix else only or signature.input(name)
        columns[spec.name] = _fitting(spec, _values(name, table.column(name).combine_chunks()), limits)
    if matrix and signature.only:
        columns = matrix_of(columns, signature.only, properties)
    return complete(columns, signature)


def _table(body: bytes) -> Any:
    """Returns the table in `body`, whose columns lie in the body itself: nothing of it is inflated or followed."""
    try:
        import pyarrow
        from pyarrow import ipc
    except ModuleNotFoundError:
        raise UnsupportedMedia("this server reads no Arrow; its operator can install the extra `arrow`") from None
    buffer = pyarrow.py_buffer(body)
    try:
        for message in ipc.MessageReader.open_stream(buffer):
            if message.type == "dictionary":
                raise InvalidInput("the Arrow stream has dictionary-encoded columns; send them decoded")
            if message.type == "record batch" and _is_compressed(message.metadata.to_pybytes()):
                raise InvalidInput("the Arrow stream is compressed; send it plain, or the whole body as gzip")
        table = ipc.open_stream(buffer, options=ipc.IpcReadOptions(use_threads=False)).read_all()
        table.validate(full=True)
    except (pyarrow.ArrowException, OSError, struct.error, ValueError) as error:
        raise InvalidInput(_BROKEN) from error
    return table


def _is_compressed(metadata: bytes) -> bool:
    """True if a record batch says how its buffers are compressed: each would say itself how much memory it wants.

    https://github.com/apache/arrow/blob/main/format/Message.fbs, laid out as https://flatbuffers.dev/internals/ says
    """
    (root,) = struct.unpack_from("<I", metadata)
    header = _field(metadata, root, _HEADER_FIELD)
    (batch,) = struct.unpack_from("<I", metadata, header)
    return _field(metadata, header + batch, _COMPRESSION_FIELD) > 0


def _field(metadata: bytes, table: int, number: int) -> int:
    """Returns where a field of a table is, 0 if it is not there."""
    (back,) = struct.unpack_from("<i", metadata, table)
    (size,) = struct.unpack_from("<H", metadata, table - back)
    at = 4 + 2 * number
    (offset,) = struct.unpack_from("<H", metadata, table - back + at) if at < size else (0,)
    return table + offset if offset else 0


def _values(name: str, column: Any) -> Array:
    """Returns the values of a column, `[rows]`, or `[rows, width]` of lists of one length. NaN stands for null."""
    from pyarrow import types

    kind = column.type
    if types.is_fixed_size_list(kind) and not column.null_count:
        inner = _values(name, column.flatten())
        return inner.reshape(len(column), kind.list_size, *inner.shape[1:])
    texts_of = (types.is_string, types.is_large_string, types.is_binary, types.is_large_binary)
    is_text = any(is_one(kind) for is_one in texts_of)
    if not (is_text or types.is_boolean(kind) or types.is_integer(kind) or types.is_floating(kind)):
        taken = "numbers, booleans, texts, or fixed-size lists of numbers"
        raise InputAtFault(f"column {shown(name)} is of type {shown(str(kind))}; wanted {taken}")
    if column.null_count and not types.is_floating(kind):
        raise InputAtFault(f"column {shown(name)} has a null, which only floating-point columns may")
    if not is_text:
        return np.ascontiguousarray(column.to_numpy(zero_copy_only=False))
    texts = np.empty(len(column), np.object_)
    texts[:] = [value.encode() if type(value) is str else value for value in column.to_pylist()]
    return texts


def _fitting(spec: TensorSpec, array: Array, limits: Limits) -> Array:
    check_kinds(spec, datatype := DATATYPE[array.dtype])
    shape = list(array.shape)
    count_of(spec, shape, limits)
    flat = array.reshape(-1)
    return (flat if datatype == spec.datatype else converted(spec, datatype, flat)).reshape(fitted(spec, shape))
