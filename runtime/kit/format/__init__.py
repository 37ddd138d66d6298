"""The formats of OCI and KitOps as values: references, digests, manifests, Kitfiles. Pure: no file, no network.

May import: runtime.errors.
"""
