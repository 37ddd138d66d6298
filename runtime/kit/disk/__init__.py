"""Kits that lie on this machine's disk: OCI layouts, archives, plain folders.

May import: runtime.errors, runtime.kit.format, runtime.kit.installed, runtime.kit.unpack.
"""
