"""Finds the `config.json` of transformers in a folder, with weights beside it."""

import json
import posixpath
from typing import Any, Final

from adapters.base import ModelFiles
from adapters.wording import failing

CONFIG: Final = "config.json"
WEIGHTS: Final = (".safetensors", ".safetensors.index.json")
PICKLED: Final = (".bin", ".pt", ".pth")
MAX_CONFIG_BYTES: Final = 4 << 20


def config_in(files: ModelFiles) -> str | None:
    """Returns the `config.json` of the folder at `path`, or beside the weights at `path`, as `kit import` names them;
    None if there are none of transformers. sentence-transformers before 2 keeps it in `0_Transformer`."""
    named = files.path in files.files and files.path.endswith((CONFIG, *WEIGHTS, *PICKLED))
    folder = posixpath.dirname(files.path) if named else files.path
    start = "" if folder in (".", "") else f"{folder}/"
    for path in (start + CONFIG, f"{start}0_Transformer/{CONFIG}"):
        beside = [f for f in files.files if f.startswith(path.removesuffix(CONFIG))]
        if path in beside and any(f.endswith((".safetensors", *PICKLED)) for f in beside) and _is_config(files, path):
            return path
    return None


def read_json(files: ModelFiles, folder: str, name: str) -> Any:
    """Returns what a file of sentence-transformers says, None if the folder has none. Raises LoadFailed."""
    path = posixpath.normpath(posixpath.join(folder, name))
    if path not in files.files:
        return None
    with failing(f"{path} is not as sentence-transformers writes it"):
        return json.loads((files.root / path).read_bytes())


def _is_config(files: ModelFiles, path: str) -> bool:
    try:
        with (files.root / path).open("rb") as file:
            found = json.loads(file.read(MAX_CONFIG_BYTES))
    except (OSError, ValueError, RecursionError):
        return False
    return isinstance(found, dict) and isinstance(found.get("model_type"), str)
