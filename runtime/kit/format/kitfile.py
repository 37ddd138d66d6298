"""The Kitfile: what the author says a kit is. In a registry it is the config blob, as JSON; in a folder it is YAML.

Fields: https://github.com/kitops-ml/kitops/blob/main/pkg/artifact/kitfile.go (KitOps 1.7 and later). Unknown keys are
left alone, since newer kits have more of them.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Literal, NamedTuple, Self

from runtime.errors import InvalidKitfile, NoModel
from runtime.kit.format.digest import Digest
from runtime.kit.format.json_text import read_object
from runtime.kit.format.manifest import Layer
from runtime.kit.format.paths import clean_path
from runtime.kit.format.reference import is_kit_reference

_SHOWN = 160  # characters of a name in a message
_MOST_CHARACTERS = 256  # of a text in metadata and metrics
_MOST_IN_DESCRIPTION = 4096
_MOST_AUTHORS = 100
_Document = Mapping[str, object]
_IsFile = Callable[[str], bool]

Section = Literal["model", "part", "code", "dataset", "docs", "prompt", "mcp"]
_LISTS: tuple[tuple[Section, str], ...] = (
    ("code", "code"), ("dataset", "datasets"), ("docs", "docs"), ("prompt", "prompts"), ("mcp", "mcpServers"),
)  # fmt: skip


class Entry(NamedTuple):
    """One entry of the Kitfile. It has a layer of its own, unless it is `remote`.

    `path` is cleaned: relative to the kit's folder, with forward slashes, inside it; "." is the folder itself.
    `digest` is that of the stored blob, `diff_id` that of the tar or file inside. Kits before 0.5.0 have neither.
    """

    path: str
    digest: Digest | None = None
    diff_id: Digest | None = None
    remote: bool = False


class ModelEntry(NamedTuple):
    """The model: a path inside the kit, or a `parent`, a reference to another kit; both once the parent's is known."""

    path: str | None = None
    parent: str | None = None
    framework: str = ""  # free text, like `format`
    format: str = ""
    parts: tuple[Entry, ...] = ()
    parameters: object = None  # any JSON value
    digest: Digest | None = None
    diff_id: Digest | None = None


class Kitfile(NamedTuple):
    """What the author says. `entries` are in the order in which Kit packs them, the model and its parts first."""

    name: str
    version: str
    description: str
    model: ModelEntry | None
    entries: tuple[tuple[Section, Entry], ...]
    authors: tuple[str, ...] = ()
    license: str = ""
    misplaced: str = ""
    """Where a `serving` block is that belongs into `model.parameters`, so that nothing reads it; "": there is none."""
    is_made_up: bool = False
    """True for what stands in for the Kitfile of a folder or a file that has none."""
    ignored: tuple[str, ...] = ()
    """The patterns of the `.kitignore` beside the Kitfile of a folder: files that are none of the kit's."""

    @classmethod
    def of_model(cls, path: str) -> Self:
        """Returns what stands in for a Kitfile where there is none: the model is in `path`, a file or a folder."""
        made = cls._from_document({"model": {"path": path}}, is_file=lambda _path: True)
        return made._replace(is_made_up=True)

    @classmethod
    def parse_json(cls, raw: bytes, layers: Sequence[Layer] = (), *, is_file: _IsFile | None = None) -> Self:
        """Reads the config blob of a kit whose manifest lists `layers`, or JSON in a folder. Raises InvalidKitfile.

        Is a `model.path` like `weights:final.bin`, without a digest, a path or a reference to a parent kit? A path if
        `is_file` says so; without `is_file`, if there is a model layer.
        """
        has_model_layer = any(layer.kind == "model" for layer in layers)
        document = read_object(raw, "the Kitfile in the kit's config", InvalidKitfile)
        return cls._from_document(document, is_file=is_file or (lambda _path: has_model_layer))

    @classmethod
    def parse_yaml(cls, text: str, is_file: _IsFile = lambda _path: False) -> Self:
        """Reads a Kitfile as people write it (see `kitfile_yaml`), with `is_file` as above. Raises InvalidKitfile."""
        from runtime.kit.format.kitfile_yaml import read_yaml  # here, because a kit from a registry needs no YAML

        return cls._from_document(read_yaml(text), is_file=is_file)

    @classmethod
    def _from_document(cls, document: _Document, *, is_file: _IsFile) -> Self:
        package = _map(document, "package")
        name, version = (_short(_text(package, key, "package.")) for key in ("name", "version"))
        said = _map(document, "model")
        description, licence = (
            _text(package, key, "package.") or _text(said, key, "model.") for key in ("description", "license")
        )
        authors, model = _authors(package), _model(said, is_file)
        entries: list[tuple[Section, Entry]] = []
        if model and model.path is not None:
            entries.append(("model", Entry(model.path, model.digest, model.diff_id)))
        entries += [("part", part) for part in (model.parts if model else ())]
        entries += [(section, entry) for section, key in _LISTS for entry in _entries(document, key, key)]
        description, licence = _short(description, _MOST_IN_DESCRIPTION), _short(licence)
        kitfile = cls(name, version, description, model, tuple(entries), authors, licence, _misplaced(document))
        bare = [entry.path for entry in kitfile.layered if entry.digest is None]
        if bare and len(bare) != len(kitfile.layered):  # as KitOps 1.6 writes it
            seen = f"gives a digest for some entries and none for {bare[0]!r}"
            raise InvalidKitfile(f"the Kitfile {seen}, so its layers cannot be told apart; pack the kit again")
        return kitfile

    @property
    def about(self) -> dict[str, str]:
        """What people want to know of the kit, as far as its author says it."""
        package = " ".join(filter(None, (self.name, self.version)))
        facts = {"package": package, "description": self.description, "authors": ", ".join(self.authors)}
        return {key: text for key, text in {**facts, "license": self.license}.items() if text}

    @property
    def layered(self) -> tuple[Entry, ...]:
        """Every entry that has a layer in the manifest."""
        return tuple(entry for _, entry in self.entries if not entry.remote)

    @property
    def code(self) -> tuple[Entry, ...]:
        """The code that the model needs."""
        return tuple(entry for section, entry in self.entries if section == "code")


