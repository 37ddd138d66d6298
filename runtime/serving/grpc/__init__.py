"""The gRPC server on HTTP/2 connections: `unary` and `bidirectional` calls; the services `service` for predictions,
`health` for probes, and `reflection`.

Imported by a worker that has a socket for it, and by nothing else; protobuf, with the first call that needs it.

May import: runtime.errors, runtime.link.limits, runtime.link.metrics, runtime.log, runtime.serving,
runtime.serving.http2.connection, runtime.serving.http2.frames, runtime.serving.http2.hpack,
runtime.serving.http2.output, runtime.serving.http2.state, runtime.serving.http2.stream, runtime.serving.protocol.codec,
runtime.serving.protocol.grpc, runtime.serving.protocol.v2.codec.
Imported by: runtime.worker.
"""
