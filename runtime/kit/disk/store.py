"""Kit's own local store, where `kit pack` and `kit pull` put kits: an OCI layout whose tags are in files of their own.

https://github.com/kitops-ml/kitops/tree/main/pkg/lib/repo/local; `storage/B-tags.json` has the tags of one repository,
B is the URL-safe base64 of REGISTRY/REPOSITORY.
"""

import base64
import os
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from runtime.errors import InvalidManifest, NotFound
from runtime.kit.disk.layout import LayoutSource, open_file
from runtime.kit.files import reading
from runtime.kit.format.json_text import read_object
from runtime.kit.format.limits import MAX_DOCUMENT_BYTES
from runtime.kit.format.manifest import Descriptor, parse_descriptor
from runtime.kit.format.media_types import REF_NAME
from runtime.kit.format.paths import kit_home
from runtime.kit.format.reference import LOCAL_REGISTRY, Reference


def open_store(reference: Reference, environ: Mapping[str, str] = os.environ) -> "KitStoreSource":
    """Returns the source of a kit in Kit's store. Raises NotFound, NotAModelKit, StorageFailed."""
    folder = kit_home(environ) / "storage"
    with reading(repr(str(folder))):
        if not folder.is_dir():
            raise NotFound(
                f"there is no store of Kit at {str(folder)!r} (KITOPS_HOME names another); {_ways(reference)}"
            )
    return KitStoreSource(folder, reference)


class KitStoreSource(LayoutSource):
    """The kits of one repository in Kit's store."""

    def __init__(self, folder: Path, reference: Reference) -> None:
        super().__init__(f"Kit's store {str(folder)!r}", lambda name: open_file(folder / name))
        self._reference = reference

    def _listed(self) -> list[Descriptor]:
        """Returns the manifests of the repository that have a tag."""
        place = f"{self._reference.registry}/{self._reference.repository}"
        name = f"{base64.urlsafe_b64encode(place.encode()).decode()}-tags.json"
        file = self._open(name)
        if file is None:
            raise NotFound(f"{self._name} has no kit {_name(self._reference)!r}; {_ways(self._reference)}")
        with file:
            tags = read_object(file.read(MAX_DOCUMENT_BYTES + 1), f"{self._name}: {name}", InvalidManifest)
        found = [(tag, parse_descriptor(each, f"{self._name}: {name}: tag {tag!r}")) for tag, each in tags.items()]
        return [each._replace(annotations={REF_NAME: tag}) for tag, each in found]


def _name(reference: Reference) -> str:
    """Returns the name without tag and digest."""
    return str(replace(reference, tag=None, digest=None)).removeprefix("local://")


def _ways(reference: Reference) -> str:
    name = f"{_name(reference)}:{reference.tag or 'TAG'}"
    if not reference.tag_given and Path(_name(reference)).exists():
        return f"to serve what lies here under that name, write ./{_name(reference)}"
    if reference.registry != LOCAL_REGISTRY:
        return f"pull it there with kit pull, or write {name} for the registry"
    elsewhere = f"write HOST/{name} (or --registry HOST) for a registry, or ./{_name(reference)} for a file or folder"
    return f"pack it with kit pack . -t {name}, {elsewhere}"
