"""A request's bytes in, a response's bytes out. Knows nothing of registries, the supervisor or the server under it.

`app` is the ASGI application, `served` one loaded model, `inference` one request, `codec_table` the table of protocols,
`statuses` the table from failures to statuses.

May import: adapters.base, adapters.imports, adapters.values, runtime.errors, runtime.link.board, runtime.link.gateway,
runtime.link.limits, runtime.link.meter, runtime.link.metrics, runtime.link.spans, runtime.link.totals, runtime.log,
runtime.serving.engine, runtime.serving.protocol, runtime.serving.protocol.plain.codec,
runtime.serving.protocol.v2.codec, runtime.serving.site, runtime.version.
Imported by: runtime, runtime.rows, runtime.serving.engine, runtime.serving.grpc, runtime.serving.http,
runtime.serving.http2, runtime.serving.protocol, runtime.serving.protocol.grpc, runtime.serving.protocol.plain,
runtime.serving.protocol.v2, runtime.serving.site, runtime.worker.
"""
