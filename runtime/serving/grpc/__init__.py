"""The gRPC server: `service` for predictions, `health` for probes, `reflection`; `server` accepts and drains.

Needs the extra `grpc`; imported by a worker that has an address for it, and by nothing else.

May import: runtime.errors, runtime.link.limits, runtime.link.new_clients, runtime.log, runtime.serving,
runtime.serving.protocol.grpc, runtime.serving.protocol.v2.codec.
Imported by: runtime.worker.
"""
