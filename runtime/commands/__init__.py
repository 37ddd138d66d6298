"""The commands of `runtime`, one file each. `cli.py` chooses one; each gives an exit code and lines to print.

May import: adapters, runtime.errors, runtime.exits, runtime.kit, runtime.kit.cache, runtime.kit.disk.folder,
runtime.kit.format, runtime.kit.installed, runtime.kit.unpack, runtime.library_events, runtime.link, runtime.log,
runtime.options, runtime.progress, runtime.settings, runtime.supervisor.
Imported by: runtime.
"""
