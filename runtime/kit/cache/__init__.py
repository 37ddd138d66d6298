"""The cache of verified blobs and unpacked kits. What it holds is checked again before it is used.

May import: runtime.errors, runtime.kit.files, runtime.kit.format, runtime.kit.lane.
Imported by: runtime.commands, runtime.kit.
"""
