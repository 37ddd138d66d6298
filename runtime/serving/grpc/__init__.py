"""The gRPC server: `service` for predictions, `health` for probes, `reflection`; `server` accepts and drains.

Needs the extra `grpc`; imported by a worker that has an address for it, and by nothing else.

May import: runtime.errors, runtime.link.limits, runtime.log, runtime.serving, runtime.serving.http2.connection,
runtime.serving.http2.hpack, runtime.serving.http2.output, runtime.serving.http2.state, runtime.serving.http2.stream,
runtime.serving.protocol.codec, runtime.serving.protocol.grpc, runtime.serving.protocol.v2.codec.
Imported by: runtime.worker.
"""
