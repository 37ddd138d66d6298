"""The Kitfile: what the author says a kit is. In a registry it is the config blob, as JSON; in a folder it is YAML.

Fields: KitOps `pkg/artifact/kitfile.go` 1.7 and later. Unknown keys are left alone: newer kits have more of them.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple, Self

from runtime.errors import InvalidKitfile, NoModel, Unsupported
from runtime.kit.format.digest import Digest
from runtime.kit.format.json_text import read_json
from runtime.kit.format.manifest import Layer
from runtime.kit.format.paths import clean_path, is_kit_reference

KITFILE_NAMES = ("Kitfile", "kitfile", ".kitfile")  # in the order in which Kit looks for them
_SHOWN = 160  # characters of a name in a message
_Document = Mapping[str, object]


class Entry(NamedTuple):
    """One thing the Kitfile names, with a layer of its own (unless `remote`).

    `path` is cleaned: relative to the kit's folder, with forward slashes, inside it; "." is the folder itself.
    `digest` is that of the stored blob, `diff_id` that of the tar or file inside; kits before 0.5.0 have neither.
    """

    path: str
    name: str = ""
    type: str = ""
    digest: Digest | None = None
    diff_id: Digest | None = None
    remote: bool = False


class ModelEntry(NamedTuple):
    """The model: a path inside the kit, or a `parent`, which is a reference to another kit; never both.

    `framework` and `format` are free text, as written. `parameters` is any JSON.
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
    """What the author says; `document` is all of it as it was written, for showing and for keys of others."""

    manifest_version: str
    name: str
    version: str
    description: str
    model: ModelEntry | None
    code: tuple[Entry, ...]
    datasets: tuple[Entry, ...]
    docs: tuple[Entry, ...]
    prompts: tuple[Entry, ...]
    document: Mapping[str, object]
    mcp_servers: tuple[Entry, ...] = ()

    @classmethod
    def parse_json(cls, raw: bytes, layers: Sequence[Layer] = ()) -> Self:
        """Read the config blob of a kit whose manifest lists `layers`.

        The layers settle what `model.path` is where a kit without digests writes `weights:final.bin`: a path if there
        is a model layer, else a reference to a parent. Raises InvalidKitfile.
        """
        document = read_json(raw, "the Kitfile in the kit's config", InvalidKitfile)
        if not isinstance(document, dict):
            raise InvalidKitfile("the Kitfile in the kit's config is not a JSON object")
        has_model_layer = any(layer.kind == "model" for layer in layers)
        return cls.from_document(document, is_file=lambda _path: has_model_layer)

    @classmethod
    def parse_yaml(cls, text: str, is_file: Callable[[str], bool] = lambda _path: False) -> Self:
        """Read a Kitfile as people write it; `is_file` tells whether the kit's folder has something at a path.

        Scalars keep their literal text (`version: 1.0` is "1.0") except under `parameters`. Raises InvalidKitfile.
        """
        from runtime.kit.format.kitfile_yaml import read_yaml  # here, because a kit from a registry needs no YAML

        return cls.from_document(read_yaml(text), is_file=is_file)

    @classmethod
    def from_document(cls, document: _Document, *, is_file: Callable[[str], bool]) -> Self:
        """Read a Kitfile that has been parsed already; `is_file` as in `parse_yaml`. Raises InvalidKitfile."""
        package = _map(document, "package", "package")
        kitfile = cls(
            manifest_version=_text(document, "manifestVersion", ""),
            name=_text(package, "name", "package."),
            version=_text(package, "version", "package."),
            description=_text(package, "description", "package."),
            model=_model(_map(document, "model", "model"), is_file),
            code=_entries(document, "code", "code"),
            datasets=_entries(document, "datasets", "datasets"),
            docs=_entries(document, "docs", "docs"),
            prompts=_entries(document, "prompts", "prompts"),
            document=document,
            mcp_servers=_entries(document, "mcpServers", "mcpServers"),
        )
        _check_digests(kitfile)
        return kitfile

    @property
    def layered(self) -> tuple[Entry, ...]:
        """Every entry that has a layer in the manifest, in the order in which Kit packs them."""
        parts = self.model.parts if self.model else ()
        rest = (*parts, *self.code, *self.datasets, *self.docs, *self.prompts, *self.mcp_servers)
        model = model_file(self.model)
        return (*((model,) if model else ()), *(entry for entry in rest if not entry.remote))


def model_file(model: ModelEntry | None) -> Entry | None:
    """Give the model as an entry like the others, or None where it has no path in this kit."""
    if model is None or model.path is None:
        return None
    return Entry(model.path, model.name, "", model.digest, model.diff_id)


def check_servable(kitfile: Kitfile) -> None:
    """Pass where the kit has a model of its own.

    Raises NoModel, saying what the kit does hold, and Unsupported, naming the parent kit.
    """
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
    """Say what a kit without a model holds: "only 1 dataset (data.csv)"."""
    parts = kitfile.model.parts if kitfile.model else ()
    sections = {
        "model part": parts,
        "code entry": kitfile.code,
        "dataset": kitfile.datasets,
        "docs entry": kitfile.docs,
        "prompt": kitfile.prompts,
        "MCP server": kitfile.mcp_servers,
    }
    held = [_count(word, entries) for word, entries in sections.items() if entries]
    return f"only {' and '.join(held)}" if held else "nor anything else"


def _count(word: str, entries: Sequence[Entry]) -> str:
    plural = word if len(entries) == 1 else (word[:-1] + "ies" if word.endswith("y") else word + "s")
    paths = ", ".join(entry.path[:_SHOWN] for entry in entries[:3]) + (", …" if len(entries) > 3 else "")
    return f"{len(entries)} {plural} ({paths})"


def _check_digests(kitfile: Kitfile) -> None:
    """Refuse a Kitfile in which some layered entries have a digest and some have none (1.6 of KitOps' rules)."""
    bare = [entry.path for entry in kitfile.layered if entry.digest is None]
    if bare and len(bare) != len(kitfile.layered):
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
