"""HTTP/1.1 connections: limits, deadlines, the order of answers, errors as JSON, the drain.

May import: runtime.errors, runtime.link.limits, runtime.link.metrics, runtime.log, runtime.serving,
runtime.serving.protocol.tensor_bytes.
Imported by: runtime.worker.
"""
