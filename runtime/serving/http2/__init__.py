"""HTTP/2 connections (RFC 9113) as far as gRPC needs them: frames, header compression, windows, limits, GOAWAY.

May import: runtime.link.limits, runtime.link.metrics, runtime.log, runtime.serving.
Imported by: runtime.serving.grpc.
"""
