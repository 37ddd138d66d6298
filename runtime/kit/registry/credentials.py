"""The login for a repository, from `$REGISTRY_AUTH_FILE`, Kit's `credentials.json` and Docker's `config.json`.

What an operator gives beside them (`Given`) is for the registry of the reference alone. Order in a file: the helper of
this registry, then the store for all, then `auths`, as Docker has it. Of several keys for a host the one with the
longest path counts (https://github.com/containers/image/blob/main/docs/containers-auth.json.5.md). Nothing is read
before a registry has asked for a login. Secrets never appear in a repr or a message; `source` says where the login came
from. https://docs.docker.com/reference/cli/docker/login/#credential-stores
"""

import base64
import json
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, NamedTuple

from runtime.errors import LoginRefused
from runtime.kit.format.paths import kit_home
from runtime.kit.registry.origin import DOCKER_HUB

HELPER_SECONDS: Final = 10.0
_MOST_HELPER_BYTES: Final = 64 * 1024
_MOST_CONFIG_BYTES: Final = 1024 * 1024
_DOCKER_HUB_KEY: Final = "https://index.docker.io/v1/"
_DOCKER_HUB_NAMES: Final = frozenset({DOCKER_HUB, "index.docker.io", "registry-1.docker.io"})
_HELPER_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
_IDENTITY_USER: Final = "<token>"


@dataclass(frozen=True, slots=True)
class Credential:
    """User and password, an identity token (OAuth2 refresh token), a ready bearer token, or nothing."""

    source: str
    username: str = ""
    password: str = field(default="", repr=False)
    identity_token: str = field(default="", repr=False)
    registry_token: str = field(default="", repr=False)

    @property
    def anonymous(self) -> bool:
        """Tells whether there is nothing to log in with; `source` then says where it was looked for."""
        return not (self.username or self.identity_token or self.registry_token)

    @property
    def basic(self) -> str:
        """The value of an Authorization header (https://www.rfc-editor.org/rfc/rfc7617#section-2, UTF-8)."""
        return "Basic " + base64.b64encode(f"{self.username}:{self.password}".encode()).decode()


class Given(NamedTuple):
    """What is for the registry of the reference and for no other: a login, else `KIT_USER` and `KIT_PASSWORD`."""

    user: str | None = None
    password_file: Path | None = None

    def credential(self, environ: Mapping[str, str] = os.environ) -> Credential | None:
        """Returns the login, if there is one. Raises LoginRefused for a file that cannot be read."""
        if self.user and self.password_file:
            try:
                password = self.password_file.read_bytes()[:_MOST_CONFIG_BYTES].decode().rstrip("\r\n")
            except (OSError, UnicodeDecodeError) as error:
                reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
                raise LoginRefused(f"cannot read --registry-password-file {self.password_file}: {reason}") from None
            return Credential(f"--registry-user and {self.password_file}", self.user, password)
        user, password = environ.get("KIT_USER", ""), environ.get("KIT_PASSWORD", "")
        return Credential("KIT_USER and KIT_PASSWORD", user, password) if user and password else None


def client_certificate(environ: Mapping[str, str] = os.environ) -> tuple[str, str] | str | None:
    """Returns the files of certificate and key, or of both in one, that `KITOPS_CLIENT_CERT` and `…_KEY` name."""
    certificate, key = environ.get("KITOPS_CLIENT_CERT"), environ.get("KITOPS_CLIENT_KEY")
    return (certificate, key) if certificate and key else certificate or None


def find_credential(registry: str, repository: str = "", environ: Mapping[str, str] = os.environ) -> Credential:
    """Returns the login for a repository of `registry` (HOST or HOST:PORT), or an anonymous one, which says why.

    Raises LoginRefused if a file or a helper breaks.
    """
    notes: list[str] = []
    for path in _files(environ):
        if (config := _read(path)) is None:
            notes.append(f"no Docker config at {path}")
            continue
        of_helpers: list[str] = []
        for helper in _helpers(config, registry, repository, path):
            if credential := _ask_helper(helper, registry, path, environ, of_helpers):
                return credential
        if credential := _from_auths(config, registry, repository, path):
            return credential
        notes += [f"no login for {registry} in {path}", *of_helpers]
    return Credential("; ".join(notes) or "no Docker config: neither DOCKER_CONFIG nor HOME is set")


def _files(environ: Mapping[str, str]) -> list[Path]:
    home = environ.get("HOME")
    folder = environ.get("DOCKER_CONFIG") or (home and f"{home}/.docker")
    named = environ.get("REGISTRY_AUTH_FILE")
    kits = kit_home(environ) / "credentials.json"
    paths = (named, kits if kits.exists() else "", folder and f"{folder}/config.json")
    return [Path(path) for path in paths if path]


_OPAQUE: Final = re.compile(r"[\x21-\x7e]+")


