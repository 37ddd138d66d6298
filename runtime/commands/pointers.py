"""A warning for each file of a model that is a Git LFS pointer: such a kit is whole, and cannot be served."""

from contextlib import suppress
from pathlib import Path

from runtime.kit.format.kitfile import Kitfile
from runtime.link.model_files import ModelFacts
from runtime.log import Log


def warn_of_pointers(kitfile: Kitfile, root: Path, log: Log) -> None:
    """Logs what serving would say of the pointers among the model's files in `root`."""
    from adapters.base import AdapterError
    from adapters.choose import pointers

    with suppress(AdapterError):  # another fault of the model, which serving names
        for reason in pointers(ModelFacts.of(kitfile).files(root)):
            log.warning("model.is_pointer", message=reason, reason=reason)
