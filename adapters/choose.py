"""Which adapter serves a kit, and which one file of it: operator, format, framework, then the file itself."""

from __future__ import annotations

import posixpath
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import Final

from adapters import python
from adapters.base import Adapter, AdapterError, AmbiguousModel, LoadFailed, Model, ModelFiles, NoAdapter, Options
from adapters.boosted import catboost, lightgbm, xgboost
from adapters.elsewhere import advice
from adapters.onnx import adapter as onnx
from adapters.pytorch import adapter as pytorch
from adapters.sklearn import adapter as sklearn
from adapters.spelling import spellings
from adapters.trust import check_level

ADAPTERS: Final[tuple[Adapter, ...]] = (
    onnx.ADAPTER,
    sklearn.ADAPTER,
    pytorch.ADAPTER,
    xgboost.ADAPTER,
    lightgbm.ADAPTER,
    catboost.ADAPTER,
    python.ADAPTER,
)
GROUP: Final = "modelkit_runtime.adapters"
HEAD_BYTES: Final = 4096
SNIFFED_FILES: Final = 256
"""In a folder with more files than this only those with a known suffix are looked into."""

Warn = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class _Candidate:
    path: str
    by_suffix: tuple[Adapter, ...]
    by_content: tuple[Adapter, ...]

    @property
    def rank(self) -> int:
        """3: name and content agree; 2: content alone; 1: name alone; 0: nothing known."""
        agreed = any(a in self.by_suffix for a in self.by_content)
        return 3 if agreed else 2 if self.by_content else 1 if self.by_suffix else 0

    def verdict(self, asked: Adapter | None) -> Adapter | None:
        """The adapter this file is for; `asked` wins where the file allows it."""
        fits = self.by_content or self.by_suffix
        if asked in fits:
            return asked
        return next((a for a in fits if a in self.by_suffix), fits[0] if fits else None)


def choose(
    files: ModelFiles,
    *,
    framework: str | None,
    format: str | None,  # noqa: A002 - the Kitfile's word
    adapter: str | None = None,
    warn: Warn,
) -> tuple[Adapter, ModelFiles]:
    """The adapter, and `files` with `path` on the one file chosen.

    In order: the operator's `adapter`, `model.format`, `model.framework`, the file's suffix, its content.

    A file that contradicts what the Kitfile says wins, with one `warn`.
    Raises NoAdapter, AmbiguousModel, and LoadFailed when `files.path` is not in the kit.
    """
    candidates = _candidate_paths(files)
    if adapter is not None:
        return _fitted(_named(adapter), files, candidates)
    asked = _asked(framework, format)
    if asked is not None and not asked.suffixes:
        return asked, files  # it makes no claim about files, so no file can contradict it
    chosen, path = _by_files(files, candidates, asked, _known(asked))
    if chosen is None:
        chosen, path = _by_files(files, candidates, None, _third_party())
    if chosen is None:
        raise NoAdapter(_no_adapter(files.path, framework, format))
    said = format if format and asked is _spelled(format, _known(asked)) else framework
    if chosen is not asked and (framework or format):
        warn(f"the Kitfile says {said or format!r}; {path} is of {chosen.name}: the file decides")
    return chosen, replace(files, path=path)


def guess(
    path: str,
    parts: Sequence[str] = (),  # noqa: ARG001 - names of a folder's files may decide one day, as they do in choose
    *,
    framework: str | None,
    format: str | None,  # noqa: A002 - the Kitfile's word
    adapter: str | None = None,
) -> Adapter | None:
    """The adapter that `choose` will likely take, from names alone; None when only the files can tell.

    It may be wrong: content decides in the end, so whoever imports the framework early on this word must not fail
    on it. Raises NoAdapter when the name asked for is unknown and the path says nothing either.
    """
    if adapter is not None:
        return _named(adapter)
    asked = _asked(framework, format)
    suffixed = _by_suffix(path, _known(asked))
    if asked is not None and (asked in suffixed or not suffixed or not asked.suffixes):
        return asked
    if suffixed:
        return suffixed[0]
    if not posixpath.splitext(path)[1]:
        return None  # a folder, or a file whose content has to say
    if theirs := _by_suffix(path, _third_party()):
        return theirs[0]
    if framework or format or advice(None, None, path):
        raise NoAdapter(_no_adapter(path, framework, format))
    return None


