"""From a Hugging Face folder to a model: which task it is for, its weights and its tokenizer.

Never code of the folder (`trust_remote_code`), never another server, and pickled weights at `unsafe` only.
"""

import json
import os
import posixpath
from collections.abc import Callable, Mapping
from typing import Any, Final

import torch

from adapters import checks
from adapters.base import LoadFailed, Model, ModelFiles, Options, Refused
from adapters.huggingface.folder import PICKLED, config_in, read_json
from adapters.imports import framework, hidden, name_temporary_folder
from adapters.pytorch.file import MERGE, check_header
from adapters.trust import allows_code, content_refused
from adapters.wording import failing, listed

KNOWN: Final[Mapping[str, checks.Check]] = {
    "threads": checks.THREADS,
    "top_k": checks.WHOLE,
    "aggregation": checks.one_of("none", "simple", "first", "average", "max"),
    "candidate_labels": checks.TEXTS,
    "hypothesis_template": checks.Check(lambda value: checks.TEXT.holds(value) and "{}" in value, "a text with {}"),
    "multi_label": checks.FLAG,
}
IMAGES: Final = "image-classification"
TASKS: Final[Mapping[str, tuple[str, str]]] = {
    "ForSequenceClassification": ("AutoModelForSequenceClassification", "text-classification"),
    "ForTokenClassification": ("AutoModelForTokenClassification", "token-classification"),
    "ForMaskedLM": ("AutoModelForMaskedLM", "fill-mask"),
    "ForQuestionAnswering": ("AutoModelForQuestionAnswering", "question-answering"),
    "ForImageClassification": ("AutoModelForImageClassification", IMAGES),
    "Model": ("AutoModel", "sentence-embedding"),
}
"""How the name of an architecture ends, the class that loads it, and its task."""
CROSS_ENCODER: Final = "CrossEncoder"
"""A model that sentence-transformers 6 saves with modules, though it classifies pairs of texts."""
GENERATES: Final = ("ForCausalLM", "LMHeadModel", "ForConditionalGeneration", "ForSeq2SeqLM", "ForSpeechSeq2Seq")
UNLIMITED: Final = 1_000_000
"""A tokenizer without a limit says a number beyond this one."""


def load_folder(files: ModelFiles, options: Options, processor: str | None) -> Model:
    """Returns the model of the folder at `files.path`; its tokenizer or image processor is in the folder `processor`,
    or beside it. Raises LoadFailed, Refused, MissingFramework."""
    with hidden("scipy"), hidden("sklearn"):  # transformers would import them for losses and generation, in 2 s
        return _loaded(files, options, processor)


def _loaded(files: ModelFiles, options: Options, processor: str | None) -> Model:
    own = checks.check(options.own, KNOWN, "transformers")
    path = config_in(files)
    if path is None:
        said = "is no folder of Hugging Face: it holds no config.json of transformers with weights beside it"
        raise LoadFailed(f"{files.path} {said}")
    config = json.loads((files.root / path).read_bytes())
    auto, task = _task(files, path, config)
    if posixpath.join(posixpath.dirname(path), "adapter_config.json") in files.files:
        raise LoadFailed(f"{path} lies beside an adapter of PEFT: {MERGE}")
    safe = _check_weights(files, path, options)
    if threads := own.get("threads", options.threads):
        torch.set_num_threads(threads)
    if task == IMAGES:
        framework("PIL.Image", "images")
    transformers = _transformers()
    root = files.root / posixpath.dirname(path)
    strict = {"local_files_only": True, "trust_remote_code": False}
    by = f"by transformers {transformers.__version__}"
    with failing(f"{path} cannot be loaded {by}"):
        if "auto_map" in config and config["model_type"] not in transformers.CONFIG_MAPPING:
            raise _code_refused(path, config["model_type"])
        prepares = transformers.AutoImageProcessor if task == IMAGES else transformers.AutoTokenizer
        kind = "image processor" if task == IMAGES else "tokenizer"
        writes = f"{kind.split()[-1]}.save_pretrained(folder) writes one"
        with failing(f"the {kind} beside {path} cannot be loaded {by} ({writes})"):
            made = prepares.from_pretrained(root if processor is None else files.root / processor, **strict)
        if task != IMAGES and len(made) <= len(made.all_special_tokens):  # transformers makes up an empty one
            raise LoadFailed(f"there is no tokenizer beside {path}: {writes}")
        load = getattr(transformers, auto).from_pretrained
        model, info = load(root, use_safetensors=safe, output_loading_info=True, ignore_mismatched_sizes=True, **strict)
        if differ := sorted(key for key, *_ in info["mismatched_keys"]):
            said = "config.json is of another model, or was changed by hand"
            raise LoadFailed(f"the weights beside {path} have other shapes than it says: {listed(differ)}; {said}")
        if made_up := sorted(key for key in info["missing_keys"] if ".pooler." not in f".{key}" or auto != "AutoModel"):
            said = "transformers would make them up: save the model after its training, with model.save_pretrained"
            raise LoadFailed(f"the weights beside {path} lack {listed(made_up)}; {said}")
    facts = {"transformers_version": transformers.__version__, "torch_version": torch.__version__, "task": task}
    if task != IMAGES:
        made.model_max_length = limit = _limit(made, model)
        facts["truncation"] = f"a text is cut after {limit} tokens" if limit < UNLIMITED else "none"
    return _makers()[task](files, path, model.eval(), made, own, facts)


