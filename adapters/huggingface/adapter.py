"""The adapter of Hugging Face folders: `config.json`, weights and a tokenizer, as `save_pretrained` writes them."""

from adapters.base import Adapter, Model, ModelFiles, Options
from adapters.huggingface.folder import config_in
from adapters.imports import framework, installed


def load(files: ModelFiles, options: Options, processor: str | None = None) -> Model:
    """Returns the model of the folder; `processor`: the folder of its tokenizer or image processor, if it is another
    one. Raises LoadFailed, Refused, MissingFramework."""
    framework("torch", "transformers")
    from adapters.huggingface import loading

    return loading.load_folder(files, options, processor)


ADAPTER = Adapter(
    name="transformers",
    frameworks=("transformers", "huggingface", "hugging-face", "sentence-transformers"),
    suffixes=("/config.json",),
    sniff=lambda _head: False,  # only the whole folder tells
    load=load,
    folder=config_in,
    check=installed("transformers", "transformers"),
    prepare=lambda: framework("torch", "transformers"),
)
