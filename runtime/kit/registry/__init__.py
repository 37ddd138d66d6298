"""Registries over HTTP: repositories, logins, retries, downloads. The only room that uses the network.

May import: runtime, runtime.errors, runtime.kit.files, runtime.kit.format.
"""
