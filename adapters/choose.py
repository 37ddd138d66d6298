"""Chooses the adapter of a kit and the one file it loads: by operator, format, framework, suffix, content."""

# ruff: noqa: A002 - `format` is the Kitfile's word

import posixpath
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from functools import cache
from typing import Final, NamedTuple

from adapters.base import Adapter, AmbiguousModel, LoadFailed, Model, ModelFiles, NoAdapter, Options
from adapters.boosted.catboost import ADAPTER as CATBOOST
from adapters.boosted.lightgbm import ADAPTER as LIGHTGBM
from adapters.boosted.xgboost import ADAPTER as XGBOOST
from adapters.huggingface.adapter import ADAPTER as HUGGINGFACE
from adapters.mlflow.adapter import ADAPTER as MLFLOW
from adapters.onnx.adapter import ADAPTER as ONNX
from adapters.python import ADAPTER as PYTHON
from adapters.pytorch.adapter import ADAPTER as PYTORCH
from adapters.sklearn.adapter import ADAPTER as SKLEARN
from adapters.trust import check_level
from adapters.wording import failing, listed, reason

ADAPTERS: Final[tuple[Adapter, ...]] = (
    ONNX, SKLEARN, PYTORCH, XGBOOST, LIGHTGBM, CATBOOST, MLFLOW, HUGGINGFACE, PYTHON,
)  # fmt: skip
_GROUP: Final = "modelkit_runtime.adapters"
"""The entry points of adapters in other packages."""
HEAD_BYTES: Final = 4096
LFS_POINTER: Final = b"version https://git-lfs.github.com/spec/"
"""How a file begins that stands for another: https://github.com/git-lfs/git-lfs/blob/main/docs/spec.md"""
DIFFUSERS: Final = "model_index.json"
SNIFFED_FILES: Final = 256
"""In a folder with more files, only those with a known suffix are read."""
ELSEWHERE: Final = {
    "GGUF": ("gguf ggml llama.cpp llama-cpp", ".gguf .ggml .ggmf .llamafile", "serve it with llama.cpp"),
    "TensorFlow": ("tensorflow tf tf-lite tflite savedmodel saved-model", ".pb .tflite .tfrecords",
                   "convert it to ONNX with tf2onnx"),
    "Keras": ("keras", ".keras .h5 .hdf5", "export it to ONNX with model.export('model.onnx', format='onnx')"),
    "TensorRT": ("tensorrt trt", ".engine .plan", "pack the ONNX file it was built from"),
    "OpenVINO": ("openvino", "", "pack the ONNX file it was built from"),
    "Core ML": ("coreml core-ml", ".mlmodel .coreml", "convert it to ONNX with coremltools or onnxmltools"),
    "PMML": ("pmml", ".pmml", "convert the model to ONNX with skl2onnx"),
    "PaddlePaddle": ("paddle paddlepaddle", ".pdmodel", "convert it to ONNX with paddle2onnx"),
    "Caffe": ("caffe", ".caffemodel", "convert it to ONNX"),
    "JAX": ("jax flax", "", "export it to ONNX with jax2onnx"),
    "TorchServe": ("torchserve", ".mar", "pack the TorchScript or .pt2 file inside it"),
}  # fmt: skip
"""Formats that are not served here: their names, their suffixes, and what to do instead."""
UNREAD: Final = (
    (
        rb'\s*\{\s*"name"\s*:\s*"tree"',
        "LightGBM's dump_model() wrote it for people: save_model('model.txt') is served",
    ),
    (rb'\s*\[\s*\{\s*"nodeid"', "XGBoost's dump_model() wrote it for people: save_model('model.ubj') is served"),
    (rb'\s*\{\s*"(ctr_data|features_info|model_info)"', "CatBoost wrote it as JSON: save_model('model.cbm') is served"),
    (rb"\x1f\x8b|PK\x03\x04|BZh|\xfd7zXZ", "it is an archive or compressed: serve what is in it"),
)
"""First bytes of files that stand for a model, and what to do."""

Warn = Callable[[str], None]


class _Candidate(NamedTuple):
    """A file, and the adapters that know its suffix and its first bytes."""

    path: str
    by_suffix: tuple[Adapter, ...]
    by_content: tuple[Adapter, ...]

    @property
    def rank(self) -> int:
        """3: name and content agree; 2: content alone; 1: name alone; 0: unknown."""
        agreed = any(a in self.by_suffix for a in self.by_content)
        return 3 if agreed else 2 if self.by_content else 1 if self.by_suffix else 0

    def adapter(self, asked: Adapter | None) -> Adapter | None:
        """Returns the adapter of this file: `asked` if the file allows it."""
        fits = self.by_content or self.by_suffix
        if asked in fits:
            return asked
        return next((a for a in fits if a in self.by_suffix), fits[0] if fits else None)


