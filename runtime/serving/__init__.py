"""The serving wing: a request's bytes in, a response's bytes out. Knows nothing of registries or the supervisor."""
