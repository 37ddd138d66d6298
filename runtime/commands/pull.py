"""`runtime pull`: a kit into the cache, every byte of it verified."""

from runtime.commands.stopping import until_stopped
from runtime.kit.format.reference import Reference
from runtime.kit.pull import pull
from runtime.log import Log
from runtime.settings import Settings


def run(settings: Settings, log: Log, _: object, /) -> tuple[int, list[str]]:
    """Pulls the kit; the line is its digest. Raises Failure if it cannot be had."""
    reference, options = Reference.parse(settings.kit, registry=settings.registry), settings.pull_options
    return until_stopped(
        lambda progress: (0, [str(pull(reference, options, progress).digest or "plain files have no digest")]),
        log,
        settings.progress,
    )
