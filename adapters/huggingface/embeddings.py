"""Embeddings of texts: the modules that a folder of sentence-transformers lists, without its package.

https://sbert.net/docs/package_reference/sentence_transformer/models.html
"""

import inspect
import posixpath
from collections.abc import Callable
from typing import Any, Final

import numpy as np
import torch
from safetensors.torch import load_file

from adapters.base import LoadFailed, Model, ModelFiles, TensorSpec
from adapters.huggingface.folder import read_json
from adapters.huggingface.pipelines import TEXT, texts_of
from adapters.pytorch.file import check_header
from adapters.values import Arrays
from adapters.wording import failing

Step = Callable[[torch.Tensor], torch.Tensor]
POOLINGS: Final = {
    "cls_token": "cls", "max_tokens": "max", "mean_tokens": "mean", "mean_sqrt_len_tokens": "mean_sqrt_len_tokens",
    "weightedmean_tokens": "weightedmean", "lasttoken": "lasttoken",
}  # fmt: skip
"""Ways of pooling, as keys `pooling_mode_…` until sentence-transformers 5 and under `pooling_mode` since 6."""
_ACTIVATIONS: Final = ("Identity", "Tanh", "ReLU", "LeakyReLU", "ELU", "SiLU", "GELU", "Sigmoid")
AT_ONCE: Final = 32
"""Texts in one run of the model; they are padded to the longest."""


def as_model(files: ModelFiles, path: str, model: Any, tokenizer: Any, _own: Any, facts: dict[str, str]) -> Model:
    """Returns the model that answers with an embedding for each text. Raises LoadFailed for unknown modules."""
    said = _Said(files, path)
    pool, after, prompt = said.pooling(), said.after(), said.prompt()
    limit = min(said.longest() or tokenizer.model_max_length, tokenizer.model_max_length)
    takes = inspect.signature(model.forward).parameters

    def embed(texts: list[str]) -> torch.Tensor:
        given = [text.lower() for text in texts] if said.lowers() else texts
        tokens = tokenizer(given, padding=True, truncation=True, max_length=limit, return_tensors="pt")
        with torch.inference_mode():
            states = model(**{key: value for key, value in tokens.items() if key in takes})[0]
            made = torch.cat([_pooled(one, states, tokens["attention_mask"]) for one in pool], dim=1)
            for step in after:
                made = step(made)
        return made.float()

    def predict(arrays: Arrays, _wanted: tuple[str, ...]) -> Arrays:
        texts = [prompt + text for text in texts_of(arrays)]
        parts = [embed(texts[i : i + AT_ONCE]).numpy() for i in range(0, len(texts), AT_ONCE)]
        return {"embedding": np.concatenate(parts) if parts else np.zeros((0, width), np.float32)}

    width = embed(["a"]).shape[1]
    facts |= {"pooling": ", ".join(pool), "truncation": f"a text is cut after {limit} tokens"}
    if not said.modules:
        mean = "an embedding is the mean of its tokens', as sentence-transformers has it"
        facts["warning"] = f"{path} says no pooling: {mean}"
    outputs = (TensorSpec("embedding", "FP32", (-1, width)),)
    example = {"text": ["This is a text."]}
    return Model("transformers", (TEXT,), outputs, predict, batch=True, properties=facts, example=example)


