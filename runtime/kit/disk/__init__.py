"""Kits that lie on this machine's disk: Kit's own store, OCI layouts, archives, plain folders.

May import: runtime.errors, runtime.kit.files, runtime.kit.format, runtime.kit.lane, runtime.kit.unpack.
Imported by: runtime.commands, runtime.kit.
"""
