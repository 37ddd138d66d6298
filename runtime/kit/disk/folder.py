"""A folder with a Kitfile, served in place: nothing is pulled.

Of a plain one nothing can be verified. One that `runtime unpack` made has a receipt: which kit it is, and every file's
digest. Here its Kitfile is compared with that; all files are when the kit is fetched (`recheck`).
"""

import contextlib
import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from runtime.errors import BadContent, InvalidKitfile, NotAModelKit, NotFound, StorageFailed, Unsupported
from runtime.kit.format.folder_names import LOST_AND_FOUND, RECEIPT_NAME, STAGING_NAME
from runtime.kit.format.json_text import read_json
from runtime.kit.format.kitfile import KITFILE_NAMES, Entry, Kitfile, model_file
from runtime.kit.installed.receipt import Receipt, read_receipt
from runtime.kit.installed.recheck import checked_kitfile

_READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK
_MAX_KITFILE_BYTES = 1 << 20
_MAX_FILES = 100_000
_NOT_THE_KITS = frozenset({".git", LOST_AND_FOUND})


@dataclass(frozen=True, slots=True)
class FolderKit:
    """A folder with a Kitfile. `root` is absolute; `files` are relative to it, sorted, regular files only.

    Links and other things are in `left_out` and not in `files`: a folder somebody works in may hold them (a virtual
    environment does), but what a link names can lie outside of the kit and change under a running server. A model or
    part that is one is an error. With a `receipt`, `files` is what it lists, not yet compared.
    """

    root: Path
    kitfile: Kitfile
    files: tuple[str, ...]
    left_out: tuple[str, ...]
    verified: bool = False
    receipt: Receipt | None = None

    @classmethod
    def open(cls, path: Path) -> Self:
        """Read the receipt, if there is one, and the Kitfile, and list the files.

        Raises NotFound without such a folder, NotAModelKit without a Kitfile in it, InvalidKitfile, StorageFailed;
        BadContent for a receipt that is none, and DigestMismatch for a Kitfile that is not the receipt's.
        """
        try:
            root = _root(path)
            receipt = _receipt(root)
            if receipt is not None:
                return cls(root, _checked_kitfile(root, receipt), tuple(sorted(receipt.files)), (), receipt=receipt)
            kitfile = _written_kitfile(root)
            _check_entries(root, kitfile)
            files, left_out = _list(root)
        except OSError as problem:
            raise StorageFailed(f"cannot read folder {str(path)!r}: {problem.strerror}") from problem
        return cls(root, kitfile, files, left_out)


def _root(path: Path) -> Path:
    if not path.exists():
        raise NotFound(f"there is no folder {str(path)!r}")
    if not path.is_dir():
        raise NotAModelKit(f"{str(path)!r} is a file; a kit is a folder with a Kitfile, which names the model's file")
    return path.resolve()


def _receipt(root: Path) -> Receipt | None:
    """Give the receipt. A folder that is being unpacked into, or was when that was killed, is none to serve."""
    if os.path.lexists(root / STAGING_NAME):
        raise BadContent(
            f"folder {str(root)!r} is not whole: `runtime unpack` is at work in it, or was ended before it was done; "
            "run it again"
        )
    return read_receipt(root / RECEIPT_NAME)


def _checked_kitfile(root: Path, receipt: Receipt) -> Kitfile:
    """Read the Kitfile that `runtime unpack` wrote: the config of the kit, byte for byte."""
    document = _read_object(checked_kitfile(root, receipt), root)
    return Kitfile.from_document(document, is_file=lambda name: os.path.lexists(root / name))


def _written_kitfile(root: Path) -> Kitfile:
    """Read a Kitfile that somebody wrote: YAML, or the JSON that a registry has, which PyYAML reads otherwise."""
    text = _read_kitfile(root)

    def is_file(name: str) -> bool:
        return os.path.lexists(root / name)

    if text.lstrip().startswith("{"):
        with contextlib.suppress(InvalidKitfile):  # a map in YAML's short form
            return Kitfile.from_document(_read_object(text.encode(), root), is_file=is_file)
    return Kitfile.parse_yaml(text, is_file=is_file)


def _read_object(raw: bytes, root: Path) -> dict[str, object]:
    document = read_json(raw, f"the Kitfile in folder {str(root)!r}", InvalidKitfile)
    if not isinstance(document, dict):
        raise InvalidKitfile(f"the Kitfile in folder {str(root)!r} is not a JSON object")
    return document


def _read_kitfile(root: Path) -> str:
    name = next((name for name in KITFILE_NAMES if os.path.lexists(root / name)), None)
    if name is None:
        if (root / "oci-layout").exists():
            raise NotAModelKit(f"folder {str(root)!r} is an OCI layout; write oci:{root}:TAG")
        fix = "write one there that names the model's file under model.path"
        raise NotAModelKit(f"folder {str(root)!r} has no Kitfile; {fix}")
    if not stat.S_ISREG((root / name).lstat().st_mode):
        raise NotAModelKit(f"the {name} in folder {str(root)!r} is not a regular file")
    with os.fdopen(os.open(root / name, _READ), "rb") as file:
        raw = file.read(_MAX_KITFILE_BYTES + 1)
    if len(raw) > _MAX_KITFILE_BYTES:
        raise InvalidKitfile(f"the {name} in folder {str(root)!r} has more than {_MAX_KITFILE_BYTES} bytes")
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError as problem:
        raise InvalidKitfile(f"the {name} in folder {str(root)!r} is not UTF-8: {problem.reason}") from problem


def _list(root: Path) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Give the regular files below `root`, and what is neither file nor folder."""
    files: list[str] = []
    left_out: list[str] = []
    for item, name in _walk(root):
        (files if item.is_file(follow_symlinks=False) else left_out).append(name)
        if len(files) + len(left_out) > _MAX_FILES:
            raise Unsupported(f"folder {str(root)!r} has more than {_MAX_FILES} files; serve one that is just the kit")
    return tuple(sorted(files)), tuple(sorted(left_out))


def _walk(root: Path) -> Iterator[tuple["os.DirEntry[str]", str]]:
    """Give everything below `root` that is not a folder, with its path relative to it; never follows a link."""
    waiting = [""]
    while waiting:
        folder = waiting.pop()
        with os.scandir(root / folder) as items:
            for item in items:
                if not _is_text(item.name) or item.name in _NOT_THE_KITS:
                    continue
                name = f"{folder}/{item.name}" if folder else item.name
                if item.is_dir(follow_symlinks=False):
                    waiting.append(name)
                else:
                    yield item, name


def _is_text(name: str) -> bool:
    """Tell whether a file name is UTF-8: another one can be named by no Kitfile."""
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True


def _check_entries(root: Path, kitfile: Kitfile) -> None:
    model = model_file(kitfile.model)
    for entry in (*((model,) if model else ()), *(kitfile.model.parts if kitfile.model else ())):
        _check_entry(root, entry)


def _check_entry(root: Path, entry: Entry) -> None:
    """Refuse a model or part that is missing, or a link, or behind one."""
    current = root
    for part in () if entry.path == "." else entry.path.split("/"):
        current /= part
        if current.is_symlink():
            raise InvalidKitfile(
                f"the Kitfile names {entry.path!r}, but {str(current)!r} is a symbolic link, which is not followed; "
                "put the file itself there"
            )
    if not current.exists():
        raise InvalidKitfile(f"the Kitfile names {entry.path!r}, which is not in folder {str(root)!r}")
