"""`runtime pull`: a kit into the cache, every byte of it verified."""

from runtime.commands.pointers import warn_of_pointers
from runtime.commands.stopping import until_stopped
from runtime.kit.format.reference import Reference
from runtime.kit.pull import pull
from runtime.log import Log
from runtime.progress import Progress
from runtime.settings import Settings


def run(settings: Settings, log: Log, _: object, /) -> tuple[int, list[str]]:
    """Pulls the kit; the line is its digest. Raises Failure if it cannot be had."""
    reference, options = Reference.parse(settings.kit, registry=settings.registry), settings.pull_options

    def work(progress: Progress) -> tuple[int, list[str]]:
        kit = pull(reference, options, progress)
        warn_of_pointers(kit.kitfile, kit.root, log)
        return 0, [str(kit.digest or "plain files have no digest")]

    return until_stopped(work, log, settings.progress)
