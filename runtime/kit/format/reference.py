"""What a kit is called: `[kit://][NAME=]HOST[:PORT]/REPOSITORY[:TAG][@DIGEST]`, an OCI layout, an archive, or a folder.

Reading a reference touches neither disk nor network. The first of three components or more is the host, and so is a
first one with a dot, a port, or the name `localhost`; otherwise `--registry` is, and without it the kit is in the local
store of Kit (`local://` in front says so of any name, with Kit's own rule for the host). Docker Hub is never guessed.
Repository and tag: https://github.com/opencontainers/distribution-spec/blob/v1.1.0/spec.md#pulling-manifests
Host: https://github.com/distribution/reference/blob/v0.6.0/reference.go
"""

import os
import re
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

from runtime.errors import InvalidReference
from runtime.kit.format.digest import Digest as Digest

LATEST = "latest"
TAG = r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}"

_LABEL = r"[A-Za-z0-9](?:[A-Za-z0-9-]*[A-Za-z0-9])?"
_HOST = rf"(?:{_LABEL}(?:\.{_LABEL})*|\[[0-9A-Fa-f:.]+\])(?::(?P<port>[0-9]{{1,5}}))?"
_COMPONENT = r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*"
_REPOSITORY = rf"{_COMPONENT}(?:/{_COMPONENT})*"
_MAX_REPOSITORY = 255
_NAMED = r"(?P<name>[^/:@=~]*)=(?P<rest>.*)"
_NAME = r"[A-Za-z0-9._-]+"
_SCHEME = r"(?P<scheme>[A-Za-z][A-Za-z0-9+.-]*)://(?P<rest>.*)"
_USER_INFO = r"[^/\s]*:[^/\s]*@(?=[^/]*/)"
_PINNED_PATH = r"(?P<path>.*)@(?P<digest>(?:sha[0-9]+|md5|blake[0-9a-z]+):[^/]*)"
_VERSION = r"v?([0-9]{1,9}(?:\.[0-9]{1,9})*)([-._+]?[0-9A-Za-z].*)?"
_RESERVED = "stats"  # /v2/models/stats is an address of its own
_LOCAL = "local://"
LOCAL_REGISTRY = "localhost"
"""What Kit has in the place of a registry for a name without one."""
_WAYS = "write HOST/REPOSITORY:TAG (reg.example.com/org/model:v1), oci:FOLDER:TAG, oci-archive:FILE.tar:TAG or ./FOLDER"

# what KitOps takes for a reference in `model.path`
_KIT_DIGEST = r"sha256:[0-9a-f]{64}|sha384:[0-9a-f]{96}|sha512:[0-9a-f]{128}"
_KIT_REGISTRY = r"[A-Za-z0-9._~-]+(?::[0-9]*)?|\[[0-9A-Fa-f:.]+\](?::[0-9]*)?"

Kind = Literal["registry", "store", "layout", "archive", "folder"]


