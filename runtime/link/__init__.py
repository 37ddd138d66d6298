"""What the supervisor and its workers share: channel, shared memory, metrics, limits, what a kit says of its model.

May import: adapters, adapters.base, runtime.kit.format, runtime.kit.kit.
Imported by: runtime, runtime.commands, runtime.serving, runtime.serving.engine, runtime.serving.grpc,
runtime.serving.http, runtime.serving.http2, runtime.serving.protocol, runtime.serving.protocol.grpc,
runtime.serving.protocol.plain, runtime.serving.protocol.v2, runtime.supervisor, runtime.worker.
"""
