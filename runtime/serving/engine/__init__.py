"""Runs a call on a model: permits, deadline, event loop or thread. Knows no protocol and no HTTP.

May import: adapters.base, adapters.values, adapters.wording, runtime.errors, runtime.serving.wording.
Imported by: runtime, runtime.serving, runtime.serving.http, runtime.serving.protocol, runtime.serving.protocol.v2,
runtime.worker.
"""
