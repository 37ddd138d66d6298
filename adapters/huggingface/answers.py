"""Question answering: the span of a context that answers a question, from the logits of a model.

The steps are those of the pipeline that transformers had until its version 5:
https://github.com/huggingface/transformers/blob/v4.57.1/src/transformers/pipelines/question_answering.py
"""

from collections.abc import Iterator
from typing import Any, Final, NamedTuple

import numpy as np
import torch

from adapters.base import Model, ModelFiles, TensorSpec, WrongInput
from adapters.huggingface.pipelines import texts_of
from adapters.values import Array, Arrays, check_lengths, from_text
from adapters.wording import reason

INPUTS: Final = (TensorSpec("question", "BYTES", (-1,)), TensorSpec("context", "BYTES", (-1,)))
OUTPUTS: Final = (
    TensorSpec("answer", "BYTES", (-1,)),
    TensorSpec("score", "FP32", (-1,)),
    TensorSpec("start", "INT64", (-1,)),
    TensorSpec("end", "INT64", (-1,)),
)
WINDOW: Final = 384
"""Tokens of a question and a part of its context; a longer context is read in parts."""
OVERLAP: Final = 128
LONGEST: Final = 15
"""Tokens of an answer."""


CANDIDATES: Final = 12
"""Spans of a part that may be the answer. The scores of those with the same text are added."""


class Span(NamedTuple):
    """A part of a context, in characters."""

    score: float
    start: int
    end: int


def as_model(_files: ModelFiles, _path: str, model: Any, tokenizer: Any, _own: Any, facts: dict[str, str]) -> Model:
    """Returns the model that answers with a span of the context, its score, and on request where it is."""
    window = min(tokenizer.model_max_length, WINDOW)
    facts["truncation"] = f"none: a context is read in parts of {window} tokens, each with the question"

    def predict(arrays: Arrays, wanted: tuple[str, ...]) -> Arrays:
        check_lengths(arrays)
        contexts = texts_of(arrays, "context")
        pairs = zip(texts_of(arrays, "question"), contexts, strict=True)
        spans = [_answer(model, tokenizer, window, *pair) for pair in pairs]
        found = [context[span.start : span.end] for span, context in zip(spans, contexts, strict=True)]
        made = {
            "answer": from_text(np.array(found, object)),
            "score": np.array([span.score for span in spans], np.float32),
            "start": np.array([span.start for span in spans], np.int64),
            "end": np.array([span.end for span in spans], np.int64),
        }
        return {name: made[name] for name in wanted}

    example = {"question": ["What is this?"], "context": ["This is a text."]}
    return Model("transformers", INPUTS, OUTPUTS, predict, batch=True, properties=facts, example=example,
                 default_outputs=("answer", "score"))  # fmt: skip


def _answer(model: Any, tokenizer: Any, window: int, question: str, context: str) -> Span:
    first = tokenizer.padding_side == "right"  # else the context comes before the question
    try:
        parts = tokenizer(
            *((question, context) if first else (context, question)),
            truncation="only_second" if first else "only_first",
            max_length=window,
            stride=min(window // 2, OVERLAP),
            return_overflowing_tokens=True,
        )
    except Exception as error:  # tokenizers raises plain exceptions, where no token of the context is left
        raise WrongInput(f"the question leaves no room for its context: {reason(error)}") from error
    found = dict[str, Span]()
    for part in parts.encodings:
        for span in _likeliest(model, tokenizer, part, int(first)):
            text = context[span.start : span.end].lower()
            before = found.setdefault(text, span._replace(score=0.0))
            found[text] = before._replace(score=before.score + span.score)
    return max(found.values(), key=lambda span: span.score, default=Span(0.0, 0, 0))


def _likeliest(model: Any, tokenizer: Any, part: Any, sequence: int) -> Iterator[Span]:
    """Yields the likeliest spans of one part; `sequence`: whether the context is the first or the second text."""
    given = {"input_ids": part.ids, "attention_mask": part.attention_mask, "token_type_ids": part.type_ids}
    with torch.inference_mode():
        made = model(**{name: torch.tensor([given[name]]) for name in tokenizer.model_input_names if name in given})
    of_context = np.array([one == sequence for one in part.sequence_ids])
    kept = of_context | (np.array(part.ids) == tokenizer.cls_token_id)
    start, end = (_probabilities(logits[0].float().numpy(), kept) for logits in (made.start_logits, made.end_logits))
    start[0] = end[0] = 0.0  # "no answer" is none
    scores = np.tril(np.triu(np.outer(start, end)), LONGEST - 1)
    for place in np.argsort(-scores, axis=None, kind="stable")[:CANDIDATES].tolist():
        first, last = divmod(place, len(end))
        if of_context[first] and of_context[last]:
            begin, finish = (_characters(part, token, sequence) for token in (first, last))
            yield Span(float(scores[first, last]), begin[0], finish[1])


def _probabilities(logits: Array, kept: Array) -> Array:
    masked = np.where(kept, logits, -10000.0)
    powers = np.exp(masked - masked.max())
    made: Array = powers / powers.sum()
    return made


def _characters(part: Any, token: int, sequence: int) -> tuple[int, int]:
    """Returns where the word of a token is in the context; where the tokenizer knows no words, where the token is."""
    word = part.token_to_word(token)
    place: tuple[int, int] = part.offsets[token] if word is None else part.word_to_chars(word, sequence)
    return place
