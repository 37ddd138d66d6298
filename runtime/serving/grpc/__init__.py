"""The gRPC door.

May import: adapters.
Imported by: x.
"""
