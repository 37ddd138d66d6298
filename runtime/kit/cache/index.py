"""index.json of the cache: which manifest a name means. Whatever is in the file, reading it raises nothing.

https://github.com/opencontainers/image-spec/blob/v1.1.0/image-index.md
"""

import json
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from runtime.kit import files
from runtime.kit.format.digest import Digest
from runtime.kit.format.manifest import Manifest
from runtime.kit.format.media_types import OCI_MANIFEST, REF_NAME

Entries = list[dict[str, dict[str, str]]]


def read_index(root: Path) -> Entries:
    """Returns the entries; none if the file is missing or unreadable: nothing else depends on it."""
    try:
        manifests = json.loads((root / "index.json").read_bytes())["manifests"]
        return [entry for entry in manifests if isinstance(entry.get("annotations", {}), dict)]
    except (OSError, ValueError, LookupError, TypeError, AttributeError, RecursionError):
        return []


def write_index(root: Path, manifests: Sequence[object]) -> None:
    """Replaces the file as a whole. Raises OSError."""
    data = json.dumps({"schemaVersion": 2, "manifests": manifests}, separators=(",", ":")).encode()
    files.write_whole(root / "index.json", data, beside=root / "ingest", mode=0o644)


def entry_of(reference: str, manifest: Manifest) -> dict[str, object]:
    """Returns the entry that calls the manifest `reference`."""
    descriptor = {"mediaType": OCI_MANIFEST, "digest": str(manifest.digest), "size": len(manifest.raw)}
    return {**descriptor, "annotations": {REF_NAME: reference}}


def names(root: Path) -> dict[Digest, list[str]]:
    """Returns the names of each manifest."""
    found: dict[Digest, list[str]] = {}
    for each in read_index(root):
        with suppress(ValueError, LookupError):
            found.setdefault(Digest.parse(str(each["digest"])), []).append(str(each["annotations"][REF_NAME]))
    return found
