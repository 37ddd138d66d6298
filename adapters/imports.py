"""Imports what a model needs when it needs it: its framework, and the kit's own code if the model may run it."""

import os
import posixpath
import re
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from importlib import import_module
from importlib.util import find_spec
from operator import attrgetter
from pathlib import Path
from typing import Any, Final

from adapters.base import LoadFailed, MissingFramework, ModelFiles
from adapters.wording import failing, listed, with_class

_IMAGE: Final = "/opt/venv"
"""Where the Dockerfile installs everything."""


def framework(module: str, extra: str) -> Any:  # frameworks are optional, and most of them carry no types
    """Returns the imported module. Raises MissingFramework with the extra that installs it."""
    try:
        return import_module(module)
    except ModuleNotFoundError as error:
        top = module.partition(".")[0]
        if error.name is None or error.name.partition(".")[0] != top:
            raise
        raise missing({top: extra}) from error


def installed(package: str, extra: str) -> Callable[[str, str], None]:
    """Returns an adapter's `check`: it raises MissingFramework, without an import, if there is no such package."""

    def check(_path: str, _trust: str) -> None:
        if find_spec(package) is None:
            raise missing({package: extra})

    return check


def missing(packages: Mapping[str, str]) -> MissingFramework:
    """Returns the error for packages that a model needs and that are not installed, each with its extra."""
    one = len(packages) == 1
    said = (
        f"the package{'' if one else 's'} {listed(map(repr, packages))}, which {'is' if one else 'are'} not installed"
    )
    return MissingFramework(f"this model needs {said}: {how_to_install(*dict.fromkeys(packages.values()))}")


def how_to_install(*extras: str) -> str:
    """Returns what installs extras of ours where this process runs: in our image, a checkout or any environment."""
    if sys.prefix == _IMAGE:
        return f"build the image with --build-arg EXTRAS={','.join(extras)}"
    from importlib.metadata import PackageNotFoundError, requires  # 50 modules that a start does not need

    wanted, packages = re.compile(rf"""extra == ["']({"|".join(extras)})["']"""), list[str]()
    with suppress(PackageNotFoundError):
        found = (text.partition(";") for text in requires("modelkit-runtime") or ())
        packages = [f"'{package.strip()}'" for package, _, marker in found if wanted.search(marker)]
    if not packages:  # a checkout that was not installed, or that is newer than its installation
        return f"pip install '.[{','.join(extras)}]' in the folder of the runtime"
    return f"{sys.executable} -m pip install {' '.join(packages)}"


def name_temporary_folder() -> None:
    """Names a folder that exists where none can be written, in a read-only container or a confined process: torch's
    compiler wants the name when it is imported, and writes nothing to it."""
    import tempfile

    try:
        tempfile.gettempdir()
    except FileNotFoundError:
        tempfile.tempdir = sys.prefix
        os.environ.setdefault("TORCHINDUCTOR_CACHE_DIR", sys.prefix)


@contextmanager
def hidden(module: str) -> Iterator[None]:
    """Makes the import of a module fail that others import where they can, and that is not needed here.
    https://docs.python.org/3/reference/import.html#the-module-cache"""
    absent = module not in sys.modules
    if absent:
        sys.modules[module] = None  # type: ignore[assignment]  # the documented way
    try:
        yield
    finally:
        if absent:
            del sys.modules[module]


@contextmanager
def kit_on_path(files: ModelFiles) -> Iterator[None]:
    """Puts the folder of each code entry, then the kit's root, first on `sys.path`.

    They stay there: what was imported may import more when it predicts. Raises LoadFailed if a program, or another
    kit in it, has already imported another module under the name of one of the kit's.
    """
    for name in _modules(files):
        _check_origin(files, name)
    places = dict.fromkeys(str(files.root / folder) for folder in (*_code_folders(files), ""))
    sys.path[:0] = [place for place in places if place not in sys.path]
    writes, sys.dont_write_bytecode = sys.dont_write_bytecode, True  # the kit's folder is not ours to write to
    try:
        yield
    finally:
        sys.dont_write_bytecode = writes


def _code_folders(files: ModelFiles) -> list[str]:
    return [posixpath.dirname(entry) if entry in files.files else entry for entry in files.code]


def _modules(files: ModelFiles) -> set[str]:
    """Returns the names of the modules and packages at the top of the kit's code folders."""
    names = set()
    for start in {"" if folder in ("", ".") else f"{folder}/" for folder in _code_folders(files)}:
        for file in files.files:
            name = file.removeprefix(start).removesuffix("/__init__.py").removesuffix(".py")
            if file.startswith(start) and file.endswith(".py") and "/" not in name:
                names.add(name)
    return names - {"__main__"}


def _check_origin(files: ModelFiles, name: str, *, may_be_installed: bool = True) -> None:
    """Raises LoadFailed if the module `name` is imported from elsewhere: a program, or another kit in it."""
    always = {*sys.stdlib_module_names, "adapters", "runtime"}
    if name not in sys.modules or (may_be_installed and name.partition(".")[0] in always):
        return
    spec = getattr(sys.modules[name], "__spec__", None)
    places = [spec.origin, *(spec.submodule_search_locations or ())] if spec else []
    origin = next((Path(place).resolve() for place in places if place), "the program itself")
    if isinstance(origin, Path):
        is_installed = not {"site-packages", "dist-packages"}.isdisjoint(origin.parts)
        if (is_installed and may_be_installed) or origin.is_relative_to(files.root.resolve()):
            return
    raise LoadFailed(f"the kit's module {name!r} is already imported from {origin}: load it in a process of its own")


def entrypoint(files: ModelFiles, text: str) -> Callable[..., Any]:
    """Returns the callable that `module:callable` names in the kit's code. Raises LoadFailed."""
    module, _, name = text.partition(":")
    if not module or not name:
        raise LoadFailed(f"model.parameters.serving.options.entrypoint is {text!r}; it must be module:callable")
    with kit_on_path(files), failing(f"the entry point {text!r} cannot be imported", with_class):
        imported = import_module(module)
        _check_origin(files, module, may_be_installed=module.partition(".")[0] not in _modules(files))
        found = attrgetter(name)(imported)
    if not callable(found):
        raise LoadFailed(f"the entry point {text!r} is a {type(found).__name__}, not a callable")
    return found  # type: ignore[no-any-return]  # checked just above