@dataclass(frozen=True, slots=True)
class Reference:
    """The name of one kit. Built by `parse`; `str()` is the canonical text, which parses to the same reference.

    `name` is the name it is served under. `tag_given` is false if no tag was written: it is `latest`, or the only
    tag of a layout. For a kit in a registry or in Kit's local store there are `registry` and `repository`, else `path`.
    """

    kind: Kind
    name: str = ""
    registry: str = ""
    repository: str = ""
    path: Path | None = None
    tag: str | None = None
    digest: Digest | None = None
    tag_given: bool = field(default=False, compare=False)

    @classmethod
    def parse(cls, text: str, *, registry: str | None = None, model_name: str | None = None) -> "Reference":
        """Reads what an operator wrote; `registry` is the host for a reference without one.

        Raises InvalidReference, whose line says what was understood and how to write it in full.
        """
        _check_characters(text)
        scheme, body = ("kit://", text[len("kit://") :]) if text.startswith("kit://") else ("", text)
        given, body = _split_name(text, body)
        if scheme and (_is_folder(body) or body.startswith(("oci:", "oci-archive:", _LOCAL))):
            raise _refused(text, f"kit:// stands before a host only; write {_shown(text.removeprefix(scheme))}")
        if body.startswith("oci:"):
            bare = _on_disk("layout", text, body.removeprefix("oci:"))
        elif body.startswith("oci-archive:"):
            bare = _on_disk("archive", text, body.removeprefix("oci-archive:"))
        elif _is_folder(body):
            bare = cls("folder", path=_path(text, body))
        elif body.startswith(_LOCAL):
            bare = _in_store(text, body.removeprefix(_LOCAL))
        else:
            bare = _in_registry(text, body, registry)
        return _finished(bare, _served_name(text, given, model_name, bare))

    @classmethod
    def of_parent(cls, text: str) -> "Reference":
        """Reads the reference in a Kitfile's `model.path`, as Kit does. Raises InvalidReference."""
        bare = _in_store(text, text)
        if bare.registry != LOCAL_REGISTRY:
            bare = replace(bare, kind="registry")
        return _finished(bare, _last_component(bare))

    def __str__(self) -> str:
        if self.kind == "folder":
            path = str(self.path) + ("/" if str(self.path)[-1:].isspace() else "")  # a space at the end is refused
            return path if _is_folder(path) and not path.startswith("~") else f"./{path}"
        path = f"./{self.path}" if str(self.path).startswith("~") else str(self.path)  # else it would be a home folder
        local = self.repository if self.registry == LOCAL_REGISTRY else f"{self.registry}/{self.repository}"
        start = {
            "registry": f"{self.registry}/{self.repository}", "store": f"{_LOCAL}{local}", "layout": f"oci:{path}"
        }  # fmt: skip
        head = start.get(self.kind, f"oci-archive:{path}")
        return head + (f":{self.tag}" if self.tag else "") + (f"@{self.digest}" if self.digest else "")


def _finished(bare: Reference, name: str) -> Reference:
    """Returns it with its name, and with the tag that it has if none was written."""
    tag = LATEST if not (bare.tag or bare.digest) and bare.kind != "folder" else bare.tag
    return replace(bare, name=name, tag=tag, tag_given=bare.tag is not None)


def newest(tags: Iterable[str]) -> list[str]:
    """Returns at most five tags: versions first, the newest before all (1.0 before 1.0-rc1), then other names."""

    def rank(tag: str) -> tuple[int, tuple[int, ...], int, str]:
        match = re.fullmatch(_VERSION, tag)
        if match is None:
            return (0, (), 0, tag)
        return (1, tuple(map(int, match[1].split("."))), 0 if match[2] else 1, tag)

    return sorted(tags, key=rank, reverse=True)[:5]


def is_kit_reference(text: str) -> bool:
    """Tells whether Kit takes a `model.path` for a reference to another kit: it has a `:` or `@`, and that form.

    What stands before the first `/` is a registry only if it has a `.` or a `:`. Without a look at the disk
    `./models/film_slm:champion` is a reference too: the caller sometimes knows better.
    https://github.com/kitops-ml/kitops/blob/main/pkg/lib/repo/util/kitfile.go
    """
    if ":" not in text and "@" not in text:
        return False
    first, slash, rest = text.partition("/")
    is_registry = bool(slash) and ("." in first or ":" in first)
    if is_registry and re.fullmatch(_KIT_REGISTRY, first) is None:
        return False
    name, at, digest = (rest if is_registry else text).partition("@")
    repository, colon, tag = name.partition(":")
    if re.fullmatch(_REPOSITORY, repository) is None:
        return False
    return re.fullmatch(_KIT_DIGEST, digest) is not None if at else not colon or re.fullmatch(TAG, tag) is not None


def _in_registry(text: str, body: str, registry: str | None) -> Reference:
    """Reads a name with a host, its own or `registry`; without any the kit is in Kit's local store."""
    path, tag, digest = _split_version(text, body)
    host, repository = _split_host(text, path, registry)
    _check_repository(text, f"{host}/" if host else "", repository)
    return Reference("registry" if host else "store", "", host or LOCAL_REGISTRY, repository, None, tag, digest)


