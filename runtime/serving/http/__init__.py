"""HTTP/1.1 connections: limits, deadlines, the order of answers, errors as JSON, the drain.

May import: runtime.link.limits, runtime.log, runtime.serving.
Imported by: runtime.worker.
"""
