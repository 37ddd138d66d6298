"""Tasks that a pipeline of transformers answers, a text at a time: so its answers are the pipeline's, bit for bit.

https://huggingface.co/docs/transformers/main_classes/pipelines
"""

import posixpath
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Final

import numpy as np
import orjson
import transformers

from adapters.base import Model, ModelFiles, TensorSpec, WrongInput
from adapters.huggingface.folder import read_json
from adapters.values import Arrays, check_lengths, from_text, to_text
from adapters.wording import reason

TEXT: Final = TensorSpec("text", "BYTES", (-1,))
PAIR: Final = TensorSpec("text_pair", "BYTES", (-1,), optional=True)
IMAGE: Final = TensorSpec("image", "UINT8", (-1, -1, -1, 3))
"""Rows, height, width, RGB."""
CANDIDATES: Final = TensorSpec("candidate_labels", "BYTES", (-1,), optional=True)


def texts_of(arrays: Arrays, name: str = "text") -> list[str]:
    """Returns the texts of an input. Raises WrongInput."""
    return list(to_text(arrays[name], f"input {name!r}").tolist())


def text_classification(
    files: ModelFiles, path: str, model: Any, tokenizer: Any, own: Any, facts: dict[str, str]
) -> Model:
    """Returns the model that answers with the best label and its score; `scores` are those of all labels. One that says
    whether a text entails another takes any labels as well."""
    labels = _labels(model)
    pipeline = transformers.TextClassificationPipeline(
        model=model, tokenizer=tokenizer, function_to_apply=_applied(files, path, model.config)
    )

    def predict(arrays: Arrays, wanted: tuple[str, ...]) -> Arrays:
        check_lengths(arrays)
        texts: list[Any] = texts_of(arrays)
        if PAIR.name in arrays:
            pairs = zip(texts, texts_of(arrays, PAIR.name), strict=True)
            texts = [{"text": text, "text_pair": pair} for text, pair in pairs]
        return _best(_run(pipeline, texts, top_k=None), labels, wanted)

    known = _model(
        (TEXT, PAIR), _scored(len(labels)), predict, facts, labels=labels, default_outputs=("label", "score")
    )
    return zero_shot(known, model, tokenizer, own) if any(map(_entails, labels)) else known


def _applied(files: ModelFiles, path: str, config: Any) -> str | None:
    """Returns what sentence-transformers applies to its cross-encoder's scores, as versions 6, 4 and 2 say it; None
    for other models: the pipeline decides."""
    told = read_json(files, posixpath.dirname(path), "config_sentence_transformers.json") or {}
    older = getattr(config, "sentence_transformers", None) or {}
    oldest = getattr(config, "sbert_ce_default_activation_function", None)
    name = str(told.get("activation_fn") or older.get("activation_fn") or oldest).rpartition(".")[2]
    return {"Identity": "none", "Sigmoid": "sigmoid", "Softmax": "softmax"}.get(name)


def _labels(model: Any) -> tuple[str, ...]:
    return tuple(str(model.config.id2label[i]) for i in range(model.config.num_labels))


def _scored(width: int) -> tuple[TensorSpec, ...]:
    return (*_specs("label", "score"), TensorSpec("scores", "FP32", (-1, width)))


def _best(found: list[list[dict[str, Any]]], labels: Sequence[str], wanted: tuple[str, ...]) -> Arrays:
    """Returns the best label of each row, its score, and the scores of all, from what a pipeline has `found`."""
    rows = [{each["label"]: each["score"] for each in one} for one in found]
    scores = np.array([[one[label] for label in labels] for one in rows], np.float32).reshape(-1, len(labels))
    best = scores.argmax(axis=1)
    made = {"label": from_text(np.array(labels, object)[best]), "score": scores.max(axis=1), "scores": scores}
    return {name: made[name] for name in wanted}


def _entails(label: str) -> bool:
    return label.lower().startswith("entail")  # as the pipeline finds it


def zero_shot(known: Model, model: Any, tokenizer: Any, own: Any) -> Model:
    """Returns the model `known` that takes `candidate_labels`, too: the labels among which it chooses for each text."""
    pipeline = transformers.ZeroShotClassificationPipeline(model=model, tokenizer=tokenizer)
    told = {key: own[key] for key in ("hypothesis_template", "multi_label") if key in own}
    usual: list[str] = own.get("candidate_labels", [])

    def predict(arrays: Arrays, wanted: tuple[str, ...]) -> Arrays:
        if CANDIDATES.name not in arrays and (PAIR.name in arrays or not usual):
            return known.predict(arrays, wanted)
        if PAIR.name in arrays:
            raise WrongInput(f"a request has either {PAIR.name} or {CANDIDATES.name}")
        labels = texts_of(arrays, CANDIDATES.name) if CANDIDATES.name in arrays else usual
        if len({*labels}) != len(labels) or not {"", "{}"}.isdisjoint(labels) or not labels:
            raise WrongInput(f"input {CANDIDATES.name!r} must name at least one label, and none twice")
        texts = texts_of(arrays)
        if not all(texts):
            raise WrongInput(f"input {TEXT.name!r}: element {texts.index('')} is empty, which no label suits")
        made = [pipeline(text, candidate_labels=labels, **told) for text in texts]
        pairs = [zip(one["labels"], one["scores"], strict=True) for one in made]
        return _best([[{"label": label, "score": score} for label, score in one] for one in pairs], labels, wanted)

    facts = {"task": f"{known.properties['task']}, zero-shot-classification"}
    facts |= {"labels_scores": orjson.dumps(known.labels).decode()}
    facts |= {CANDIDATES.name: orjson.dumps(usual).decode()} if usual else {}
    return replace(known, inputs=(*known.inputs, CANDIDATES), outputs=_scored(-1), predict=predict, labels=None,
                   batch=False, properties={**known.properties, **facts})  # fmt: skip


