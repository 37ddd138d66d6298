"""Runs a call on a model: permits, deadline, event loop or thread. Knows no protocol and no HTTP.

May import: adapters.base, adapters.values, adapters.wording, runtime.errors, runtime.link.limits, runtime.link.meter,
runtime.serving.image_inputs, runtime.serving.wording.
Imported by: runtime.rows, runtime.serving, runtime.serving.protocol, runtime.serving.protocol.grpc,
runtime.serving.protocol.plain, runtime.serving.protocol.v2, runtime.worker.
"""
