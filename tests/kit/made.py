"""ModelKits made for a test: an OCI layout with one model layer of any bytes."""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
from pathlib import Path

KIT = "application/vnd.kitops.modelkit"


def made_kit(folder: Path, files: dict[str, bytes], tag: str = "v1", size: int | None = None, **model: object) -> Path:
    """A layout with a kit: the first file is the model, the others its parts. `size` lies about the model's layer.

    `model`: what else the Kitfile says of it, such as `framework` and `parameters`.
    """
    layers = [_tar(path, data) for path, data in files.items()]
    entries = [
        {"path": path, "digest": put(folder, layer)["digest"]} for path, layer in zip(files, layers, strict=True)
    ]
    config = {"manifestVersion": "1.0.0", "model": {**model, **entries[0], "parts": entries[1:]}}
    manifest = {
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": put(folder, json.dumps(config).encode(), f"{KIT}.config.v1+json"),
        "layers": [
            put(folder, layer, f"{KIT}.{'modelpart' if number else 'model'}.v1.tar")
            for number, layer in enumerate(layers)
        ],
    }
    if size is not None:
        manifest["layers"][0]["size"] = size  # type: ignore[index]  # a list, as written above
    named(folder, put(folder, json.dumps(manifest).encode(), str(manifest["mediaType"])), tag)
    return folder


def put(
    folder: Path, data: bytes, media_type: str = "application/octet-stream", algorithm: str = "sha256"
) -> dict[str, object]:
    """Add a blob to a layout; gives its descriptor."""
    digits = hashlib.new(algorithm, data).hexdigest()
    path = folder / "blobs" / algorithm / digits
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    return {"mediaType": media_type, "digest": f"{algorithm}:{digits}", "size": len(data)}


def named(folder: Path, manifest: dict[str, object], tag: str) -> None:
    """Give a manifest a tag in the layout's index, in place of the one that had it."""
    (folder / "oci-layout").write_text('{"imageLayoutVersion":"1.0.0"}')
    index = folder / "index.json"
    before = json.loads(index.read_bytes())["manifests"] if index.exists() else []
    ref = "org.opencontainers.image.ref.name"
    others = [each for each in before if each["annotations"][ref] != tag]
    index.write_text(json.dumps({"schemaVersion": 2, "manifests": [*others, {**manifest, "annotations": {ref: tag}}]}))


def _tar(path: str, data: bytes) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT) as archive:
        member = tarfile.TarInfo(path)
        member.size = len(data)
        archive.addfile(member, io.BytesIO(data))
    return buffer.getvalue()