def load(
    files: ModelFiles,
    options: Options,
    *,
    framework: str | None,
    format: str | None,  # noqa: A002 - the Kitfile's word
    adapter: str | None = None,
    warn: Warn,
) -> tuple[Adapter, Model]:
    """The chosen adapter and its loaded model. Raises AdapterError and nothing else."""
    check_level(options.trust)
    chosen, found = choose(files, framework=framework, format=format, adapter=adapter, warn=warn)
    try:
        model = chosen.load(found, options)
    except AdapterError:
        raise
    except Exception as error:  # whatever a framework raises for a bad file ends in one line
        reason = " ".join(str(error).split())[:300] or type(error).__name__
        raise LoadFailed(f"{found.path} cannot be loaded by the {chosen.name} adapter: {reason}") from error
    if "warning" in model.properties:
        warn(model.properties["warning"])
    return chosen, _completed(model, options, found.path)


def _completed(model: Model, options: Options, path: str) -> Model:
    """The model with what the kit says about it: labels and default outputs."""
    names = [spec.name for spec in model.outputs]
    if unknown := [name for name in options.outputs if name not in names]:
        raise LoadFailed(f"serving.outputs names {unknown[0]!r}; {path} gives {', '.join(names)}")
    labels = model.labels if options.labels is None else options.labels
    return replace(model, labels=labels, default_outputs=options.outputs or model.default_outputs)


def _candidate_paths(files: ModelFiles) -> list[str]:
    """The file at `files.path`, or the files below that folder which the Kitfile does not name as something else."""
    if files.path in files.files:
        return [files.path]
    below = [f for f in files.files if files.path == "." or f.startswith(files.path + "/")]
    if not below:
        raise LoadFailed(f"model.path {files.path!r} is not in the kit, which holds {_listed(files.files)}")
    others = [
        p for p in (*files.parts, *files.code) if p != files.path and not files.path.startswith(p + "/") and p != "."
    ]
    left = [f for f in below if not any(f == p or f.startswith(p + "/") for p in others)]
    return left or below


def _by_files(
    files: ModelFiles, paths: list[str], asked: Adapter | None, known: tuple[Adapter, ...]
) -> tuple[Adapter | None, str]:
    candidates = _examined(files, paths, known)
    if len(candidates) == 1:
        return candidates[0].verdict(asked) or asked, candidates[0].path
    mine = [c for c in candidates if asked is not None and c.verdict(asked) is asked]
    best = _best(mine) or _best([c for c in candidates if c.rank])
    if len(best) == 1:
        return best[0].verdict(asked), best[0].path
    if best:
        raise AmbiguousModel(_ambiguous(files.path, best, asked))
    if asked is not None:
        raise NoAdapter(f"model.path {files.path!r} holds no file of {asked.name}: {_listed(paths)}")
    return None, files.path


def _best(candidates: list[_Candidate]) -> list[_Candidate]:
    top = max((c.rank for c in candidates), default=0)
    return [c for c in candidates if c.rank == top]


def _examined(files: ModelFiles, paths: list[str], known: tuple[Adapter, ...]) -> list[_Candidate]:
    look_into_all = len(paths) <= SNIFFED_FILES
    found = []
    for path in paths:
        by_suffix = _by_suffix(path, known)
        head = _head(files, path) if by_suffix or look_into_all else b""
        found.append(_Candidate(path, by_suffix, tuple(a for a in known if head and a.sniff(head))))
    return found


