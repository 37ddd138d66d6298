"""What a person would try first: rows, columns, CSV, a NumPy file, an image, a text, a form
or Arrow in; rows of named values or CSV out.

May import: adapters.base, adapters.values, runtime.errors, runtime.link.limits, runtime.serving,
runtime.serving.engine.request, runtime.serving.protocol.
Imported by: runtime.rows, runtime.serving.
"""
