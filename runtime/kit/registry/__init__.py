"""Registries over HTTP: repositories, logins, retries. The only room that uses the network.

May import: runtime, runtime.errors, runtime.kit, runtime.kit.cache, runtime.kit.format.
"""