def _in_store(text: str, body: str) -> Reference:
    """Reads a name by Kit's rule: what stands before the first `/` is a host only if it has a `.` or a `:`."""
    if not body:
        raise _refused(text, "the name is missing; write local://NAME:TAG")
    path, tag, digest = _split_version(text, body)
    first, slash, rest = path.partition("/")
    host, repository = (first, rest) if slash and ("." in first or ":" in first) else (LOCAL_REGISTRY, path)
    _check_host(text, host)
    _check_repository(text, "" if host == LOCAL_REGISTRY else f"{host}/", repository)
    return Reference("store", "", host, repository, None, tag, digest)


def _split_version(text: str, body: str) -> tuple[str, str | None, Digest | None]:
    """Returns host and repository, tag, digest."""
    _check_scheme(text, body)
    _check_credentials(body)
    if any(character.isspace() for character in body):
        raise _refused(text, "there is whitespace in it; write it without")
    path, at, digest = body.partition("@")
    return *_split_tag(text, path), _digest(text, digest) if at else None


def _on_disk(kind: Literal["layout", "archive"], text: str, body: str) -> Reference:
    if body.startswith("//"):
        _check_credentials(body[2:])
        raise _refused(text, f"oci: names a folder and oci-archive: a file; for a registry write {_shown(body[2:])}")
    digest: Digest | None = None
    if pinned := re.fullmatch(_PINNED_PATH, body):
        body, digest = pinned["path"], _digest(text, pinned["digest"])
    body, tag = _split_tag(text, body)
    if not body:
        raise _refused(text, "the path is missing; write oci:FOLDER:TAG or oci-archive:FILE.tar:TAG")
    return Reference(kind, path=_path(text, body), tag=tag, digest=digest)


def _is_folder(body: str) -> bool:
    return body in (".", "..") or body.startswith(("/", "./", "../", "~"))


def _path(text: str, body: str) -> Path:
    try:
        return Path(body).expanduser() if body.startswith("~") else Path(body)
    except RuntimeError as problem:
        raise _refused(text, f"there is no home folder for {_shown(body)}; write the path in full") from problem


def _check_characters(text: str) -> None:
    if not text.strip():
        raise InvalidReference(f"the reference is empty; {_WAYS}")
    if text != text.strip():
        raise _refused(text, f"there is whitespace around it; write {_shown(text.strip())}")
    if unfit := next((character for character in text if not character.isprintable()), None):
        raise _refused(text, f"it holds the character U+{ord(unfit):04X}; write it without")


def _check_scheme(text: str, body: str) -> None:
    """Refuses `https://` and the like: the only scheme of a reference is `kit://`."""
    match = re.fullmatch(_SCHEME, body)
    if match is None:
        if body.startswith("kit:") and not body[4:5].isdigit():
            raise _refused(text, f"kit: is written with two slashes; write kit://{_cut(body.removeprefix('kit:'))}")
        return
    scheme, rest = match["scheme"].lower(), match["rest"]
    _check_credentials(rest)
    if scheme == "file":
        raise _refused(text, f"a folder is written as its path, without file://; write {_cut(rest)}")
    if scheme in ("https", "http", "docker", "kit"):
        also = " and set --plain-http" if scheme == "http" else ""
        raise _refused(text, f"a reference has no {scheme}:// in front; write {_cut(rest)}{also}")
    raise _refused(text, f"{_cut(scheme)}:// is not read; {_WAYS}")


def _check_credentials(body: str) -> None:
    """Refuses `user:password@host/…` without repeating it, since the message goes to a log."""
    first, slash, _ = body.partition("/")
    if slash and "@" in first:
        fix = "credentials do not belong into a reference, log in with a Docker config.json instead"
        raise InvalidReference(f"the reference has an '@' in front of its first '/'; {fix}")


def _split_tag(text: str, path: str) -> tuple[str, str | None]:
    if ":" not in path.rpartition("/")[2]:
        return path, None
    path, _, tag = path.rpartition(":")
    if not tag:
        raise _refused(text, "there is no tag after the ':'; write :TAG, or leave the ':' out for latest")
    if re.fullmatch(TAG, tag) is None:
        rule = "1 to 128 letters, digits, '_', '.' and '-', the first not '.' or '-'"
        raise _refused(text, f"{_shown(tag)} is not a tag; a tag has {rule}")
    return path, tag


