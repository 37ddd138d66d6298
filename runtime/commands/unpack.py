"""`runtime unpack REF DIR …`: kits into folders, each with its Kitfile and a receipt that a server checks again.

All kits are fetched and verified before the first file is put into a folder. A folder that holds its kit already is
left as it is, and nothing is fetched for it. A cache inside one of the folders is removed at the end.
"""

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from itertools import combinations
from pathlib import Path

from runtime.commands.pointers import warn_of_pointers
from runtime.commands.stopping import until_stopped
from runtime.errors import Cancelled, InvalidReference, InvalidSetting
from runtime.kit.cache.store import CACHE_NAMES, Store
from runtime.kit.format.placing import needed
from runtime.kit.format.reference import Reference
from runtime.kit.installed.destination import Destination
from runtime.kit.pull import Resolved, resolve, verified_layers
from runtime.kit.unpack.walk import Layers
from runtime.log import Log
from runtime.progress import Progress
from runtime.settings import Settings


def run(settings: Settings, log: Log, _: object, /) -> tuple[int, list[str]]:
    """Unpacks every pair; the lines are the kits' digests. Raises Failure if a kit or a folder cannot be used."""
    return until_stopped(lambda progress: _unpack(settings, progress, log), log, settings.progress)


def _unpack(settings: Settings, progress: Progress, log: Log) -> tuple[int, list[str]]:
    options, cache = settings.pull_options, settings.cache_dir.resolve()
    folders = [folder.resolve() for _, folder in settings.pairs]
    _check_folders(folders, cache)
    references = [_reference(text, settings.registry) for text, _ in settings.pairs]
    kits = [resolve(reference, options, progress) for reference in references]
    destinations = [Destination(folder, _beside(folder, cache)) for folder in folders]
    jobs = [_Job(kit, place, progress, log) for kit, place in zip(kits, destinations, strict=True)]
    with ExitStack() as stack:
        missing = [job for job in jobs if not job.is_done()]
        layers = [stack.enter_context(verified_layers(job.kit, options, progress)) for job in missing]
        for job, its_layers in zip(missing, layers, strict=True):
            job.fill(its_layers)
    if any(cache.is_relative_to(folder) for folder in folders):
        Store(cache).remove()  # what is served from this folder is the kit and nothing else
    for kit, folder in zip(kits, folders, strict=True):
        warn_of_pointers(kit.kitfile, folder, log)
    return 0, [str(kit.reference.digest) for kit in kits]


class _Job:
    def __init__(self, kit: Resolved, destination: Destination, progress: Progress, log: Log) -> None:
        self.kit = kit
        self._destination, self._progress, self._log = destination, progress, log

    def is_done(self) -> bool:
        """Returns True if the folder holds the kit already. Raises if the kit does not fit or other files are there."""
        folder, reference = self._destination.folder, str(self.kit.reference)
        if self._destination.is_there():
            with self._destination.locked(self._check):
                why = self._destination.holds(self.kit.reference, self._reached, self.kit.parents)
            if why is None:
                message = f"{folder} holds {reference} already, by its receipt: nothing to do"
                self._log.info("kit.kept", message=message, reference=reference, folder=str(folder))
                return True
            self._log.debug("folder.looked_at", folder=str(folder), found=why)
        self._destination.require(sum(each.layer.descriptor.size for each in needed(self.kit.placed)))
        return False

    def fill(self, layers: Layers) -> None:
        """Puts the kit into the folder, unless another process did so meanwhile."""
        reference, manifest, folder = self.kit.reference, self.kit.manifest, self._destination.folder
        assert manifest is not None  # of everything but a plain folder, which is refused
        with self._destination.locked(self._check):
            found = self._destination.holds(reference, self._reached, self.kit.parents)
            if found is None:
                return
            head = reference, manifest, self.kit.config
            receipt = self._destination.fill(*head, layers, self._check, self.kit.parents)
        files, message = len(receipt.files), f"unpacked {reference} into {folder}, {len(receipt.files)} files"
        facts = {"reference": str(reference), "folder": str(folder), "files": files, "found": found}
        self._log.info("kit.unpacked", message=message, **facts)

    def _reached(self, path: str, done_bytes: int, total_bytes: int) -> None:
        self._check()
        self._progress.progress(path, done_bytes, total_bytes)

    def _check(self) -> None:
        if self._progress.cancelled():
            raise Cancelled(f"unpacking {self.kit.reference} was cancelled")


def _reference(text: str, registry: str | None) -> Reference:
    reference = Reference.parse(text, registry=registry)
    if reference.kind == "folder":
        raise InvalidReference(
            f"cannot unpack {text!r}, a folder: nothing says what its bytes should be; "
            "give a kit in a registry, an OCI layout or an archive, and then the folder to unpack into"
        )
    return reference


def _check_folders(folders: Sequence[Path], cache: Path) -> None:
    """Refuses a folder inside another one, and folders that belong to the cache."""
    for one, other in combinations(folders, 2):
        if one.is_relative_to(other) or other.is_relative_to(one):
            raise InvalidSetting(f"cannot unpack into {str(one)!r} and {str(other)!r}: give each kit its own folder")
    for folder in folders:
        if folder == cache or _is_cached(folder, cache):
            raise InvalidSetting(
                f"cannot unpack into {str(folder)!r}, which is the cache; choose another folder, or another --cache-dir"
            )


def _is_cached(path: Path, cache: Path) -> bool:
    return path.is_relative_to(cache) and path != cache and path.relative_to(cache).parts[0] in CACHE_NAMES


def _beside(folder: Path, cache: Path) -> Callable[[str], bool]:
    """Returns a test for paths in `folder`: true for those of the cache, and for folders on the way to it."""
    return lambda path: _is_cached(folder / path, cache) or cache.is_relative_to(folder / path)
