"""What a worker tells its supervisor about a model that it cannot load: the name of an error, and one line."""

import re
from typing import Final

from adapters.base import AdapterError, LoadFailed
from runtime.errors import Failure
from runtime.link.messages import Failed
from runtime.log import causes

_OUT_OF_MEMORY: Final = re.compile(
    r"(?i)std::bad_alloc|bad allocation|DefaultCPUAllocator|(cannot|unable to|failed to) allocate memory|out of memory"
)  # how C++ says so, through onnxruntime, PyTorch, XGBoost and others; with numpy it is a MemoryError


def failed(model: str, error: Exception) -> Failed:
    """Returns the message that says why `model` cannot be loaded."""
    kind, line = type(error).__name__, str(error)
    if any(isinstance(each, MemoryError) or _OUT_OF_MEMORY.search(str(each)) for each in causes(error)):
        said = "" if kind == "MemoryError" and not line else f" ({line})"
        line = f"the model does not fit into memory{said}; give the process more, or serve a smaller model"
        return Failed.of(model, LoadFailed(), line)
    if isinstance(error, AdapterError | Failure):
        return Failed.of(model, error, line)
    reason = f"the runtime failed while loading the model: {kind}: {line}; --log-level debug says more"
    return Failed.of(model, error, reason)
