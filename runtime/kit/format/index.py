"""A ModelKit index: several kits under one name, each with labels, of which one is selected.

https://github.com/kitops-ml/kitops/blob/main/pkg/lib/index/select.go
"""

import json
from collections.abc import Iterable
from typing import Final

from runtime.errors import InvalidManifest, NotFound
from runtime.kit.format.digest import Digest
from runtime.kit.format.json_text import read_object
from runtime.kit.format.manifest import Descriptor, parse_descriptor
from runtime.kit.format.media_types import KIT_INDEX_TYPE

Labels = tuple[tuple[str, str], ...]

_MOST_ENTRIES: Final = 1000
_SHOWN: Final = 10


def selected(raw: bytes, subject: str, select: Labels) -> Digest | None:
    """Returns the digest of the one kit with all those labels in a verified index; None if `raw` is no kit index.

    Raises NotFound with the kits that there are, InvalidManifest.
    """
    if b'"manifests"' not in raw:
        return None
    document = read_object(raw, subject, InvalidManifest)
    listed = document.get("manifests")
    if document.get("artifactType") != KIT_INDEX_TYPE or "layers" in document:
        return None
    if not isinstance(listed, list) or len(listed) > _MOST_ENTRIES:
        raise InvalidManifest(f"{subject} has no list of at most {_MOST_ENTRIES} manifests")
    kits = [(parse_descriptor(item, f"{subject}: manifest {n}"), _labels(item)) for n, item in enumerate(listed, 1)]
    fitting = [(kit, labels) for kit, labels in kits if set(select) <= set(labels)]
    if len(fitting) == 1:
        return fitting[0][0].digest
    asked = ", ".join(f"{key}={value}" for key, value in select)
    if fitting:
        which = f" with {asked}" if asked else ""
        raise NotFound(f"{subject} has {len(fitting)} kits{which}, select one by --select KEY=VALUE: {_shown(fitting)}")
    raise NotFound(f"{subject} has no kit with {asked or 'any labels'}; it has {_shown(kits) or 'none'}")


def _labels(item: dict[str, object]) -> Labels:
    found = item.get("modelMetadata")
    if not isinstance(found, dict):
        return ()
    return tuple((key, text if isinstance(text, str) else json.dumps(text)) for key, text in found.items())


def _shown(kits: Iterable[tuple[Descriptor, Labels]]) -> str:
    texts = [
        f"{kit.digest} ({', '.join(f'{key}={value}' for key, value in labels)[:160] or 'no labels'})"
        for kit, labels in kits
    ]
    return ", ".join(texts[:_SHOWN]) + (" and others" if len(texts) > _SHOWN else "")
