"""`runtime pull`: a kit into the cache, every byte of it verified."""

from runtime.commands.stopping import until_stopped
from runtime.kit.format.reference import Reference
from runtime.kit.pull import pull
from runtime.log import Log
from runtime.progress import Progress
from runtime.settings import Settings


def run(settings: Settings, log: Log, _: object, /) -> tuple[int, list[str]]:
    """Pulls the kit; the line is its digest. Raises Failure if it cannot be had."""
    reference = Reference.parse(settings.kit, registry=settings.registry)

    def work(progress: Progress) -> list[str]:
        kit = pull(reference, settings.pull_options, progress)
        return [str(kit.digest or "a plain folder has no digest")]

    return until_stopped(work, log)
