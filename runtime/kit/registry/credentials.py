"""The login for a registry, from Docker's `config.json`: `auths`, `credHelpers`, `credsStore`.

Order: the helper of this registry, then the store for all, then `auths`, as Docker has it. Nothing is read before a
registry has asked for a login. Secrets never appear in a repr or a message; `source` says where the login came from.
https://docs.docker.com/reference/cli/docker/login/#credential-stores
"""

import base64
import json
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from runtime.errors import LoginRefused
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


def find_credential(registry: str, environ: Mapping[str, str] = os.environ) -> Credential:
    """Returns the login for `registry` (HOST or HOST:PORT), or an anonymous one. Raises LoginRefused if that breaks."""
    home = environ.get("HOME")
    folder = environ.get("DOCKER_CONFIG") or (home and f"{home}/.docker")
    if not folder:
        return Credential("no Docker config: neither DOCKER_CONFIG nor HOME is set")
    path = Path(folder) / "config.json"
    config = _read(path)
    if config is None:
        return Credential(f"no Docker config at {path}")
    notes: list[str] = []
    for helper in _helpers(config, registry, path):
        if credential := _ask_helper(helper, registry, path, environ, notes):
            return credential
    return _from_auths(config, registry, path) or Credential("; ".join([f"no login for {registry} in {path}", *notes]))


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


def _same_registry(key: str, registry: str) -> bool:
    """Tells whether a key of the file, in any of its historic spellings, means this registry."""
    host = re.sub(r"^https?://", "", key.strip().lower()).partition("/")[0]
    registry = registry.lower()
    return host == registry or {host, registry} <= _DOCKER_HUB_NAMES


def _lookup(table: object, registry: str) -> object:
    """Returns the value of the exact key, else of a key that means the same registry, else None."""
    if not isinstance(table, dict):
        return None
    if registry in table:
        return table[registry]
    return next((table[key] for key in sorted(table) if _same_registry(key, registry)), None)


def _helpers(config: Mapping[str, object], registry: str, path: Path) -> list[str]:
    named = [_lookup(config.get("credHelpers"), registry), config.get("credsStore")]
    helpers = [name for name in named if isinstance(name, str) and name]
    for name in helpers:
        if not _HELPER_NAME.fullmatch(name):
            raise LoginRefused(f"the Docker config {path} names a credential helper {name!r}: not a program's name")
    return list(dict.fromkeys(helpers))


def _from_auths(config: Mapping[str, object], registry: str, path: Path) -> Credential | None:
    """Returns the login in `auths`; None if there is none, or the empty entry that a helper leaves there."""
    entry = _lookup(config.get("auths"), registry)
    if not isinstance(entry, dict):
        return None
    source = f"the entry {registry} of {path}"
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
