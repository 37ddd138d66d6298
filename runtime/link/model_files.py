"""From a kit to what an adapter gets: the only module that knows both."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, Self

from runtime.kit.format.ignore import ignoring
from runtime.kit.format.paths import RECEIPT_NAME

if TYPE_CHECKING:
    from adapters.base import ModelFiles
    from runtime.kit.format.kitfile import Kitfile


class ModelFacts(NamedTuple):
    """What loading a model needs to know from the Kitfile; it is sent to a worker."""

    path: str
    framework: str
    format: str
    parameters: object
    parts: tuple[str, ...]
    code: tuple[str, ...]
    is_alone: bool = False
    """True if the file at `path` is the whole kit, and nothing beside it."""
    ignored: tuple[str, ...] = ()
    """Patterns of files that are none of the kit's."""

    @classmethod
    def of(cls, kitfile: "Kitfile") -> Self:
        """Returns the facts of a kit that has a model; others are refused before anything is fetched."""
        model = kitfile.model
        assert model is not None, "check_servable passed"
        assert model.path is not None, "check_servable passed"
        parts, code = (tuple(entry.path for entry in entries) for entries in (model.parts, kitfile.code))
        alone = kitfile.is_made_up and model.path != "."
        return cls(model.path, model.framework, model.format, model.parameters, parts, code, alone, kitfile.ignored)

    @classmethod
    def checked(cls, kitfile: "Kitfile", adapter: str | None, trust: str) -> "ModelFacts | None":
        """Returns the facts; None for a kit without a model.

        Raises AdapterError for a model that cannot be served under these terms whatever its files hold.
        """
        if kitfile.model is None or kitfile.model.path is None:
            return None
        import adapters

        facts = cls.of(kitfile)
        adapters.check(facts.path, trust, framework=facts.framework, format=facts.format, adapter=adapter)
        return facts

    def files(self, root: Path) -> "ModelFiles":
        """Returns the model's files in the verified folder `root`."""
        from adapters.base import ModelFiles  # not before there are files: a supervisor never needs it

        files = (self.path,) if self.is_alone else _regular_files(root, self.ignored)
        return ModelFiles(root, self.path, self.parts, self.code, files)


def in_layer(file: str, layers: Mapping[str, str]) -> str:
    """Returns ` (layer sha256:…)`, the layer that `file` came in, of `layers` by entry; "" if it is not known."""
    entries = [path for path in layers if path in (".", file) or file.startswith(path + "/")]
    return f" (layer {layers[max(entries, key=len)]})" if file and entries else ""


def _regular_files(root: Path, ignored: tuple[str, ...]) -> tuple[str, ...]:
    found, is_ignored = [], ignoring(ignored)
    for folder, _, names in os.walk(root):
        paths = (Path(folder, name) for name in names)
        found += [path.relative_to(root).as_posix() for path in paths if path.is_file() and not path.is_symlink()]
    # the receipt is not part of the kit
    return tuple(sorted(path for path in found if path != RECEIPT_NAME and not is_ignored(path)))
