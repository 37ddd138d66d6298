"""Serves a ModelKit: an OCI reference in, verified predictions out.

`app` and `load` are for programs (docs/library.md); everything else is private to the command `runtime`.

May import: adapters.base, adapters.imports, runtime.commands, runtime.kit.format, runtime.kit.pull, runtime.link,
runtime.serving, runtime.supervisor, runtime.worker.
Imported by: runtime.commands, runtime.kit, runtime.kit.cache, runtime.kit.disk, runtime.kit.format,
runtime.kit.installed, runtime.kit.registry, runtime.kit.signature, runtime.kit.unpack, runtime.rows, runtime.serving,
runtime.serving.engine, runtime.serving.grpc, runtime.serving.http, runtime.serving.http2, runtime.serving.protocol,
runtime.serving.protocol.grpc, runtime.serving.protocol.plain, runtime.serving.protocol.v2, runtime.serving.site,
runtime.supervisor, runtime.worker.
"""

from runtime.version import __version__

TYPE_CHECKING = False  # a worker is started before anything is imported that can wait, `typing` too
if TYPE_CHECKING:
    from runtime.library import app, load

__all__ = ["__version__", "app", "load"]


def __getattr__(name: str) -> object:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from runtime import library

    return getattr(library, name)
