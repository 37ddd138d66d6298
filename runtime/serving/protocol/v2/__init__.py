"""The Open Inference Protocol V2 over HTTP: JSON, and binary tensors behind it.

May import: adapters.base, adapters.values, runtime.errors, runtime.serving, runtime.link.limits,
runtime.serving.engine.request, runtime.serving.protocol, runtime.version.
Imported by: runtime.serving, runtime.serving.grpc, runtime.worker.
"""
