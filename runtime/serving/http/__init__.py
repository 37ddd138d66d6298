"""HTTP/1.1 connections: limits, deadlines, the order of answers, errors as JSON, the drain.

May import: runtime.log, runtime.serving, runtime.serving.engine.
Imported by: runtime.worker.
"""
