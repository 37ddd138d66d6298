"""A reference in, a folder of verified files out. Knows nothing of serving, numpy or frameworks.

Every start waits for what `pull` imports. Plain values in there are named tuples (a frozen dataclass takes 0.3 ms to
make, six times as long, and is used if something is checked or compared otherwise); patterns are compiled when used.

May import: runtime.errors, runtime.kit.cache, runtime.kit.disk, runtime.kit.format, runtime.kit.installed,
runtime.kit.registry, runtime.kit.signature.policy, runtime.kit.unpack.
Imported by: runtime, runtime.commands, runtime.kit.cache, runtime.kit.disk, runtime.kit.installed,
runtime.kit.registry, runtime.kit.signature, runtime.kit.unpack, runtime.link, runtime.supervisor.
"""
