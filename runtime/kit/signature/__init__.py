"""Who signed a kit: cosign's signatures of its manifest, found beside it and checked with the operator's keys.

May import: runtime.errors, runtime.kit.files, runtime.kit.format.
Imported by: runtime.kit.
"""
