"""The Open Inference Protocol V2 in JSON.

May import: adapters.base, runtime, runtime.errors, runtime.serving, runtime.serving.engine.limits,
runtime.serving.engine.request, runtime.serving.protocol.
"""
