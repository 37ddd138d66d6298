"""The rules for the pieces of a reference: pass, or the one line that says what is wrong and how to write it.

Grammar of repository and tag: OCI distribution-spec 1.1, "Pulling manifests"; of the host: distribution/reference 0.6.
"""

import re

from runtime.errors import InvalidReference
from runtime.kit.format.digest import Digest

_LABEL = r"[A-Za-z0-9](?:[A-Za-z0-9-]*[A-Za-z0-9])?"
_HOST = rf"(?:{_LABEL}(?:\.{_LABEL})*|\[[0-9A-Fa-f:.]+\])(?::(?P<port>[0-9]{{1,5}}))?"
_COMPONENT = r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*"
REPOSITORY = rf"{_COMPONENT}(?:/{_COMPONENT})*"
TAG = r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}"
_NAME = r"[A-Za-z0-9._-]+"
_SCHEME = r"(?P<scheme>[A-Za-z][A-Za-z0-9+.-]*)://(?P<rest>.*)"
_USER_INFO = r"[^/\s]*:[^/\s]*@(?=[^/]*/)"

_NO_NAMES = ("", ".", "..")
_RESERVED = "stats"  # /v2/models/stats is an address of its own
_MAX_REPOSITORY = 255
_WAYS = "write HOST/REPOSITORY:TAG (reg.example.com/org/model:v1), oci:FOLDER:TAG, oci-archive:FILE.tar:TAG or ./FOLDER"


def check_characters(text: str, inside: str = "") -> None:
    """Refuse empty text, whitespace around it or in `inside`, and characters that no terminal shows."""
    if not text.strip():
        raise InvalidReference(f"the reference is empty; {_WAYS}")
    if text != text.strip():
        raise refused(text, f"there is whitespace around it; write {shown(text.strip())}")
    if unfit := next((character for character in text if not character.isprintable()), None):
        raise refused(text, f"it holds the character U+{ord(unfit):04X}; write it without")
    if any(character.isspace() for character in inside):
        raise refused(text, "there is whitespace in it; write it without")


def check_scheme(text: str, body: str) -> None:
    """Refuse `https://` and the like: a reference has none but `kit://`."""
    match = re.fullmatch(_SCHEME, body)
    if match is None:
        if body.startswith("kit:") and not body[4:5].isdigit():
            raise refused(text, f"kit: is written with two slashes; write kit://{cut(body.removeprefix('kit:'))}")
        return
    check_credentials(match["rest"])
    scheme, rest = match["scheme"].lower(), match["rest"]
    if scheme == "file":
        raise refused(text, f"a folder is written as its path, without file://; write {cut(rest)}")
    if scheme in ("https", "http", "docker", "kit"):
        also = " and set --plain-http" if scheme == "http" else ""
        raise refused(text, f"a reference has no {scheme}:// in front; write {cut(rest)}{also}")
    raise refused(text, f"{cut(scheme)}:// is not read; {_WAYS}")


def check_credentials(body: str) -> None:
    """Refuse `user:password@host/…` without repeating it: the message goes to a log."""
    first, slash, _ = body.partition("/")
    if slash and "@" in first:
        raise InvalidReference(
            "the reference has an '@' in front of its first '/'; credentials do not belong into a reference, "
            "log in with a Docker config.json instead"
        )


def checked_host(text: str, host: str) -> str:
    """Give the host in lower case."""
    if not is_host(host):
        problem = f"{shown(host)} stands where the host does, and is none"
        raise refused(text, f"{problem}; write HOST or HOST:PORT, the port from 1 to 65535")
    return host.lower()


def is_host(text: str) -> bool:
    """Tell whether `text` is HOST or HOST:PORT."""
    match = re.fullmatch(_HOST, text)
    return match is not None and (match["port"] is None or 1 <= int(match["port"]) <= 65535)


def check_repository(text: str, host: str, repository: str) -> None:
    """Refuse what is not a repository, each way of being none with its own line."""
    if re.fullmatch(REPOSITORY, repository):
        if len(repository) > _MAX_REPOSITORY:
            raise refused(text, f"a repository has at most {_MAX_REPOSITORY} characters, this one {len(repository)}")
        return
    if not repository:
        raise refused(text, f"understood as host {host} without a repository; write {host}/REPOSITORY:TAG")
    if "" in repository.split("/"):
        raise refused(text, f"repository {shown(repository)} has an empty component; write one '/' between two")
    if re.fullmatch(REPOSITORY, repository.lower()):
        fix = f"write {host}/{cut(repository.lower())}"
        raise refused(text, f"repository {shown(repository)} has upper-case letters; {fix}")
    rule = "letters a-z and digits, single '.', '_' or '__' and any '-' between them"
    raise refused(text, f"repository {shown(repository)} is not well formed; each component has {rule}")


def check_tag(text: str, tag: str) -> None:
    """Refuse what is not a tag."""
    if not tag:
        raise refused(text, "there is no tag after the ':'; write :TAG, or leave the ':' out for latest")
    if re.fullmatch(TAG, tag) is None:
        rule = "1 to 128 letters, digits, '_', '.' and '-', the first not '.' or '-'"
        raise refused(text, f"{shown(tag)} is not a tag; a tag has {rule}")


def checked_digest(text: str, digest: str) -> Digest:
    """Give the digest, or say why it is none."""
    try:
        return Digest.parse(digest)
    except ValueError as problem:
        raise refused(text, f"the digest after the '@' is not one: {problem}") from problem


def checked_name(text: str, name: str, origin: str) -> str:
    """Give the served name, or say where a bad one came from."""
    if re.fullmatch(_NAME, name) is None or name in _NO_NAMES:
        raise refused(text, f"{origin} is {shown(name)}; a served name has letters, digits, '.', '_' and '-' only")
    if name == _RESERVED:
        raise refused(text, f"{origin} is {_RESERVED!r}, which has a meaning of its own; give another with NAME=")
    return name


def refused(text: str, reason: str) -> InvalidReference:
    """Give the error for `text`: what is wrong with it, and what to write."""
    return InvalidReference(f"{shown(text)} is not a reference: {reason}")


def shown(text: str) -> str:
    """Give `text` in quotes, cut to a line, without a password in it."""
    return repr(cut(text))


def cut(text: str) -> str:
    """Give `text`, cut to a line, without a password in it."""
    text = re.sub(_USER_INFO, "…@", text)
    return text if len(text) <= 160 else text[:160] + "…"
