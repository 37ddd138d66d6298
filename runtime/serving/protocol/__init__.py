"""What a protocol is (`codec`), what protocols share, and a folder for each but V1. Bytes to arrays and back, pure.

May import: adapters.base, adapters.values, runtime.errors, runtime.serving, runtime.link.limits,
runtime.serving.engine.request.
Imported by: runtime.rows, runtime.serving, runtime.serving.grpc, runtime.serving.http, runtime.serving.protocol.grpc,
runtime.serving.protocol.plain, runtime.serving.protocol.v2, runtime.serving.site, runtime.worker.
"""
