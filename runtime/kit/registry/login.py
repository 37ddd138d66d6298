"""Answers a registry's challenge: Basic, or a Bearer token from the service that the registry names.

One login is for one repository of one registry, so a token is never used for another scope.
Basic: https://www.rfc-editor.org/rfc/rfc7617 · Bearer: https://www.rfc-editor.org/rfc/rfc6750
Tokens: https://distribution.github.io/distribution/spec/auth/token/ and …/spec/auth/oauth/
"""

import json
import re
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Final
from urllib.parse import urlencode, urlsplit

from runtime.errors import LoginRefused, RegistryUnavailable
from runtime.kit.registry.challenge import parse_challenges
from runtime.kit.registry.credentials import Credential
from runtime.kit.registry.origin import Origin, may_hold_credentials, realm_refusal

MAX_TOKEN_BYTES: Final = 64 * 1024
_CLIENT: Final = "modelkit-runtime"
_OPAQUE: Final = re.compile(r"[\x21-\x7e]+")


@dataclass(frozen=True, slots=True)
class TokenRequest:
    """One request to a token service. With a `form` it is a POST."""

    url: str
    authorization: str | None = field(default=None, repr=False)
    form: Mapping[str, str] | None = field(default=None, repr=False)


Ask = Callable[[TokenRequest], tuple[int, bytes]]
"""Sends the request, returns status and body (at most MAX_TOKEN_BYTES). Raises Transient for what may pass."""


class Login:
    """Finds the Authorization header for one repository. Threads may share it.

    `find` looks up the credential of HOST or HOST:PORT; it is called only when a login is wanted.
    """

    def __init__(self, host: str, origin: Origin, repository: str, find: Callable[[str], Credential], ask: Ask) -> None:
        self._registry, self._origin, self._repository = host, origin, repository
        self._find, self._ask = find, ask
        self._lock, self._source = threading.Lock(), ""
        self.header: str | None = None  # the one that worked last, None before the first challenge

    def answer(self, challenge: str, used: str | None) -> str:
        """Returns the header to try after `used` got a WWW-Authenticate `challenge`, or raises LoginRefused."""
        with self._lock:
            if self.header is None or self.header == used:  # else another thread has renewed it meanwhile
                self.header = self._choose(challenge, used)
            return self.header

    def refused(self, what: str) -> LoginRefused:
        """Returns the error for a registry that says no: whose credentials were used, and how to log in."""
        host, used = self._registry, self._source or "no login, none was asked for"
        fix = f"run `docker login {host}`, or set DOCKER_CONFIG to the folder of a config.json with that login"
        return LoginRefused(f"{host} refused {self._repository}: {what}; used: {used}; {fix}")

    def _choose(self, header: str, used: str | None) -> str:
        try:
            challenges = parse_challenges(header)
        except ValueError as error:
            raise RegistryUnavailable(f"{self._registry} asks for a login in an unreadable way: {error}") from error
        credential = self._find(self._registry)
        self._source = credential.source
        if "bearer" in challenges:
            return self._bearer(challenges["bearer"], credential, used)
        if "basic" in challenges:
            if not credential.username:
                raise self.refused("it wants a user and a password")
            if used == credential.basic:
                raise self.refused("wrong user or password")
            return credential.basic
        wanted = ", ".join(challenges) or "no scheme at all"
        raise self.refused(f"it wants a login by {wanted}; Basic and Bearer are known here")

    def _bearer(self, challenge: Mapping[str, str], credential: Credential, used: str | None) -> str:
        if ready := credential.registry_token:
            if used == f"Bearer {ready}":
                raise self.refused("the registry token has expired or is not enough")
            return f"Bearer {ready}"
        realm = self._realm(challenge)
        credential = self._for_realm(realm, credential)
        question = self._question(challenge, credential, trusted=may_hold_credentials(self._origin, realm))
        status, body = self._ask(question)
        if status in (400, 401, 403):
            what = "it wants a login" if credential.anonymous else "wrong user, password or token"
            raise self.refused(f"its token service {realm} answered {status}: {what}")
        if status != 200:
            raise RegistryUnavailable(f"the token service {realm} of {self._registry} answered {status}")
        return f"Bearer {_token(body, realm)}"

    def _realm(self, challenge: Mapping[str, str]) -> Origin:
        try:
            realm = Origin.of(challenge.get("realm", ""))
        except ValueError as error:
            raise self.refused(f"its token service cannot be asked, {error}") from error
        if refusal := realm_refusal(self._origin, realm):
            raise self.refused(f"its token service {realm} is not asked: {refusal}")
        return realm

    def _for_realm(self, realm: Origin, credential: Credential) -> Credential:
        """Returns the credential that this token service may see: on another host, that host's own."""
        if credential.anonymous or may_hold_credentials(self._origin, realm):
            return credential
        own = self._find(urlsplit(str(realm)).netloc)
        if own.anonymous:
            fix = "log in to that host too if it is right"
            own = Credential(f"nothing, since {credential.source} is not for {realm}: {fix}")
        self._source = own.source
        return own

    def _question(self, challenge: Mapping[str, str], credential: Credential, *, trusted: bool) -> TokenRequest:
        """Returns what to ask the service. The registry gets the token: one from a foreign service is for this pull."""
        url, service = challenge["realm"].partition("#")[0], challenge.get("service")
        scope = f"repository:{self._repository}:pull"
        if trusted or credential.anonymous:
            scope = challenge.get("scope") or scope
        else:
            url = url.partition("?")[0]
        named = {"service": service} if service else {}
        if credential.identity_token:
            grant = {"grant_type": "refresh_token", "refresh_token": credential.identity_token, "client_id": _CLIENT}
            return TokenRequest(url, form={**grant, **named, "scope": scope})
        query = urlencode([*named.items(), *(("scope", each) for each in scope.split()), ("client_id", _CLIENT)])
        joint = "&" if urlsplit(url).query else "?"
        return TokenRequest(url + joint + query, None if credential.anonymous else credential.basic)


def _token(body: bytes, realm: Origin) -> str:
    """Returns the token in a service's answer. Raises RegistryUnavailable, without quoting the answer."""
    try:
        answer = json.loads(body)
    except (ValueError, RecursionError):
        answer = None
    token = (answer.get("token") or answer.get("access_token")) if isinstance(answer, dict) else None
    if not isinstance(token, str) or not _OPAQUE.fullmatch(token):
        raise RegistryUnavailable(f"the token service {realm} answered without a usable token")
    return token
