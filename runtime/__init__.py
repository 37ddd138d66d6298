"""Serves a ModelKit: an OCI reference in, verified predictions out."""

__version__ = "0.1.0"
