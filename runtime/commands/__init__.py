"""The commands of `runtime`, one file each. `cli.py` chooses one; each gives an exit code and lines to print.

May import: adapters, runtime.errors, runtime.exits, runtime.kit, runtime.kit.cache, runtime.kit.format,
runtime.kit.installed, runtime.kit.unpack, runtime.libraries, runtime.link, runtime.log, runtime.progress,
runtime.settings, runtime.supervisor.
"""

COMMANDS = {
    "serve": "serve a kit (the default: `runtime REF` is `runtime serve REF`)",
    "pull": "fetch and verify a kit into the cache, print its digest",
    "inspect": "say what a kit is, without loading or running anything of it",
    "verify": "load a kit as serving does, and say whether it answers its author's samples",
    "unpack": "put verified kits into folders, each with a receipt that serving checks again",
    "health": "ask a running server whether it is ready",
}
"""Their names and what each does, as `--help` shows them. Nothing is imported here: a worker is started first."""
