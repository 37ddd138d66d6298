"""The Open Inference Protocol V2 in JSON.

May import: adapters, runtime.errors, runtime.serving, runtime.serving.engine, runtime.serving.protocol.
"""
