"""HTTP requests to a registry, by `oras` (and `requests` under it), which only this module uses.

Of oras-py 0.2.43 it replaces `oras/provider.py::Registry.do_request`, the one method that makes all requests: that has
no time-outs, retries for minutes what cannot pass, answers challenges of other hosts, lets netrc replace the login and
decodes bodies. This one makes one attempt.
"""

import os
import sys
from collections.abc import Mapping
from contextlib import suppress
from functools import partial
from importlib import import_module
from time import monotonic
from types import ModuleType
from typing import Any, Final
from urllib.parse import urljoin

import requests
import urllib3
from urllib3.exceptions import InvalidHeader, NewConnectionError

from runtime.errors import RegistryUnavailable
from runtime.kit.registry.login import MAX_TOKEN_BYTES, Login, TokenRequest
from runtime.kit.registry.origin import Origin, redirect_refusal
from runtime.kit.registry.retry import Transient
from runtime.kit.registry.transport import Adapter
from runtime.version import __version__


def import_oras() -> tuple[Any, Any]:
    """Returns the modules `oras.provider` and `oras.container`, imported without jsonschema, which only a push uses.

    It would take 60 ms, and with optional format checkers a second more. In its place oras-py gets a module that
    imports it when it is used.
    """
    late = ModuleType("jsonschema")
    late.__getattr__ = lambda name: getattr(import_module("jsonschema"), name)  # type: ignore[method-assign]
    is_ours = sys.modules.setdefault("jsonschema", late) is late
    try:
        return import_module("oras.provider"), import_module("oras.container")
    finally:
        if is_ours:
            del sys.modules["jsonschema"]


_provider, _container = import_oras()
_OrasRegistry: Any = _provider.Registry

CONNECT_SECONDS: Final = 5.0
STALL_SECONDS: Final = 20.0
MAX_REDIRECTS: Final = 5
_LEAST_SECONDS: Final = 1.0
_LEAST_BYTES_PER_SECOND: Final = 1000
_CONNECTIONS: Final = 64  # kept open, if so many are used: four layers at a time, each in eight ranges
_REDIRECTS: Final = frozenset({301, 302, 303, 307, 308})
_MAY_PASS: Final = frozenset({408, 425, 429})
_MOST_SHOWN: Final = 200  # characters of what a registry says that a message quotes
_NO_PROXY: Final = {"http": "", "https": "", "all": ""}
_TIMEOUTS: Final = (TimeoutError, requests.Timeout, urllib3.exceptions.TimeoutError)
_Data = Mapping[str, str] | bytes | None
_Headers = Mapping[str, str]
_HEADERS: Final = {"User-Agent": f"modelkit-runtime/{__version__}", "Accept-Encoding": "identity"}


