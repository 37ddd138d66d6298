"""Registries over HTTP: repositories, logins, retries, downloads. The only room that uses the network.

May import: runtime.errors, runtime.kit.files, runtime.kit.format, runtime.version.
Imported by: runtime.kit.
"""
