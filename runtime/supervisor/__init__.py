"""The parent process: the listening sockets, the pull, the life of the workers. It parses no byte of a model.

May import: adapters, adapters.base, runtime.errors, runtime.exits, runtime.kit, runtime.kit.format,
runtime.library_events, runtime.link, runtime.log, runtime.progress, runtime.settings, runtime.version.
Imported by: runtime, runtime.commands.
"""