class Client(_OrasRegistry):  # type: ignore[misc]  # oras-py has no types
    """oras-py's client, for one origin. It follows redirects itself; login and client certificate go to its
    own origin only."""

    def __init__(self, origin: Origin, *, plain_http: bool, certificate: tuple[str, str] | str | None = None) -> None:
        host = str(origin).partition("://")[2]
        super().__init__(hostname=host, insecure=origin.scheme == "http", tls_verify=True)
        self.origin, self._plain_http, self._certificate = origin, plain_http, certificate
        self.login: Login | None = None
        self.session.auth = lambda request: request  # anything but None keeps netrc from replacing our headers
        # requests prepares the next address, and reads the whole body, even where it is told not to follow
        self.session.get_redirect_target = lambda response: None
        # requests reads REQUESTS_CA_BUNDLE and CURL_CA_BUNDLE, which win, but not OpenSSL's own variable
        self.session.verify = os.environ.get("SSL_CERT_FILE") or True
        for scheme in ("http://", "https://"):
            self.session.mount(scheme, Adapter(max_retries=0, pool_maxsize=_CONNECTIONS))

    def container(self, repository: str) -> Any:
        """Returns oras-py's name of a repository, for its addresses; set by hand, since its parser guesses hosts."""
        container = _container.Container(repository, registry=self.hostname)
        container.registry, container.namespace, container.repository = self.hostname, None, repository
        return container

    def do_request(
        self,
        url: str,
        method: str = "GET",
        data: _Data = None,
        headers: _Headers | None = None,
        json: object = None,
        stream: bool = False,
        *,
        left_seconds: float = STALL_SECONDS,
    ) -> requests.Response:
        """Returns the answer to one request, logged in if asked; its body is not read. No wait exceeds `left_seconds`.

        Raises Transient for what may pass, RegistryUnavailable for what will not, LoginRefused after a second 401.
        """
        del json, stream  # a pull sends no JSON, and always streams
        ask = partial(self._follow, method, url, data, headers or {}, left_seconds)
        used = self.login.header if self.login else None
        response = ask(used)
        if response.status_code != 401 or self.login is None or Origin.of(response.url) != self.origin:
            return response
        response.close()
        response = ask(self.login.answer(response.headers.get("WWW-Authenticate", ""), used))
        if response.status_code == 401 and Origin.of(response.url) == self.origin:
            response.close()
            raise self.login.refused("wrong user, password or token, or not allowed to read it")
        return response

    def ask_token(self, question: TokenRequest) -> tuple[int, bytes]:
        """Returns status and body of a token service's answer. Raises Transient as `do_request` does."""
        method = "GET" if question.form is None else "POST"
        with self._follow(method, question.url, question.form, {}, STALL_SECONDS, question.authorization) as response:
            raise_if_passing(response)
            return response.status_code, read_capped(response, MAX_TOKEN_BYTES)

    def _follow(
        self, method: str, url: str, data: _Data, headers: _Headers, left_seconds: float, authorization: str | None
    ) -> requests.Response:
        """Sends, and follows redirects; `authorization` (and a form) stay at the origin of the first address."""
        home = Origin.of(url)
        for _ in range(MAX_REDIRECTS + 1):
            here = Origin.of(url)
            login = {"Authorization": authorization} if authorization and here == home else {}
            response = self._send(method, url, data, {**_HEADERS, **headers, **login}, left_seconds)
            location = response.headers.get("Location")
            if response.status_code not in _REDIRECTS or location is None or method != "GET":
                return response
            response.close()
            url = self._target(here, url, location)
        problem = f"{home} redirects more than {MAX_REDIRECTS} times"
        raise RegistryUnavailable(f"{problem}; is this the registry's own address?")

    def _target(self, source: Origin, url: str, location: str) -> str:
        try:
            target = urljoin(url, location)
            refusal = redirect_refusal(source, Origin.of(target), plain_http=self._plain_http)
        except ValueError as error:
            raise RegistryUnavailable(f"{source} redirects to an address that is not followed, {error}") from error
        if refusal:
            raise RegistryUnavailable(f"the redirect of {source} to {Origin.of(target)} is not followed: {refusal}")
        return target

    def _send(self, method: str, url: str, data: _Data, headers: _Headers, left_seconds: float) -> requests.Response:
        here, left = Origin.of(url), max(left_seconds, _LEAST_SECONDS)
        options: dict[str, object] = {"proxies": _NO_PROXY} if here.is_loopback else {}
        options["cert"] = self._certificate if here == self.origin else None
        options["timeout"] = min(CONNECT_SECONDS, left), min(STALL_SECONDS, left)
        try:
            response: requests.Response = self.session.request(
                method, url, data=data, headers=headers, allow_redirects=False, stream=True, **options
            )
        except requests.exceptions.SSLError as error:
            raise RegistryUnavailable(f"no TLS with {here}: {_reason(error)}; {_tls_advice(error)}") from error
        except (requests.Timeout, requests.ConnectionError, urllib3.exceptions.HTTPError) as error:
            raise Transient(_reason(error)) from error
        except OSError as error:  # any other of requests', or a file of authorities that is missing
            raise RegistryUnavailable(f"cannot ask {here}: {_reason(error)}") from error
        return response


