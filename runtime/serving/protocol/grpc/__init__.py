"""The Open Inference Protocol V2 over gRPC.

May import: adapters.
Imported by: x.
"""