def _digest(text: str, digest: str) -> Digest:
    try:
        return Digest.parse(digest)
    except ValueError as problem:
        raise _refused(text, f"the digest after the '@' is not one: {problem}") from problem


def _split_host(text: str, path: str, registry: str | None) -> tuple[str, str]:
    """Returns host and repository; "" for a name without a host."""
    first, slash, rest = path.partition("/")
    if slash and (path.count("/") >= 2 or "." in first or ":" in first or first.lower() == "localhost"):
        _check_host(text, first)
        return first.lower(), rest
    if registry is not None and not _is_host(registry):
        seen = "one with an '@'" if "@" in registry else _shown(registry)
        raise InvalidReference(f"--registry takes HOST or HOST:PORT, not {seen}")
    return (registry or "").lower(), path


def _check_host(text: str, host: str) -> None:
    if not _is_host(host):
        fix = "write HOST or HOST:PORT, the port from 1 to 65535"
        raise _refused(text, f"{_shown(host)} is not a valid host name; {fix}")


def _is_host(text: str) -> bool:
    match = re.fullmatch(_HOST, text)
    return match is not None and (match["port"] is None or 1 <= int(match["port"]) <= 65535)


def _check_repository(text: str, start: str, repository: str) -> None:
    if re.fullmatch(_REPOSITORY, repository):
        if len(repository) > _MAX_REPOSITORY:
            raise _refused(text, f"a repository has at most {_MAX_REPOSITORY} characters, this one {len(repository)}")
        return
    if not repository:
        raise _refused(text, f"understood as host {start[:-1]} without a repository; write {start}REPOSITORY:TAG")
    if "" in repository.split("/"):
        raise _refused(text, f"repository {_shown(repository)} has an empty component; write one '/' between two")
    if re.fullmatch(_REPOSITORY, repository.lower()):
        fix = f"write {start}{_cut(repository.lower())}"
        raise _refused(text, f"repository {_shown(repository)} has upper-case letters; {fix}")
    rule = "letters a-z and digits, single '.', '_' or '__' and any '-' between them"
    raise _refused(text, f"repository {_shown(repository)} is not well formed; each component has {rule}")


def _split_name(text: str, body: str) -> tuple[str | None, str]:
    match = re.fullmatch(_NAMED, body)
    if match is None:
        return None, body
    name, rest = match["name"], match["rest"]
    if not rest.strip():
        raise _refused(text, f"there is nothing after {_shown(name + '=')}; write NAME=HOST/REPOSITORY:TAG")
    if rest.startswith("kit://"):
        raise _refused(text, f"kit:// comes first; write kit://{_cut(name)}={_cut(rest.removeprefix('kit://'))}")
    return name, rest


def _served_name(text: str, given: str | None, model_name: str | None, bare: Reference) -> str:
    own = re.sub(r"[^A-Za-z0-9._-]", "-", _last_component(bare)) or "model"
    names = {"NAME=": given, "--model-name": model_name, "the name it would be served under": own}
    origin, name = next((origin, name) for origin, name in names.items() if name is not None)
    if re.fullmatch(_NAME, name) is None or name in (".", ".."):
        raise _refused(text, f"{origin} is {_shown(name)}; a served name has letters, digits, '.', '_' and '-' only")
    if name == _RESERVED:
        raise _refused(text, f"{origin} is {_RESERVED!r}, which has a meaning of its own; give another with NAME=")
    return name


def _last_component(bare: Reference) -> str:
    if bare.path is None:
        return bare.repository.rpartition("/")[2]
    last = Path(os.path.abspath(bare.path)).name  # noqa: PTH100 - resolve() would read the disk
    return last.removesuffix(".tar") if bare.kind == "archive" else last


def _refused(text: str, reason: str) -> InvalidReference:
    return InvalidReference(f"{_shown(text)} is not a reference: {reason}")


def _shown(text: str) -> str:
    return repr(_cut(text))


def _cut(text: str) -> str:
    """Returns `text`, at most 160 characters of it, without a password in it."""
    text = re.sub(_USER_INFO, "…@", text)
    return text if len(text) <= 160 else text[:160] + "…"
