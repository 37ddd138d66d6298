"""A folder or a model's file, served in place: nothing is pulled, and nothing can be verified.
A folder without a Kitfile is one whose model is somewhere in it; of a file alone, nothing beside it is the kit's."""

import contextlib
import os
import stat
from collections.abc import Callable
from itertools import chain
from pathlib import Path
from typing import NamedTuple, Self

from runtime.errors import Failure, InvalidKitfile, NotAModelKit, NotFound, Unsupported
from runtime.kit.files import open_plain, reading, volume_group, who_else_writes
from runtime.kit.format.ignore import IGNORE_NAME, ignoring, read_patterns
from runtime.kit.format.kitfile import Entry, Kitfile
from runtime.kit.format.paths import KITFILE_NAME, LOST_AND_FOUND, STAGING_NAME, entry_path

_KITFILE_NAMES = (KITFILE_NAME, "kitfile", ".kitfile")  # in the order in which Kit looks for them
_MAX_KITFILE_BYTES = 1 << 20
_MAX_FILES = 100_000
_NOT_THE_KITS = frozenset({".git", LOST_AND_FOUND})


class FolderKit(NamedTuple):
    """A folder by its absolute path, that of a file if the kit is a file alone.

    Links and other things that are neither file nor folder are in `left_out`: a folder somebody works in may hold them
    (a virtual environment does), but what a link names can lie outside of the kit and change under a running server. A
    model or part that is one is an error. What `.kitignore` leaves out is not the kit's. `exposed` says who else may
    change the folder, "" for nobody.
    """

    root: Path
    kitfile: Kitfile
    left_out: tuple[str, ...]
    exposed: str

    @classmethod
    def open(cls, path: Path) -> Self:
        """Reads the Kitfile and looks through the folder.

        Raises NotFound without such a folder or file, NotAModelKit, InvalidKitfile, StorageFailed.
        """
        with reading(f"folder {str(path)!r}"):
            if not path.exists():
                raise NotFound(f"there is no folder or file {str(path)!r}")
            if not path.is_dir():
                return cls._of_file(path.resolve())
            root = path.resolve()
            kitfile = _kitfile(root)._replace(ignored=_read_ignored(root))
            is_ignored = ignoring(kitfile.ignored)
            for section, entry in kitfile.entries:
                if section in ("model", "part"):
                    _check_entry(root, entry)
                    if is_ignored(entry.path) and (root / entry.path).is_file():
                        seen = f"names {entry.path!r}, which {IGNORE_NAME} leaves out of it"
                        raise InvalidKitfile(f"the Kitfile in folder {str(root)!r} {seen}; change one of them")
            status = root.stat()
            return cls(
                root, kitfile, _left_out(root, is_ignored), who_else_writes(root, status, volume_group(status)) or ""
            )

    @classmethod
    def _of_file(cls, file: Path) -> Self:
        if file.suffix == ".tar":
            raise NotAModelKit(f"{str(file)!r} is an archive; write oci-archive:{file}")
        if file.name in _KITFILE_NAMES:
            raise NotAModelKit(f"{str(file)!r} is a Kitfile; write its folder: {file.parent}")
        status = file.stat()
        if not stat.S_ISREG(status.st_mode):
            raise NotAModelKit(f"{str(file)!r} is neither a folder nor a regular file")
        exposed = who_else_writes(file, status, volume_group(status)) or ""
        return cls(file.parent, Kitfile.of_model(file.name), (), exposed)


def has_parent(path: Path) -> bool:
    """Tells whether the model of a folder comes from another kit. False for what `FolderKit.open` refuses."""
    with contextlib.suppress(Failure, OSError):
        model = _kitfile(path).model if path.is_dir() else None
        return bool(model and model.parent)
    return False


def _kitfile(root: Path) -> Kitfile:
    """Reads YAML, or the JSON that a registry has, which PyYAML would read differently."""
    text = _read_kitfile(root)
    if text is None:
        ours = (item for item in root.iterdir() if item.name not in _NOT_THE_KITS)
        if not any(path.is_file() for item in ours for path in chain([item], item.rglob("*"))):
            raise NotAModelKit(f"folder {str(root)!r} has neither a Kitfile nor any file; put a model's file there")
        return Kitfile.of_model(".")
    if text.lstrip().startswith("{"):
        with contextlib.suppress(InvalidKitfile):  # a map in YAML's short form
            return Kitfile.parse_json(text.encode(), is_file=lambda name: os.path.lexists(root / name))
    return Kitfile.parse_yaml(text, is_file=lambda name: os.path.lexists(root / name))


def _read_kitfile(root: Path) -> str | None:
    name = next((name for name in _KITFILE_NAMES if os.path.lexists(root / name)), None)
    if name is None:
        if (root / "oci-layout").exists():
            raise NotAModelKit(f"folder {str(root)!r} is an OCI layout; write oci:{root}:TAG")
        if (root / STAGING_NAME).exists():
            raise NotAModelKit(
                f"a kit was not unpacked to its end into folder {str(root)!r}; run `runtime unpack` again"
            )
        return None
    return _read_text(root, name)


def _read_ignored(root: Path) -> tuple[str, ...]:
    """Returns the patterns of the folder's `.kitignore`. Raises InvalidKitfile."""
    if not os.path.lexists(root / IGNORE_NAME):
        return ()
    try:
        return read_patterns(_read_text(root, IGNORE_NAME))
    except ValueError as problem:
        raise InvalidKitfile(f"the {IGNORE_NAME} in folder {str(root)!r} cannot be read: {problem}") from problem


def _read_text(root: Path, name: str) -> str:
    subject = f"the {name} in folder {str(root)!r}"
    with reading(subject, NotAModelKit), open_plain(root / name) as file:
        raw = file.read(_MAX_KITFILE_BYTES + 1)
    if len(raw) > _MAX_KITFILE_BYTES:
        raise InvalidKitfile(f"{subject} has more than {_MAX_KITFILE_BYTES} bytes")
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError as problem:
        raise InvalidKitfile(f"{subject} is not UTF-8: {problem.reason}") from problem


def _left_out(root: Path, is_ignored: Callable[[str], bool]) -> tuple[str, ...]:
    """Returns what the kit has below `root` that is neither file nor folder, sorted.

    Raises Unsupported for too many files.
    """
    left_out, count, waiting = [], 0, [str(root)]
    while waiting:
        with os.scandir(waiting.pop()) as items:
            for item in items:
                if item.name in _NOT_THE_KITS or item.name != item.name.encode(errors="replace").decode():
                    continue  # a Kitfile can name no file whose name is not UTF-8
                path = item.path.removeprefix(f"{root}/")
                if item.is_dir(follow_symlinks=False):
                    waiting.append(item.path)
                elif is_ignored(path):
                    continue
                elif (count := count + 1) > _MAX_FILES:
                    fix = "serve one that is just the kit"
                    raise Unsupported(f"folder {str(root)!r} has more than {_MAX_FILES} files; {fix}")
                elif not item.is_file(follow_symlinks=False):
                    left_out.append(path)
    return tuple(sorted(left_out))


def _check_entry(root: Path, entry: Entry) -> None:
    """Refuses a model or part that is missing, or a link, or behind one."""
    current = root
    for part in entry_path(entry.path):
        current /= part
        if current.is_symlink():
            seen = f"{str(current)!r} is a symbolic link, which is not followed; put the file itself there"
            raise InvalidKitfile(f"the Kitfile names {entry.path!r}, but {seen}")
    if not current.exists():
        raise InvalidKitfile(f"the Kitfile names {entry.path!r}, which is not in folder {str(root)!r}")
