"""What a person finds who opens the server: where everything is, its OpenAPI document, Swagger UI's files to show it.

Imported with the first request for one of these: no start waits for it.

May import: runtime.serving, runtime.serving.protocol, runtime.version.
Imported by: runtime.serving.
"""
