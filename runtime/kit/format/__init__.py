"""The formats of OCI and KitOps as values: references, digests, manifests, Kitfiles. Pure: no file, no network.

May import: runtime.errors.
Imported by: runtime, runtime.commands, runtime.kit, runtime.kit.cache, runtime.kit.disk, runtime.kit.installed,
runtime.kit.registry, runtime.kit.signature, runtime.kit.unpack, runtime.link, runtime.supervisor.
"""