def check_servable(kitfile: Kitfile) -> None:
    """Raises NoModel, saying what the kit holds instead."""
    name = f"kit {kitfile.name[:_SHOWN]!r}" if kitfile.name else "the kit"
    if kitfile.model is None or kitfile.model.path is None:
        held = [f"{section} {entry.path[:_SHOWN]!r}" for section, entry in kitfile.entries]
        holds = f"only {', '.join(held[:5])}" + (", …" if len(held) > 5 else "") if held else "nor anything else"
        raise NoModel(f"{name} has no model to serve, {holds}; give model.path in the Kitfile and pack it again")


def _authors(package: _Document) -> tuple[str, ...]:
    authors = package.get("authors")
    return tuple(_short(str(author)) for author in authors[:_MOST_AUTHORS]) if isinstance(authors, list) else ()


def _short(text: str, most: int = _MOST_CHARACTERS) -> str:
    return text if len(text) <= most else f"{text[: most - 1]}…"


def _misplaced(document: _Document) -> str:
    inner = {f"{key}.serving": document.get(key) for key in ("model", "parameters", "package")}
    places = {"serving": document, **inner}
    return next((where for where, block in places.items() if isinstance(block, dict) and "serving" in block), "")


def _model(model: _Document, is_file: _IsFile) -> ModelEntry | None:
    if not model:
        return None
    texts = ("path", "framework", "format", "name", "version", "description")
    written, framework, form, *_ = (_text(model, key, "model.") for key in texts)  # all have to be text
    digest, diff_id = (_digest(model, key, "model") for key in ("digest", "diffId"))
    is_parent = is_kit_reference(written) and digest is None and not is_file(written)
    path = clean_path(written, "model.path") if written and not is_parent else None
    parent = written if is_parent else None
    parts = _entries(model, "parts", "model.parts")
    return ModelEntry(path, parent, _short(framework), _short(form), parts, model.get("parameters"), digest, diff_id)


def _entries(document: _Document, key: str, where: str) -> tuple[Entry, ...]:
    value = document.get(key)
    if not isinstance(value, list | None):
        raise InvalidKitfile(f"the Kitfile's {where} is not a list")
    return tuple(_entry(item, f"{where}[{number}]") for number, item in enumerate(value or ()))


def _entry(item: object, where: str) -> Entry:
    if not isinstance(item, dict):
        raise InvalidKitfile(f"the Kitfile's {where} is not a map with a path")
    for key in ("name", "type"):
        _text(item, key, f"{where}.")
    path = clean_path(_text(item, "path", f"{where}."), f"{where}.path")
    remote = bool(_text(item, "remotePath", f"{where}."))
    return Entry(path, _digest(item, "digest", where), _digest(item, "diffId", where), remote)


def _map(document: _Document, key: str) -> _Document:
    value = document.get(key)
    if not isinstance(value, dict | None):
        raise InvalidKitfile(f"the Kitfile's {key} is not a map")
    return value or {}


def _text(document: _Document, key: str, prefix: str) -> str:
    value = document.get(key)
    if isinstance(value, dict | list | bool):
        raise InvalidKitfile(f"the Kitfile's {prefix}{key} is not text")
    return "" if value is None else str(value)


def _digest(document: _Document, key: str, where: str) -> Digest | None:
    text = _text(document, key, f"{where}.")
    try:
        return Digest.parse(text) if text else None
    except ValueError as problem:
        raise InvalidKitfile(f"the Kitfile's {where}.{key} is bad: {problem}") from problem
