"""Layers into one folder, through directory descriptors: everything but plain files and folders is refused.

May import: runtime.errors, runtime.kit.files, runtime.kit.format, runtime.kit.lane.
Imported by: runtime.commands, runtime.kit, runtime.kit.disk, runtime.kit.installed.
"""