def _makers() -> Mapping[str, Callable[..., Model]]:
    from adapters.huggingface import answers, embeddings, pipelines

    return {
        "text-classification": pipelines.text_classification,
        "token-classification": pipelines.token_classification,
        "fill-mask": pipelines.fill_mask,
        "question-answering": answers.as_model,
        IMAGES: pipelines.image_classification,
        "sentence-embedding": embeddings.as_model,
    }


def _task(files: ModelFiles, path: str, config: Mapping[str, Any]) -> tuple[str, str]:
    """Returns the class that loads the model, and its task. Raises LoadFailed for one that is not served."""
    if posixpath.join(start := posixpath.dirname(path), "modules.json") in files.files:
        told = read_json(files, start, "config_sentence_transformers.json") or {}
        if told.get("model_type") != CROSS_ENCODER:
            return TASKS["Model"]
    architectures = config.get("architectures")
    name = str(architectures[0]) if isinstance(architectures, list) and architectures else ""
    if name.endswith(GENERATES):
        raise LoadFailed(f"{path} is a {name}, which generates: serve it with vLLM, or as GGUF with llama.cpp")
    found = next((task for ending, task in TASKS.items() if name.endswith(ending)), None)
    if found is None:
        tasks = listed(task for _, task in TASKS.values())
        said = f"{path} is a {name or 'model of no named architecture'}; of transformers the tasks {tasks} are served"
        raise LoadFailed(f"{said}: export it to ONNX with optimum")
    return found


def _check_weights(files: ModelFiles, path: str, options: Options) -> bool:
    """Returns True if the weights are safetensors, whose headers are checked. Raises Refused for pickled ones."""
    start = path.removesuffix("config.json")
    beside = [f for f in files.files if f.startswith(start) and "/" not in f[len(start) :]]
    tensors = [f for f in beside if f.endswith(".safetensors")]
    for file in tensors:
        check_header(files.root / file, file)
    if not tensors and not allows_code(options.trust):
        pickled = next(f for f in beside if f.endswith(PICKLED))
        convert = "load it with transformers where you trust it, and model.save_pretrained(folder) writes safetensors"
        raise content_refused(pickled, "is pickled", convert)
    return bool(tensors)


def _code_refused(path: str, model_type: str) -> Refused:
    said = f"{path} wants Python code of its folder for the model type {model_type!r}, which is never run"
    return Refused(f"{said}: export the model to ONNX with optimum", file=path)


def _transformers() -> Any:
    """Returns the package, told to ask no other server and to print no progress."""
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    name_temporary_folder()
    transformers = framework("transformers", "transformers")
    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    return transformers


def _limit(tokenizer: Any, model: Any) -> int:
    """Returns how many tokens the model takes: the tokenizer's limit, or the positions that the model has learnt."""
    positions = getattr(model.config, "max_position_embeddings", None) or UNLIMITED
    for name, table in model.named_modules():
        if name.endswith("position_embeddings") and getattr(table, "padding_idx", None) is not None:
            positions -= table.padding_idx + 1  # they start after the padding: RoBERTa, MPNet and theirs
            break
    return int(min(tokenizer.model_max_length, positions))