def choose(
    files: ModelFiles,
    *,
    framework: str | None,
    format: str | None,
    adapter: str | None = None,
    has_code: bool = False,
    warn: Warn,
) -> tuple[Adapter, ModelFiles]:
    """Returns the adapter, and `files` with `path` set to the chosen file.

    In this order: the operator's `adapter`, a file that says what its whole folder is, `model.format`,
    `model.framework`, the file's suffix, its content. A file that contradicts the Kitfile decides, with one call of
    `warn`. What a folder says counts neither for adapters that only the Kitfile can name, nor if the kit `has_code` to
    make the model.
    Raises NoAdapter, AmbiguousModel, and LoadFailed if `files.path` is not in the kit.
    """
    paths = _candidate_paths(files)
    asked = _asked(framework, format) if adapter is None else _named(adapter)
    if adapter is None and not has_code and (asked is None or (asked in ADAPTERS and asked.suffixes)):
        for whole in ADAPTERS:
            if path := whole.folder(files):
                return whole, replace(files, path=path)
    if asked is not None and not asked.suffixes:
        return asked, files  # it claims no files, so no file can contradict it
    known = (asked,) if asked and adapter is not None else _known(asked)  # no file contradicts the operator
    chosen, path = _by_files(files, paths, asked, known)
    if chosen is None:
        chosen, path = _by_files(files, paths, None, _third_party())
    head = read_head(files, path) if path in files.files else b""
    if path in files.files and (why := no_model(path, head)):
        raise LoadFailed(why)
    if chosen is None:
        told = next(filter(None, (advice(None, None, each) for each in paths)), None)
        inside = () if files.path in files.files else paths
        raise NoAdapter(told or _no_adapter(files.path, framework, format, head, inside))
    if chosen is not asked and (framework or format):
        said = format if format and asked is _spelled(_known(asked), format) else framework
        warn(f"the Kitfile says {said or format!r}; {path} is of {chosen.name}: the file decides")
    return chosen, replace(files, path=path)


def guess(path: str, *, framework: str | None, format: str | None, adapter: str | None = None) -> Adapter | None:
    """Returns the adapter that `choose` will probably take, from names alone; None if only the files can tell.

    A caller that imports the framework early must not fail on a wrong guess: the content decides later. Raises
    NoAdapter if neither the names nor the suffix are known.
    """
    if adapter is not None:
        return _named(adapter)
    asked = _asked(framework, format)
    suffixed = by_suffix(path, _known(asked))
    if asked is not None and (asked in suffixed or not suffixed or not asked.suffixes):
        return asked
    if suffixed:
        return suffixed[0]
    if not posixpath.splitext(path)[1]:
        return None  # a folder, or a file whose content has to say
    if theirs := by_suffix(path, _third_party()):
        return theirs[0]
    if framework or format or advice(None, None, path):
        raise NoAdapter(_no_adapter(path, framework, format))
    return None


def check(path: str, trust: str, *, framework: str | None, format: str | None, adapter: str | None = None) -> None:
    """Raises AdapterError for a model that cannot be served whatever its files hold. Called before they are fetched.

    What only content decides, as where the Kitfile and the suffix disagree, passes.
    """
    check_level(trust)
    try:
        chosen = guess(path, framework=framework, format=format, adapter=adapter)
    except NoAdapter:
        if adapter is not None or advice(framework, format, path):
            raise
        return
    if chosen and (adapter is not None or not chosen.suffixes or path.casefold().endswith(chosen.suffixes)):
        chosen.check(path, trust)


def load(
    files: ModelFiles,
    options: Options,
    *,
    framework: str | None,
    format: str | None,
    adapter: str | None = None,
    warn: Warn,
) -> tuple[Adapter, Model]:
    """Returns the chosen adapter and its loaded model. Raises AdapterError and MemoryError, nothing else."""
    check_level(options.trust)
    has_code = "entrypoint" in options.own
    chosen, found = choose(files, framework=framework, format=format, adapter=adapter, has_code=has_code, warn=warn)
    with failing(f"{found.path} cannot be loaded by the {chosen.name} adapter"):
        model = chosen.load(found, options)
    if "warning" in model.properties:
        warn(model.properties["warning"])
    if "outputs" in model.properties:
        warn(f"its outputs are {model.properties['outputs']}")
    return chosen, _as_told(model, options, found.path, warn)


