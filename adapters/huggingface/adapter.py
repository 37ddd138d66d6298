"""The adapter of Hugging Face folders: `config.json`, weights and a tokenizer, as `save_pretrained` writes them."""

import json
from typing import Final

from adapters.base import Adapter, Model, ModelFiles, Options
from adapters.imports import framework

CONFIG: Final = "config.json"
PICKLED: Final = (".bin", ".pt", ".pth")
MAX_CONFIG_BYTES: Final = 4 << 20


def load(files: ModelFiles, options: Options) -> Model:
    """Returns the model of the folder. Raises LoadFailed, Refused, MissingFramework."""
    framework("torch", "transformers")
    from adapters.huggingface import loading

    return loading.load_folder(files, options)


def folder(files: ModelFiles) -> str | None:
    """Returns the `config.json` of a folder with weights of transformers; None if there is none.
    sentence-transformers before 2 keeps it in `0_Transformer`."""
    start = "" if files.path in (".", CONFIG) else files.path.removesuffix(f"/{CONFIG}") + "/"
    for path in (start + CONFIG, f"{start}0_Transformer/{CONFIG}"):
        beside = [f for f in files.files if f.startswith(path.removesuffix(CONFIG))]
        if path in beside and any(f.endswith((".safetensors", *PICKLED)) for f in beside) and _is_config(files, path):
            return path
    return None


def _is_config(files: ModelFiles, path: str) -> bool:
    try:
        with (files.root / path).open("rb") as file:
            found = json.loads(file.read(MAX_CONFIG_BYTES))
    except (OSError, ValueError, RecursionError):
        return False
    return isinstance(found, dict) and isinstance(found.get("model_type"), str)


ADAPTER = Adapter(
    name="transformers",
    frameworks=("transformers", "huggingface", "hugging-face", "sentence-transformers"),
    suffixes=("/config.json",),
    sniff=lambda _head: False,  # only the whole folder tells
    load=load,
    folder=folder,
    prepare=lambda: framework("torch", "transformers"),
)
