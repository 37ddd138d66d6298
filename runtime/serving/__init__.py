"""A request's bytes in, a response's bytes out. Knows nothing of registries, the supervisor or the server under it.

May import: runtime.errors, runtime.link, runtime.serving.engine, runtime.serving.protocol,
runtime.serving.protocol.v2.
"""