def _head(files: ModelFiles, path: str) -> bytes:
    try:
        with (files.root / path).open("rb") as file:
            return file.read(HEAD_BYTES)
    except OSError as error:
        raise LoadFailed(f"{path} cannot be read: {error.strerror}") from error


def _fitted(chosen: Adapter, files: ModelFiles, paths: list[str]) -> tuple[Adapter, ModelFiles]:
    """The operator's adapter with the file that fits it best; no file can contradict the operator."""
    if not chosen.suffixes:
        return chosen, files
    candidates = _examined(files, paths, (chosen,))
    best = candidates if len(candidates) == 1 else _best([c for c in candidates if c.rank])
    if len(best) > 1:
        raise AmbiguousModel(_ambiguous(files.path, best, chosen))
    if not best:
        raise NoAdapter(f"model.path {files.path!r} holds no file of {chosen.name}: {_listed(paths)}")
    return chosen, replace(files, path=best[0].path)


def _by_suffix(path: str, known: Iterable[Adapter]) -> tuple[Adapter, ...]:
    return tuple(a for a in known if path.casefold().endswith(a.suffixes) and a.suffixes)


def _named(name: str) -> Adapter:
    found = _spelled(name, ADAPTERS) or _spelled(name, _third_party())
    if found is None:
        raise NoAdapter(f"no adapter is called {name!r}; there are {_names((*ADAPTERS, *_third_party()))}")
    return found


def _asked(framework: str | None, form: str | None) -> Adapter | None:
    """What the Kitfile asks for. Entry points are scanned (35 ms) only for names that are none of ours."""
    names = [name for name in (form, framework) if name]
    ours = next((found for name in names if (found := _spelled(name, ADAPTERS))), None)
    if ours is not None or not names:
        return ours
    return next((found for name in names if (found := _spelled(name, _third_party()))), None)


def _known(asked: Adapter | None) -> tuple[Adapter, ...]:
    return ADAPTERS if asked is None or asked in ADAPTERS else (*ADAPTERS, asked)


def _spelled(text: str, known: Iterable[Adapter]) -> Adapter | None:
    forms = spellings(text)
    by_name = [a for form in forms for a in known if form == a.name or form in a.frameworks or f".{form}" in a.suffixes]
    return by_name[0] if by_name else None


@cache
def _third_party() -> tuple[Adapter, ...]:
    from importlib.metadata import entry_points

    found = []
    for point in entry_points(group=GROUP):
        try:
            value = point.load()
        except Exception as error:  # another's package may be broken in any way
            raise NoAdapter(f"the adapter {point.name!r} ({point.value}) cannot be imported: {error}") from error
        if not isinstance(value, Adapter):
            raise NoAdapter(f"the adapter {point.name!r} ({point.value}) is no adapters.base.Adapter")
        found.append(value)
    return tuple(found)


def _no_adapter(path: str, framework: str | None, form: str | None) -> str:
    if told := advice(framework, form, path):
        return told
    said = " and ".join(f"{key} {value!r}" for key, value in (("format", form), ("framework", framework)) if value)
    there = f"there are {_names((*ADAPTERS, *_third_party()))}"
    asked = f"the Kitfile says {said}" if said else "the Kitfile names no framework"
    return f"no adapter for {path!r}: {asked}, and the file is of no known kind; {there}; choose one with --adapter"


def _ambiguous(path: str, candidates: list[_Candidate], asked: Adapter | None) -> str:
    listed = ", ".join(f"{c.path} ({found.name})" for c in candidates if (found := c.verdict(asked)))
    return f"model.path {path!r} could mean any of {listed}; name one file in model.path"


def _names(adapters: Iterable[Adapter]) -> str:
    return ", ".join(dict.fromkeys(a.name for a in adapters))


def _listed(names: Sequence[str]) -> str:
    shown = ", ".join(names[:8]) or "nothing"
    return f"{shown} and {len(names) - 8} more" if len(names) > 8 else shown