def _as_told(model: Model, options: Options, path: str, warn: Warn) -> Model:
    """Returns the model with the labels and default outputs that the kit says. Raises LoadFailed."""
    if (learn := model.learn) is not None:
        return replace(model, learn=lambda arrays: _as_told(learn(arrays), options, path, warn))
    names = [spec.name for spec in model.outputs]
    if unknown := [name for name in options.outputs if name not in names]:
        raise LoadFailed(f"model.parameters.serving.outputs names {unknown[0]!r}; {path} gives {listed(names)}")
    labels = model.labels
    if options.labels is not None:
        labels, counts = options.labels, _classes(model)
        if min(counts, default=0) > 1 and len(labels) not in counts:
            said = f"model.parameters.serving.labels names {len(labels)} classes"
            warn(f"{said}; {path} has {' or '.join(map(str, sorted(counts)))}")
    return replace(model, labels=labels, default_outputs=options.outputs or model.default_outputs)


def _classes(model: Model) -> set[int]:
    """Returns how many classes the model may have, as its own labels or the columns of its scores tell; -1: any."""
    if model.labels is not None:
        return {len(model.labels)}
    return {spec.shape[-1] for spec in model.outputs if spec.datatype.startswith("FP") and len(spec.shape) > 1}


def spellings(text: str) -> tuple[str, ...]:
    """Returns what `Scikit-learn`, `sklearn:1.3.0` or `torch==2.1` may mean, most exact first, without versions."""
    lower = text.strip().casefold()
    whole = re.sub(r"[\s_]+", "-", lower)
    cut = re.split(r"[:=<>~!@/;,(\s]", lower, maxsplit=1)[0]
    bare = re.sub(r"[-_]?v?\d+(\.\d+)*$", "", cut)
    return tuple(dict.fromkeys(form.strip("-").removeprefix(".") for form in (whole, cut, bare) if form.strip("-.")))


def advice(framework: str | None, form: str | None, path: str) -> str | None:
    """Returns a line for a model of a format that is known and not served here; None for every other."""
    said = {form for text in (form, framework) if text for form in spellings(text)}
    for name, (frameworks, suffixes, instead) in ELSEWHERE.items():
        if said & set(frameworks.split()) or path.casefold().endswith(tuple(suffixes.split())):
            return f"{name} models are not served by this runtime ({path}): {instead}"
    return None


def _candidate_paths(files: ModelFiles) -> list[str]:
    """Returns the file at `files.path`, or the files of that folder that the Kitfile does not name as parts or code."""
    if files.path in files.files:
        return [files.path]
    below = [f for f in files.files if files.path == "." or f.startswith(files.path + "/")]
    if not below:
        raise LoadFailed(f"model.path {files.path!r} is not in the kit, which holds {listed(files.files)}")
    if posixpath.normpath(posixpath.join(files.path, DIFFUSERS)) in below:
        raise NoAdapter(f"{files.path} is a pipeline of diffusers ({DIFFUSERS}), which generates and is not served")
    named = (*files.parts, *files.code)
    others = [p for p in named if p not in (files.path, ".") and not files.path.startswith(p + "/")]
    left = [f for f in below if not any(f == p or f.startswith(p + "/") for p in others)]
    return left or below


def _by_files(
    files: ModelFiles, paths: list[str], asked: Adapter | None, known: tuple[Adapter, ...]
) -> tuple[Adapter | None, str]:
    candidates = _examined(files, paths, known)
    if len(candidates) == 1:
        return candidates[0].adapter(asked) or asked, candidates[0].path
    mine = [c for c in candidates if asked is not None and c.adapter(asked) is asked]
    best = _best(files, mine, asked) or _best(files, candidates, asked)
    if best is not None:
        return best.adapter(asked), best.path
    if asked is not None:
        raise NoAdapter(f"model.path {files.path!r} holds no file of {asked.name}: {listed(paths)}")
    return None, files.path


def _best(files: ModelFiles, candidates: list[_Candidate], asked: Adapter | None) -> _Candidate | None:
    """Returns the candidate of the highest rank; None if none is known. Raises AmbiguousModel if there are several."""
    top = max((c.rank for c in candidates), default=0)
    best = [c for c in candidates if c.rank == top]
    if top and len(best) > 1:
        found = listed(f"{c.path} ({a.name})" for c in best if (a := c.adapter(asked)))
        wanted = "name one file in model.path or, without a Kitfile, serve the file itself"
        raise AmbiguousModel(f"model.path {files.path!r} could mean any of {found}; {wanted}")
    return best[0] if top else None


def _examined(files: ModelFiles, paths: list[str], known: tuple[Adapter, ...]) -> list[_Candidate]:
    found = []
    for path in paths:
        suffixed = by_suffix(path, known)
        head = read_head(files, path) if suffixed or len(paths) <= SNIFFED_FILES else b""
        if suffixed and head.startswith(LFS_POINTER):
            raise LoadFailed(_pointer(path))
        found.append(_Candidate(path, suffixed, tuple(a for a in known if head and a.sniff(head))))
    return found


