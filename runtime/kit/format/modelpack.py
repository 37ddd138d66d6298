"""The Kitfile of a ModelPack artifact: the one that Kit adds as an annotation, or one made of its layers and config.

Config: https://github.com/modelpack/model-spec/blob/main/docs/config.md; the rules are those of Kit,
https://github.com/kitops-ml/kitops/blob/main/pkg/artifact/util.go
"""

import json

from runtime.errors import InvalidKitfile
from runtime.kit.format.json_text import read_object
from runtime.kit.format.kitfile import Kitfile
from runtime.kit.format.manifest import Layer, Manifest

_LISTS = {"modelpart": "parts", "code": "code", "dataset": "datasets", "docs": "docs"}


def pack_kitfile(config: bytes, manifest: Manifest) -> Kitfile:
    """Returns what stands for a Kitfile; `config` is verified. Raises InvalidKitfile."""
    if manifest.kitfile:
        return Kitfile.parse_json(manifest.kitfile.encode(), manifest.layers)
    document = read_object(config, "the config of the ModelPack artifact", InvalidKitfile)
    described, facts = (_map(document, key) for key in ("descriptor", "config"))
    lists: dict[str, list[object]] = {}
    model: dict[str, object] = {}
    for layer in manifest.layers:
        entry = {"path": layer.path, "digest": str(layer.descriptor.digest), **_diff_id(layer)}
        if layer.kind == "model":
            model = {**entry, "format": facts.get("format")}
        else:
            lists.setdefault("prompts" if layer.prompt else _LISTS[layer.kind], []).append(entry)
    package = {key: described.get(key) for key in ("name", "version", "description")}
    parts = {"parts": lists.pop("parts")} if "parts" in lists else {}
    made: dict[str, object] = {"package": package, "model": {**model, **parts}, **lists}
    return Kitfile.parse_json(json.dumps(made).encode(), manifest.layers)


def _diff_id(layer: Layer) -> dict[str, object]:
    """Returns the digest of the content where it is certain: of a layer that is not compressed."""
    return {} if layer.compression else {"diffId": str(layer.descriptor.digest)}


def _map(document: dict[str, object], key: str) -> dict[str, object]:
    value = document.get(key)
    if not isinstance(value, dict | None):
        raise InvalidKitfile(f"the {key} of the ModelPack artifact's config is not a map")
    return value or {}