def _read(path: Path) -> Mapping[str, object] | None:
    try:
        with path.open("rb") as file:
            config = json.loads(file.read(_MOST_CONFIG_BYTES))
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise LoginRefused(f"cannot read the Docker config {path}: {error.strerror}") from error
    except ValueError as error:
        place = f"line {error.lineno} column {error.colno}" if isinstance(error, json.JSONDecodeError) else "not UTF-8"
        # from None: a decoding error carries the text, and the text holds secrets
        raise LoginRefused(f"the Docker config {path} is not JSON ({place}); repair it, or log in again") from None
    if not isinstance(config, dict):
        raise LoginRefused(f"the Docker config {path} is not a JSON object; repair it, or log in again")
    return config


def _place(key: str) -> str:
    """Returns HOST or HOST/PATH for a key of the file, in any of its historic spellings."""
    host, _, path = re.sub(r"^https?://", "", key.strip()).partition("/")
    host = DOCKER_HUB if host.lower() in _DOCKER_HUB_NAMES else host.lower()
    path = path.strip("/")
    return f"{host}/{path}" if path not in ("", "v1", "v2") else host


def _lookup(table: object, registry: str, repository: str) -> tuple[str, object]:
    """Returns the key with the longest path that leads to the repository, and its value; "" and None without one."""
    if not isinstance(table, dict):
        return "", None
    place = f"{_place(registry)}/{repository}".rstrip("/")
    while place:
        keys = sorted((key for key in table if _place(key) == place), key=lambda key: (key != place, key))
        if keys:
            return keys[0], table[keys[0]]
        place = place.rpartition("/")[0]
    return "", None


def _helpers(config: Mapping[str, object], registry: str, repository: str, path: Path) -> list[str]:
    named = [_lookup(config.get("credHelpers"), registry, repository)[1], config.get("credsStore")]
    helpers = [name for name in named if isinstance(name, str) and name]
    for name in helpers:
        if not _HELPER_NAME.fullmatch(name):
            raise LoginRefused(f"the Docker config {path} names a credential helper {name!r}: not a program's name")
    return list(dict.fromkeys(helpers))


def _from_auths(config: Mapping[str, object], registry: str, repository: str, path: Path) -> Credential | None:
    """Returns the login in `auths`; None if there is none, or the empty entry that a helper leaves there."""
    key, entry = _lookup(config.get("auths"), registry, repository)
    if not isinstance(entry, dict):
        return None
    source = f"the entry {key} of {path}"
    text = {key: value if isinstance(value, str) else "" for key, value in entry.items()}
    username, password = text.get("username", ""), text.get("password", "")
    if auth := text.get("auth"):
        try:
            username, colon, password = base64.b64decode(auth, validate=True).decode().partition(":")
        except ValueError:
            colon = ""
        if not colon:
            raise LoginRefused(f'"auth" in {source} is not base64 of USER:PASSWORD; log in again')
        password = password.rstrip("\0")
    for kind in ("identitytoken", "registrytoken"):
        if (token := text.get(kind)) and not _OPAQUE.fullmatch(token):
            raise LoginRefused(f'"{kind}" in {source} has characters that no header may have; log in again')
    credential = Credential(source, username, password, text.get("identitytoken", ""), text.get("registrytoken", ""))
    return None if credential.anonymous else credential


def _ask_helper(name: str, registry: str, path: Path, env: Mapping[str, str], notes: list[str]) -> Credential | None:
    """Asks `docker-credential-NAME get` (https://github.com/docker/docker-credential-helpers#development)."""
    import subprocess

    program = f"docker-credential-{name}"
    address = _DOCKER_HUB_KEY if registry in _DOCKER_HUB_NAMES else registry
    try:
        done = subprocess.run(  # noqa: S603 - the operator's own config names it; its name was checked
            [program, "get"], input=address.encode(), capture_output=True, timeout=HELPER_SECONDS, env=dict(env)
        )
    except (FileNotFoundError, PermissionError):
        notes.append(f"{program}, which it names, is not installed here")
        return None
    except subprocess.TimeoutExpired:
        late = f"did not answer for {registry} in {HELPER_SECONDS:g} s"
        raise LoginRefused(f"the credential helper {program} (named by {path}) {late}") from None
    if done.returncode != 0:
        notes.append(f"{program} has none either (exit code {done.returncode})")
        return None
    try:
        entry = json.loads(done.stdout[:_MOST_HELPER_BYTES])
        username, secret = entry["Username"], entry["Secret"]
    except (ValueError, KeyError, TypeError):
        entry = username = secret = None
    if not isinstance(username, str) or not isinstance(secret, str):
        # from None, and no quote: what a helper prints may be the secret
        raise LoginRefused(f"the credential helper {program} gave no Username and Secret for {registry}") from None
    source, is_token = f"the credential helper {program}", username == _IDENTITY_USER
    return Credential(source, identity_token=secret) if is_token else Credential(source, username, secret)
