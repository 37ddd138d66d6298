"""HTTP/1.1 connections on uvicorn's protocol class: limits, deadlines, errors as JSON, the drain.

May import: runtime.serving, runtime.serving.engine.
"""
