"""The Open Inference Protocol V2 over gRPC: the bytes of a message to named arrays and back, pure.

`inference.proto` says what the messages are; needs protobuf, of the extra `grpc`.

May import: adapters.base, adapters.values, runtime.errors, runtime.link.limits, runtime.serving,
runtime.serving.engine.request, runtime.serving.protocol.
Imported by: runtime.serving.grpc.
"""