class _Said:
    """The files of sentence-transformers in a folder; a folder may have none."""

    def __init__(self, files: ModelFiles, path: str) -> None:
        self._files, self._first = files, posixpath.dirname(path)
        self._start = self._first.removesuffix("0_Transformer").rstrip("/")
        found = self._json(self._start, "modules.json")
        self.modules = [(str(one["type"]).rpartition(".")[2], str(one["path"])) for one in found or ()]

    def _json(self, folder: str, name: str) -> Any:
        return read_json(self._files, folder, name)

    def longest(self) -> int | None:
        """Returns the limit of tokens that the folder says."""
        return (self._json(self._first, "sentence_bert_config.json") or {}).get("max_seq_length")

    def lowers(self) -> bool:
        """True if texts are put in lower case first."""
        return bool((self._json(self._first, "sentence_bert_config.json") or {}).get("do_lower_case"))

    def prompt(self) -> str:
        """Returns what is put before each text."""
        config = self._json(self._start, "config_sentence_transformers.json") or {}
        return str((config.get("prompts") or {}).get(config.get("default_prompt_name"), ""))

    def pooling(self) -> list[str]:
        """Returns the ways in which the states of the tokens become one."""
        place = next((path for kind, path in self.modules if kind == "Pooling"), None)
        config = {} if place is None else self._json(posixpath.join(self._start, place), "config.json") or {}
        old = [mode for key, mode in POOLINGS.items() if config.get(f"pooling_mode_{key}")]
        told = config.get("pooling_mode", old or "mean")
        modes = [told] if isinstance(told, str) else list(told)
        if unknown := [mode for mode in modes if mode not in POOLINGS.values()]:
            raise LoadFailed(f"{place}/config.json names the pooling {unknown[0]!r}, which is not served")
        if config.get("include_prompt") is False and self.prompt():
            raise LoadFailed(f"{place}/config.json leaves the prompt out of the pooling, which is not served")
        return modes

    def after(self) -> list[Step]:
        """Returns what is done to the pooled states. Raises LoadFailed for a module that is not known here."""
        steps = list[Step]()
        for kind, place in self.modules:
            if kind == "Normalize":
                steps.append(lambda made: torch.nn.functional.normalize(made, p=2, dim=1))
            elif kind == "Dense":
                steps.append(self._dense(posixpath.join(self._start, place)))
            elif kind == "LayerNorm":
                steps.append(self._layer_norm(posixpath.join(self._start, place)))
            elif kind not in ("Transformer", "Pooling", "Dropout"):  # a dropout changes no prediction
                known = "Transformer, Pooling, Dense, LayerNorm, Dropout and Normalize"
                raise LoadFailed(f"modules.json names a {kind}; of sentence-transformers {known} are served")
        return steps

    def _dense(self, place: str) -> Step:
        config = self._json(place, "config.json") or {}
        activation = str(config.get("activation_function", "")).rpartition(".")[2]
        if activation not in _ACTIVATIONS:
            raise LoadFailed(f"{place}/config.json names the activation {activation!r}, which is not served")
        with failing(f"{place} is not as sentence-transformers writes it"):
            layer = torch.nn.Linear(config["in_features"], config["out_features"], bias=config["bias"])
            self._fill(layer, place, "linear.")
        made: Step = torch.nn.Sequential(layer, getattr(torch.nn, activation)()).eval()
        return made

    def _layer_norm(self, place: str) -> Step:
        with failing(f"{place} is not as sentence-transformers writes it"):
            layer = torch.nn.LayerNorm((self._json(place, "config.json") or {})["dimension"])
            self._fill(layer, place, "norm.")
        made: Step = layer.eval()
        return made

    def _fill(self, layer: torch.nn.Module, place: str, prefix: str) -> None:
        check_header(self._files.root / place / "model.safetensors", f"{place}/model.safetensors")
        state = load_file(self._files.root / place / "model.safetensors")
        layer.load_state_dict({key.removeprefix(prefix): value for key, value in state.items()})


def _pooled(mode: str, states: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """Returns one row for each text, from (texts, tokens, width) states of which those under the mask count."""
    weights = mask.unsqueeze(-1).expand(states.size()).to(states.dtype)
    if mode == "cls":
        first = mask.argmax(dim=1)  # some tokenizers pad on the left
        return states[torch.arange(len(states)), first]
    if mode == "lasttoken":
        last = mask.shape[1] - 1 - mask.flip(1).argmax(dim=1)
        return states[torch.arange(len(states)), last]
    if mode == "max":
        return states.masked_fill(weights == 0, float("-inf")).max(dim=1).values
    if mode == "weightedmean":
        weights = weights * torch.arange(1, mask.shape[1] + 1, dtype=states.dtype)[None, :, None]
    total = (states * weights).sum(1)
    count = weights.sum(1).clamp(min=1e-9)
    return total / (count.sqrt() if mode == "mean_sqrt_len_tokens" else count)
