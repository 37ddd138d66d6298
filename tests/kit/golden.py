"""The golden kits of `tests/kits`, read without any code of ours: layouts, tags, manifests, configs, layers."""

import json
import tarfile
from dataclasses import dataclass
from pathlib import Path

from tests.places import KITS


@dataclass(frozen=True)
class Golden:
    kit: str
    tag: str
    digest: str

    @property
    def folder(self) -> Path:
        return KITS / self.kit

    def blob(self, digest: str) -> Path:
        return self.folder / "blobs" / digest.replace(":", "/")

    @property
    def manifest(self) -> dict:
        return json.loads(self.blob(self.digest).read_bytes())

    @property
    def config(self) -> dict:
        return json.loads(self.blob(self.manifest["config"]["digest"]).read_bytes())

    def tar_files(self, digest: str) -> dict[str, bytes]:
        with tarfile.open(self.blob(digest)) as archive:
            return {item.name: archive.extractfile(item).read() for item in archive if item.isfile()}


def every_kit() -> list[Golden]:
    """Every tag of every kit, in a fixed order."""
    found = []
    for index in sorted(KITS.glob("*/index.json")):
        for item in json.loads(index.read_bytes())["manifests"]:
            tag = item["annotations"]["org.opencontainers.image.ref.name"]
            found.append(Golden(index.parent.name, tag, item["digest"]))
    return found


EVERY_KIT = every_kit()
IDS = [f"{golden.kit}-{golden.tag}" for golden in EVERY_KIT]


def golden(kit: str, tag: str = "v1") -> Golden:
    return next(item for item in EVERY_KIT if (item.kit, item.tag) == (kit, tag))