def pointers(files: ModelFiles) -> list[str]:
    """Returns what to say of each file of the model that is a Git LFS pointer. Raises LoadFailed."""
    paths = [path for path in _candidate_paths(files) if by_suffix(path, ADAPTERS)]
    return [_pointer(path) for path in paths if read_head(files, path).startswith(LFS_POINTER)]


def _pointer(path: str) -> str:
    fix = "`git lfs pull` in its repository; a kit has to be packed again"
    return f"{path} is a Git LFS pointer and not the model's file: {fix}"


def read_head(files: ModelFiles, path: str) -> bytes:
    """Returns the first bytes of a file, as `Adapter.sniff` gets them. Raises LoadFailed."""
    try:
        with (files.root / path).open("rb") as file:
            return file.read(HEAD_BYTES)
    except OSError as error:
        raise LoadFailed(f"{path} cannot be read: {error.strerror}") from error


def no_model(path: str, head: bytes) -> str | None:
    """Returns what is said of a file that holds nothing, or what a download gets where the model is not."""
    if not head:
        return f"{path} is empty (0 bytes): save or copy the model again"
    is_page = head.lstrip().lower().startswith((b"<!doctype html", b"<html"))
    return f"{path} is a web page (HTML) and not the model's file: download it again" if is_page else None


def by_suffix(path: str, known: Iterable[Adapter]) -> tuple[Adapter, ...]:
    """Returns the adapters whose suffixes the name has."""
    return tuple(a for a in known if path.casefold().endswith(a.suffixes))


def _named(name: str) -> Adapter:
    found = _spelled(ADAPTERS, name) or _spelled(_third_party(), name)
    if found is None:
        raise NoAdapter(f"no adapter is called {name!r}; there are {_names()}")
    return found


def _asked(framework: str | None, form: str | None) -> Adapter | None:
    """Returns what the Kitfile asks for. Entry points are read (35 ms) only for names that no adapter of ours has."""
    if ours := _spelled(ADAPTERS, form, framework):
        return ours
    return _spelled(_third_party(), form, framework) if form or framework else None


def _known(asked: Adapter | None) -> tuple[Adapter, ...]:
    return ADAPTERS if asked is None or asked in ADAPTERS else (*ADAPTERS, asked)


def _spelled(known: Iterable[Adapter], *texts: str | None) -> Adapter | None:
    """Returns the one that the texts mean, the first text before the others."""
    names = [(form, a) for text in texts if text for form in spellings(text) for a in known]
    return next((a for form, a in names if form in (a.name, *a.frameworks) or f".{form}" in a.suffixes), None)


@cache
def _third_party() -> tuple[Adapter, ...]:
    """Returns the adapters of other packages. https://packaging.python.org/en/latest/specifications/entry-points/"""
    from importlib.metadata import entry_points

    found = []
    for point in entry_points(group=_GROUP):
        named = f"the adapter {point.name!r} ({point.value})"
        try:
            value = point.load()
        except Exception as error:  # another's package may be broken in any way
            raise NoAdapter(f"{named} cannot be imported: {reason(error)}") from error
        if not isinstance(value, Adapter):
            raise NoAdapter(f"{named} is no adapters.base.Adapter")
        found.append(value)
    return tuple(found)


def names() -> frozenset[str]:
    """Returns the names of all adapters; those of other packages are not imported."""
    from importlib.metadata import entry_points

    return frozenset([*(adapter.name for adapter in ADAPTERS), *(point.name for point in entry_points(group=_GROUP))])


def _no_adapter(
    path: str, framework: str | None, form: str | None, head: bytes = b"", inside: Sequence[str] = ()
) -> str:
    """Returns what to say of a file, or of a folder with what lies `inside`."""
    if told := advice(framework, form, path):
        return told
    if found := next((instead for pattern, instead in UNREAD if re.match(pattern, head)), None):
        return f"no adapter for {path!r}: {found}"
    said = " and ".join(f"{key} {value!r}" for key, value in (("format", form), ("framework", framework)) if value)
    asked = f"the Kitfile says {said}" if said else "no Kitfile names a framework"
    unknown = f"no file in it ({listed(inside, 3)}) is" if inside else "the file is not"
    kinds = f"{unknown} of a known kind; there are {_names()}; choose one with --adapter"
    return f"no adapter for {'the folder' if path == '.' else repr(path)}: {asked}, and {kinds}"


def _names() -> str:
    return ", ".join(dict.fromkeys(a.name for a in (*ADAPTERS, *_third_party())))
