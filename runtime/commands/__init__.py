"""The commands of `runtime`, one file each; `cli.py` is the table of them.

May import: adapters, runtime.errors, runtime.kit, runtime.kit.cache, runtime.kit.format,
runtime.kit.installed, runtime.link, runtime.log, runtime.progress, runtime.settings, runtime.worker.
"""
