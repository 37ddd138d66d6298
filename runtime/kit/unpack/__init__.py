"""One tar stream into one folder, through directory descriptors; everything but plain files and folders is refused.

May import: runtime.errors, runtime.kit.format.
"""
