"""Files of rows → predictions in the same form, in blocks: what `runtime predict` does beside loading the model.

May import: adapters, runtime.errors, runtime.log, runtime.serving.engine.request, runtime.serving.protocol.plain.body,
runtime.serving.protocol.plain.codec, runtime.serving.protocol.plain.csv_text, runtime.serving.protocol.rows,
runtime.serving.served, runtime.serving.wording.
Imported by: runtime.worker.
"""
