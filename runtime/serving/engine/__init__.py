"""Runs a call on a model: permits, deadline, event loop or thread. Knows no protocol and no HTTP.

May import: adapters, runtime.errors, runtime.link, runtime.serving, runtime.serving.protocol,
runtime.serving.protocol.v2.
"""
