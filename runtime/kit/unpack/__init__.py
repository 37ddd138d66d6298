"""Layers into one folder, through directory descriptors: everything but plain files and folders is refused.

May import: runtime.errors, runtime.kit.files, runtime.kit.format.
"""
