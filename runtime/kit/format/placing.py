"""Which layer belongs to which entry of the Kitfile: by digest, or by order in kits packed before 0.5.0.

The rules are those of `util.go` and `legacy.go` in
https://github.com/kitops-ml/kitops/tree/main/pkg/lib/filesystem/unpack
"""

import posixpath
from collections.abc import Iterator
from typing import NamedTuple

from runtime.errors import InvalidKitfile
from runtime.kit.format.digest import Digest
from runtime.kit.format.kitfile import Entry, Kitfile, Section
from runtime.kit.format.manifest import Layer, Manifest

_KINDS: dict[Section, str] = {
    "model": "model", "part": "modelpart", "code": "code", "dataset": "dataset", "docs": "docs", "prompt": "code",
    "mcp": "mcpb",
}  # fmt: skip
_SERVED = ("model", "part", "code")


class Placed(NamedTuple):
    """An entry with its layer. `prefix` is the folder to unpack into, "" for the kit's own folder.

    In kits without digests the names of tar members are relative to the parent of the entry's path: the prefix.
    """

    entry: Entry
    section: Section
    layer: Layer
    prefix: str = ""


def place(kitfile: Kitfile, manifest: Manifest) -> tuple[Placed, ...]:
    """Returns every entry that has a layer with it, in the Kitfile's order. Raises InvalidKitfile if one is missing."""
    entries = tuple((section, entry) for section, entry in kitfile.entries if not entry.remote)
    by_rule = _by_digest if any(entry.digest for _, entry in entries) else _by_order
    return tuple(by_rule(entries, manifest))


def needed(placed: tuple[Placed, ...]) -> tuple[Placed, ...]:
    """Returns what serving needs: model, model parts and code, never datasets, docs or prompts."""
    return tuple(item for item in placed if item.section in _SERVED)


def unplaced(placed: tuple[Placed, ...], manifest: Manifest) -> tuple[Layer, ...]:
    """Returns the layers that no entry of the Kitfile names, layers of unknown kinds among them."""
    used = {(item.layer.descriptor.digest, item.layer.path) for item in placed}
    return tuple(layer for layer in manifest.layers if (layer.descriptor.digest, layer.path) not in used)


def _by_digest(entries: tuple[tuple[Section, Entry], ...], manifest: Manifest) -> Iterator[Placed]:
    layers: dict[tuple[object, ...], Layer] = {}
    for layer in reversed(manifest.layers):  # so that the first of equal ones stays
        path = None if layer.path is None else posixpath.normpath(layer.path)
        layers |= dict.fromkeys(_keys(layer.descriptor.digest, path, layer.kind, prompt=layer.prompt), layer)
    for section, entry in entries:
        assert entry.digest is not None  # since all entries have one, or none has: checked when a Kitfile is read
        keys = _keys(entry.digest, entry.path, _KINDS[section], prompt=section == "prompt")
        found = next((layers[key] for key in keys if key in layers), None)
        if found is None:
            wanted = f"{entry.digest}, which the Kitfile gives for {section} {entry.path!r}"
            raise InvalidKitfile(f"the manifest has no layer {wanted}; pack the kit again")
        yield Placed(entry, section, found)


def _keys(digest: Digest, path: str | None, kind: str, *, prompt: bool) -> tuple[tuple[object, ...], ...]:
    """Returns what a layer is looked up by, best first: raw files with the same bytes differ in path and kind only."""
    return (digest, path, kind, prompt), (digest, path), (digest, kind, prompt), (digest,)


def _by_order(entries: tuple[tuple[Section, Entry], ...], manifest: Manifest) -> Iterator[Placed]:
    for section, kind in _KINDS.items():
        named = [entry for place, entry in entries if place == section]
        found = [item for item in manifest.layers if item.kind == kind and item.prompt == (section == "prompt")]
        if len(named) != len(found):
            wanted = f"{len(named)} entries of section {section!r} and no digests"
            seen = f"{len(found)} layers of that kind, so they cannot be matched by order; pack the kit again"
            raise InvalidKitfile(f"the Kitfile has {wanted}, the manifest {seen}")
        for entry, layer in zip(named, found, strict=True):
            yield Placed(entry, section, layer, prefix=posixpath.dirname(entry.path))