def token_classification(
    _files: ModelFiles, _path: str, model: Any, tokenizer: Any, own: Any, facts: dict[str, str]
) -> Model:
    """Returns the model that answers with the entities of a text, as JSON: label, score, word, start, end."""
    strategy = own.get("aggregation", "simple")
    pipeline = transformers.TokenClassificationPipeline(model=model, tokenizer=tokenizer, aggregation_strategy=strategy)

    def predict(arrays: Arrays, _wanted: tuple[str, ...]) -> Arrays:
        found = np.empty(len(arrays[TEXT.name]), object)
        found[:] = [
            orjson.dumps([{_label(key): value for key, value in one.items()} for one in entities],
                         option=orjson.OPT_SERIALIZE_NUMPY)
            for entities in _run(pipeline, texts_of(arrays))
        ]  # fmt: skip
        return {"entities": found}

    labels = tuple(str(label) for label in model.config.id2label.values())
    return _model((TEXT,), _specs("entities"), predict, facts | {"aggregation": strategy}, labels=labels)


def _label(key: str) -> str:
    return "label" if key in ("entity", "entity_group") else key


def fill_mask(_files: ModelFiles, _path: str, model: Any, tokenizer: Any, own: Any, facts: dict[str, str]) -> Model:
    """Returns the model that answers with the likeliest tokens for the one mask in a text."""
    count = min(own.get("top_k", 5), model.config.vocab_size)
    pipeline = transformers.FillMaskPipeline(model=model, tokenizer=tokenizer, top_k=count)
    mask = tokenizer.mask_token

    def predict(arrays: Arrays, wanted: tuple[str, ...]) -> Arrays:
        texts = texts_of(arrays)
        for i, text in enumerate(texts):
            if text.count(mask) != 1:
                raise WrongInput(f"input 'text': element {i} has {text.count(mask)} times {mask}; it must have one")
        found = [_run(pipeline, [text], tokenizer_kwargs={"truncation": True}) for text in texts]
        rows = [one[0] if isinstance(one[0], list) else one for one in found]
        made = {
            "token": from_text(np.array([[each["token_str"] for each in row] for row in rows], object)),
            "score": np.array([[each["score"] for each in row] for row in rows], np.float32),
        }
        return {name: made[name].reshape(-1, count) for name in wanted}

    outputs = (TensorSpec("token", "BYTES", (-1, count)), TensorSpec("score", "FP32", (-1, count)))
    return _model((TEXT,), outputs, predict, facts | {"mask_token": mask}, example={"text": [f"{mask}."]})


def image_classification(
    _files: ModelFiles, _path: str, model: Any, processor: Any, _own: Any, facts: dict[str, str]
) -> Model:
    """Returns the model that answers with the best label of an image; `scores` are those of all labels."""
    from PIL import Image

    pipeline = transformers.ImageClassificationPipeline(model=model, image_processor=processor)
    labels = _labels(model)

    def predict(arrays: Arrays, wanted: tuple[str, ...]) -> Arrays:
        if not arrays[IMAGE.name].size and len(arrays[IMAGE.name]):
            raise WrongInput("an image has no pixels")
        images = [Image.fromarray(pixels) for pixels in arrays[IMAGE.name]]
        return _best([pipeline(image, top_k=len(labels)) for image in images], labels, wanted)

    return Model("transformers", (IMAGE,), _scored(len(labels)), predict, batch=True, properties=facts, labels=labels,
                 default_outputs=("label", "score"), pictures=(IMAGE.name,))  # fmt: skip


def _run(pipeline: Any, texts: list[Any], **more: Any) -> Any:
    if "tokenizer_kwargs" not in more and not isinstance(pipeline, transformers.TokenClassificationPipeline):
        more["truncation"] = True
    try:
        return pipeline(texts, **more) if texts else []
    except transformers.pipelines.PipelineException as error:
        raise WrongInput(reason(error)) from error


def _specs(*names: str) -> tuple[TensorSpec, ...]:
    return tuple(TensorSpec(name, "FP32" if name == "score" else "BYTES", (-1,)) for name in names)


def _model(inputs: Any, outputs: Any, predict: Any, facts: dict[str, str], **more: Any) -> Model:
    example = {"example": {"text": ["This is a text."]}, **more}
    return Model("transformers", inputs, outputs, predict, batch=True, properties=facts, **example)
