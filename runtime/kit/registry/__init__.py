"""Registries over HTTP: repositories, logins, retries, downloads. Nothing else of `kit` uses the network.

May import: runtime.errors, runtime.kit.files, runtime.kit.format, runtime.version.
Imported by: runtime.kit.
"""
