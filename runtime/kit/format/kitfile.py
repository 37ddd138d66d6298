"""The Kitfile: what the author says a kit is. In a registry it is the config blob, as JSON; in a folder it is YAML.

Fields: https://github.com/kitops-ml/kitops/blob/main/pkg/artifact/kitfile.go (KitOps 1.7 and later). Unknown keys are
left alone, since newer kits have more of them.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Literal, NamedTuple, Self

from runtime.errors import InvalidKitfile, NoModel, Unsupported
from runtime.kit.format.digest import Digest
from runtime.kit.format.json_text import read_object
from runtime.kit.format.manifest import Layer
from runtime.kit.format.paths import clean_path
from runtime.kit.format.reference import is_kit_reference

_SHOWN = 160  # characters of a name in a message
_Document = Mapping[str, object]

Section = Literal["model", "part", "code", "dataset", "docs", "prompt", "mcp"]
_WORDS: dict[Section, tuple[str, str]] = {
    "part": ("model part", "model parts"),
    "code": ("code entry", "code entries"),
    "dataset": ("dataset", "datasets"),
    "docs": ("docs entry", "docs entries"),
    "prompt": ("prompt", "prompts"),
    "mcp": ("MCP server", "MCP servers"),
}


class Entry(NamedTuple):
    """One entry of the Kitfile. It has a layer of its own, unless it is `remote`.

    `path` is cleaned: relative to the kit's folder, with forward slashes, inside it; "." is the folder itself.
    `digest` is that of the stored blob, `diff_id` that of the tar or file inside. Kits before 0.5.0 have neither.
    """

    path: str
    name: str = ""
    type: str = ""
    digest: Digest | None = None
    diff_id: Digest | None = None
    remote: bool = False


class ModelEntry(NamedTuple):
    """The model: a path inside the kit, or a `parent`, which is a reference to another kit, never both.

    `framework` and `format` are free text, as written. `parameters` is any JSON value.
    """

    path: str | None = None
    parent: str | None = None
    name: str = ""
    framework: str = ""
    format: str = ""
    version: str = ""
    description: str = ""
    parts: tuple[Entry, ...] = ()
    parameters: object = None
    digest: Digest | None = None
    diff_id: Digest | None = None


class Kitfile(NamedTuple):
    """What the author says."""

    name: str
    version: str
    description: str
    model: ModelEntry | None
    code: tuple[Entry, ...]
    datasets: tuple[Entry, ...]
    docs: tuple[Entry, ...]
    prompts: tuple[Entry, ...]
    mcp_servers: tuple[Entry, ...] = ()

    @classmethod
    def parse_json(
        cls,
        raw: bytes,
        layers: Sequence[Layer] = (),
        *,
        subject: str = "the Kitfile in the kit's config",
        is_file: Callable[[str], bool] | None = None,
    ) -> Self:
        """Reads the config blob of a kit whose manifest lists `layers`, or JSON in a folder. Raises InvalidKitfile.

        Is a `model.path` like `weights:final.bin`, without a digest, a path or a reference to a parent kit? A path if
        `is_file` says so; without `is_file`, if there is a model layer.
        """
        has_model_layer = any(layer.kind == "model" for layer in layers)
        document = read_object(raw, subject, InvalidKitfile)
        return cls._from_document(document, is_file=is_file or (lambda _path: has_model_layer))

    @classmethod
    def parse_yaml(cls, text: str, is_file: Callable[[str], bool] = lambda _path: False) -> Self:
        """Reads a Kitfile as people write it; `is_file` tells whether the kit's folder has something at a path.

        Scalars keep their literal text (`version: 1.0` is "1.0") except under `parameters`. Raises InvalidKitfile.
        """
        from runtime.kit.format.kitfile_yaml import read_yaml  # here, because a kit from a registry needs no YAML

        return cls._from_document(read_yaml(text), is_file=is_file)

    @classmethod
    def _from_document(cls, document: _Document, *, is_file: Callable[[str], bool]) -> Self:
        package = _map(document, "package", "package")
        kitfile = cls(
            name=_text(package, "name", "package."),
            version=_text(package, "version", "package."),
            description=_text(package, "description", "package."),
            model=_model(_map(document, "model", "model"), is_file),
            code=_entries(document, "code", "code"),
            datasets=_entries(document, "datasets", "datasets"),
            docs=_entries(document, "docs", "docs"),
            prompts=_entries(document, "prompts", "prompts"),
            mcp_servers=_entries(document, "mcpServers", "mcpServers"),
        )
        _check_digests(kitfile)
        return kitfile

    @property
    def layered(self) -> tuple[Entry, ...]:
        """Every entry that has a layer in the manifest, in the order in which Kit packs them."""
        return tuple(entry for _, entry in self.entries() if not entry.remote)

    def entries(self) -> Iterator[tuple[Section, Entry]]:
        """Every entry with its section, in the order in which Kit packs them."""
        model = self.model
        if model and model.path is not None:
            yield "model", Entry(model.path, model.name, "", model.digest, model.diff_id)
        lists: tuple[tuple[Section, tuple[Entry, ...]], ...] = (
            ("part", model.parts if model else ()),
            ("code", self.code),
            ("dataset", self.datasets),
            ("docs", self.docs),
            ("prompt", self.prompts),
            ("mcp", self.mcp_servers),
        )
        for section, entries in lists:
            yield from ((section, entry) for entry in entries)


def check_servable(kitfile: Kitfile) -> None:
    """Raises NoModel, saying what the kit holds instead, or Unsupported, naming the kit that has the model."""
    name = f"kit {kitfile.name[:_SHOWN]!r}" if kitfile.name else "the kit"
    if kitfile.model and kitfile.model.parent:
        parent = kitfile.model.parent[:_SHOWN]
        raise Unsupported(
            f"{name} takes its model from another kit, {parent!r}, which this version cannot do; "
            "serve that kit, or pack one with the model inside"
        )
    if kitfile.model is None or kitfile.model.path is None:
        fix = "give model.path in the Kitfile and pack it again"
        raise NoModel(f"{name} has no model to serve, {_holdings(kitfile)}; {fix}")


def _holdings(kitfile: Kitfile) -> str:
    """Says what a kit without a model holds: "only 1 dataset (data.csv)"."""
    held = []
    for section, words in _WORDS.items():
        if paths := [entry.path[:_SHOWN] for place, entry in kitfile.entries() if place == section]:
            more = ", …" if len(paths) > 3 else ""
            held.append(f"{len(paths)} {words[len(paths) > 1]} ({', '.join(paths[:3])}{more})")
    return f"only {' and '.join(held)}" if held else "nor anything else"


def _check_digests(kitfile: Kitfile) -> None:
    """Refuses a Kitfile in which some layered entries have a digest and some have none, as KitOps 1.6 does."""
    layered = kitfile.layered
    bare = [entry.path for entry in layered if entry.digest is None]
    if bare and len(bare) != len(layered):
        raise InvalidKitfile(
            f"the Kitfile gives a digest for some entries and none for {bare[0]!r}, so its layers cannot be told "
            "apart; pack the kit again"
        )


# --- fields


def _model(model: _Document, is_file: Callable[[str], bool]) -> ModelEntry | None:
    if not model:
        return None
    written, digest = _text(model, "path", "model."), _digest(model, "digest", "model")
    parent = is_kit_reference(written) and digest is None and not is_file(written)
    return ModelEntry(
        path=clean_path(written, "model.path") if written and not parent else None,
        parent=written if parent else None,
        name=_text(model, "name", "model."),
        framework=_text(model, "framework", "model."),
        format=_text(model, "format", "model."),
        version=_text(model, "version", "model."),
        description=_text(model, "description", "model."),
        parts=_entries(model, "parts", "model.parts"),
        parameters=model.get("parameters"),
        digest=digest,
        diff_id=_digest(model, "diffId", "model"),
    )


def _entries(document: _Document, key: str, where: str) -> tuple[Entry, ...]:
    value = document.get(key)
    if value is None:
        return ()
    if not isinstance(value, list):
        raise InvalidKitfile(f"the Kitfile's {where} is not a list")
    return tuple(_entry(item, f"{where}[{number}]") for number, item in enumerate(value))


def _entry(item: object, where: str) -> Entry:
    if not isinstance(item, dict):
        raise InvalidKitfile(f"the Kitfile's {where} is not a map with a path")
    remote = bool(_text(item, "remotePath", f"{where}."))
    return Entry(
        path=clean_path(_text(item, "path", f"{where}."), f"{where}.path"),
        name=_text(item, "name", f"{where}."),
        type=_text(item, "type", f"{where}."),
        digest=_digest(item, "digest", where),
        diff_id=_digest(item, "diffId", where),
        remote=remote,
    )


def _map(document: _Document, key: str, where: str) -> _Document:
    value = document.get(key)
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise InvalidKitfile(f"the Kitfile's {where} is not a map")
    return value


def _text(document: _Document, key: str, prefix: str) -> str:
    value = document.get(key)
    if value is None:
        return ""
    if isinstance(value, dict | list | bool):
        raise InvalidKitfile(f"the Kitfile's {prefix}{key} is not text")
    return str(value)


def _digest(document: _Document, key: str, where: str) -> Digest | None:
    text = _text(document, key, f"{where}.")
    if not text:
        return None
    try:
        return Digest.parse(text)
    except ValueError as problem:
        raise InvalidKitfile(f"the Kitfile's {where}.{key} is bad: {problem}") from problem