class Body:
    """The bytes of one answer, as sent. `start`: position of the first one in the blob; `length`: how many, if said."""

    def __init__(self, response: requests.Response, start: int) -> None:
        self._response, self.start = response, start
        length = response.headers.get("Content-Length", "")
        self.length = int(length) if length.isdecimal() and len(length) < 20 else None
        self.encoding = response.headers.get("Content-Encoding", "identity")
        self.takes_ranges = response.status_code == 206 or response.headers.get("Accept-Ranges", "") == "bytes"
        self.close = response.close  # gives the connection back, or closes it if there is more to read

    def read(self, most: int) -> bytes:
        """Returns what has come, up to `most` bytes, none at the end. Raises Transient if it broke or stalled."""
        try:
            data: bytes = self._response.raw.read1(most, decode_content=False)
        except (urllib3.exceptions.HTTPError, OSError) as error:
            raise Transient(_reason(error)) from error
        return data


def read_capped(response: requests.Response, most: int) -> bytes:
    """Returns the whole body. Raises RegistryUnavailable if it is longer than `most` bytes, Transient if it drips."""
    body, data, began = Body(response, 0), bytearray(), monotonic()
    while chunk := body.read(min(most + 1 - len(data), 1 << 18)):
        data += chunk
        if len(data) > most:
            here = Origin.of(response.url)
            raise RegistryUnavailable(f"{here} sent more than {most} bytes where a short answer belongs")
        if (seconds := monotonic() - began) > STALL_SECONDS + len(data) / _LEAST_BYTES_PER_SECOND:
            raise Transient(f"{Origin.of(response.url)} sent {len(data)} bytes of a short answer in {seconds:.0f} s")
    return bytes(data)


def raise_if_passing(response: requests.Response) -> None:
    """Raises Transient for a status that may pass: too many requests, time-outs, 5xx."""
    status = response.status_code
    if status in _MAY_PASS or status >= 500:
        wait, reason = None, (response.reason or "")[:_MOST_SHOWN]
        with suppress(ValueError, OverflowError, InvalidHeader):
            wait = urllib3.Retry().parse_retry_after(response.headers.get("Retry-After", ""))
        raise Transient(f"{Origin.of(response.url)} answered {status} {reason}".rstrip(), retry_after=wait)


def _reason(error: BaseException) -> str:
    """Returns the first cause inside the exceptions of requests and urllib3, in a few words."""
    cause: BaseException | None = error
    seen: list[BaseException] = []
    while cause is not None and cause not in seen:
        seen.append(cause)
        inner = getattr(cause, "reason", None) or next((arg for arg in cause.args if isinstance(arg, Exception)), None)
        cause = inner if isinstance(inner, BaseException) else cause.__cause__ or cause.__context__
    if any(isinstance(each, _TIMEOUTS) and not isinstance(each, NewConnectionError) for each in seen):
        return "no answer in time"
    system = next((each for each in reversed(seen) if isinstance(each, OSError) and each.strerror), None)
    text = (system.strerror or "") if system else str(seen[-1]).strip()
    return text[:_MOST_SHOWN] or type(seen[-1]).__name__


def _tls_advice(error: requests.exceptions.SSLError) -> str:
    if "WRONG_VERSION_NUMBER" in str(error) or "RECORD_LAYER_FAILURE" in str(error):
        return "it seems to speak plain http, which --plain-http allows"
    if "ALERT_BAD_CERTIFICATE" in str(error) or "CERTIFICATE_REQUIRED" in str(error):
        return "it wants a client certificate: set KITOPS_CLIENT_CERT and KITOPS_CLIENT_KEY to its files"
    return "set SSL_CERT_FILE to the certificates of its authority if it has its own"
