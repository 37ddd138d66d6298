"""The names of the commands and what each does, as `--help` shows them. Imports nothing: a worker is started first."""

COMMANDS = {
    "serve": "serve a kit (the default: `runtime REF` is `runtime serve REF`)",
    "pull": "fetch and verify a kit into the cache, print its digest",
    "inspect": "say what a kit is, without loading or running anything of it",
    "verify": "load a kit as serving does, and say whether it answers its author's samples",
    "predict": "predict every row of a file, without a server",
    "unpack": "put verified kits into folders, each with a receipt that serving checks again",
    "schema": "print the JSON schema of a Kitfile, with what serving reads of it",
    "cache": "list what the cache holds (ls), check it (verify), or remove what no kit needs (gc)",
    "health": "ask a running server whether it is ready",
}
