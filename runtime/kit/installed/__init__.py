"""Kits that `runtime unpack` put into a folder of the user's: the receipt, and the check against it.

May import: runtime.errors, runtime.kit.files, runtime.kit.format, runtime.kit.unpack.
Imported by: runtime.commands, runtime.kit.
"""
