"""What a kit is called: `[kit://][NAME=]HOST[:PORT]/REPOSITORY[:TAG][@DIGEST]`, an OCI layout, an archive, or a folder.

Reading a reference touches neither disk nor network. The first of three components or more is the host, and so is a
first one with a dot, a port, or the name `localhost`; otherwise `--registry` is. Docker Hub is never guessed.
"""

import os
import re
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

from runtime.errors import InvalidReference
from runtime.kit.format.digest import Digest as Digest
from runtime.kit.format.reference_rules import (
    check_characters,
    check_credentials,
    check_repository,
    check_scheme,
    check_tag,
    checked_digest,
    checked_host,
    checked_name,
    cut,
    is_host,
    refused,
    shown,
)

LATEST = "latest"

_NAMED = r"(?P<name>[^/:@=~]*)=(?P<rest>.*)"
_PINNED_PATH = r"(?P<path>.*)@(?P<digest>(?:sha[0-9]+|md5|blake[0-9a-z]+):[^/]*)"

Kind = Literal["registry", "layout", "archive", "folder"]


@dataclass(frozen=True, slots=True)
class Reference:
    """One kit by name. Built by `parse`; `str()` is the canonical text, which parses to the same reference.

    `name` is the name it is served under. `tag_given` is false where `latest` was filled in.
    `registry` and `repository` are empty and `path` is set, unless `kind` is "registry".
    """

    kind: Kind
    name: str
    registry: str
    repository: str
    path: Path | None
    tag: str | None
    digest: Digest | None
    tag_given: bool = field(compare=False)

    @classmethod
    def parse(cls, text: str, *, registry: str | None = None, model_name: str | None = None) -> "Reference":
        """Read what an operator wrote; `registry` is the host for a reference without one.

        Raises InvalidReference, whose line says what was understood and how to write it in full.
        """
        check_characters(text)
        scheme, body = ("kit://", text[len("kit://") :]) if text.startswith("kit://") else ("", text)
        given, body = _split_name(text, body)
        if scheme and (_is_folder(body) or body.startswith(("oci:", "oci-archive:"))):
            raise refused(text, f"kit:// stands before a host only; write {shown(text.removeprefix(scheme))}")
        if body.startswith("oci:"):
            bare = _on_disk("layout", text, body.removeprefix("oci:"))
        elif body.startswith("oci-archive:"):
            bare = _on_disk("archive", text, body.removeprefix("oci-archive:"))
        elif _is_folder(body):
            bare = _reference("folder", path=_path(text, body))
        else:
            bare = _in_registry(text, body, registry)
        return replace(bare, name=_served_name(text, given, model_name, bare))

    def with_digest(self, digest: Digest) -> "Reference":
        """Give the same reference pinned to `digest`."""
        return replace(self, digest=digest)

    def __str__(self) -> str:
        if self.kind == "folder":
            return _folder_text(str(self.path))
        path = f"./{self.path}" if str(self.path).startswith("~") else str(self.path)  # else it would be a home folder
        start = {"registry": f"{self.registry}/{self.repository}", "layout": f"oci:{path}"}
        head = start.get(self.kind, f"oci-archive:{path}")
        return head + (f":{self.tag}" if self.tag else "") + (f"@{self.digest}" if self.digest else "")


def _reference(
    kind: Kind,
    *,
    registry: str = "",
    repository: str = "",
    path: Path | None = None,
    tag: str | None = None,
    digest: Digest | None = None,
) -> Reference:
    """Build a reference without its name; `latest` stands in where neither tag nor digest says which."""
    filled = LATEST if tag is None and digest is None and kind != "folder" else tag
    return Reference(kind, "", registry, repository, path, filled, digest, tag_given=tag is not None)


# --- the four kinds


def _in_registry(text: str, body: str, registry: str | None) -> Reference:
    check_scheme(text, body)
    check_credentials(body)
    check_characters(text, inside=body)
    path, at, digest_text = body.partition("@")
    digest = checked_digest(text, digest_text) if at else None
    tag: str | None = None
    if ":" in path.rpartition("/")[2]:
        path, _, tag = path.rpartition(":")
        check_tag(text, tag)
    host, repository = _split_host(text, body, path, registry)
    check_repository(text, host, repository)
    return _reference("registry", registry=host, repository=repository, tag=tag, digest=digest)


def _on_disk(kind: Literal["layout", "archive"], text: str, body: str) -> Reference:
    if body.startswith("//"):
        check_credentials(body[2:])
        raise refused(text, f"oci: names a folder and oci-archive: a file; for a registry write {shown(body[2:])}")
    digest: Digest | None = None
    if pinned := re.fullmatch(_PINNED_PATH, body):
        body, digest = pinned["path"], checked_digest(text, pinned["digest"])
    tag: str | None = None
    if ":" in body.rpartition("/")[2]:
        body, _, tag = body.rpartition(":")
        check_tag(text, tag)
    if not body:
        raise refused(text, "the path is missing; write oci:FOLDER:TAG or oci-archive:FILE.tar:TAG")
    return _reference(kind, path=_path(text, body), tag=tag, digest=digest)


def _is_folder(body: str) -> bool:
    return body in (".", "..") or body.startswith(("/", "./", "../", "~"))


def _path(text: str, body: str) -> Path:
    try:
        return Path(body).expanduser() if body.startswith("~") else Path(body)
    except RuntimeError as problem:
        raise refused(text, f"there is no home folder for {shown(body)}; write the path in full") from problem


def _folder_text(path: str) -> str:
    return path if _is_folder(path) and not path.startswith("~") else f"./{path}"


# --- the smaller pieces


def _split_host(text: str, body: str, path: str, registry: str | None) -> tuple[str, str]:
    first, slash, rest = path.partition("/")
    if slash and (path.count("/") >= 2 or "." in first or ":" in first or first.lower() == "localhost"):
        return checked_host(text, first), rest
    if registry is None:
        raise refused(
            text,
            f"understood as repository {shown(path)} without a host; write HOST/{cut(body)}, "
            f"set --registry HOST, or write ./{cut(path)} for a folder",
        )
    if not is_host(registry):
        seen = "one with an '@'" if "@" in registry else shown(registry)
        raise InvalidReference(f"--registry takes HOST or HOST:PORT, not {seen}")
    return registry.lower(), path


def _split_name(text: str, body: str) -> tuple[str | None, str]:
    match = re.fullmatch(_NAMED, body)
    if match is None:
        return None, body
    name, rest = match["name"], match["rest"]
    if not rest.strip():
        raise refused(text, f"there is nothing after {shown(name + '=')}; write NAME=HOST/REPOSITORY:TAG")
    if rest.startswith("kit://"):
        raise refused(text, f"kit:// comes first; write kit://{cut(name)}={cut(rest.removeprefix('kit://'))}")
    return name, rest


def _served_name(text: str, given: str | None, model_name: str | None, bare: Reference) -> str:
    if given is not None:
        return checked_name(text, given, "NAME=")
    if model_name is not None:
        return checked_name(text, model_name, "--model-name")
    name = re.sub(r"[^A-Za-z0-9._-]", "-", _last_component(bare)) or "model"
    return checked_name(text, name, "the name it would be served under")


def _last_component(bare: Reference) -> str:
    if bare.path is None:
        return bare.repository.rpartition("/")[2]
    last = Path(os.path.abspath(bare.path)).name  # noqa: PTH100 - resolve() would read the disk
    return last.removesuffix(".tar") if bare.kind == "archive" else last
