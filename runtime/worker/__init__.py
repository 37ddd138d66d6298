"""A worker process: gives up privileges, loads the model, proves it, serves it. It holds no credentials.

May import: adapters, runtime.errors, runtime.library_events, runtime.link, runtime.log, runtime.rows.base,
runtime.rows.scoring, runtime.serving, runtime.serving.engine.trial, runtime.serving.grpc, runtime.serving.http,
runtime.serving.protocol, runtime.serving.protocol.v2.
Imported by: runtime.
"""
