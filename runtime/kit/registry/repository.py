"""One repository of one registry: manifests, blobs and tags. Their bytes are checked by `source` and `download`.

https://github.com/opencontainers/distribution-spec/blob/v1.1.0/spec.md#pull
"""

import json
import re
from collections.abc import Iterator
from contextlib import suppress
from functools import partial
from typing import Final
from urllib.parse import quote, urljoin

import requests

from runtime.errors import DigestMismatch, Failure, InvalidManifest, NotFound, RegistryUnavailable, SizeMismatch
from runtime.kit.format.digest import Digest
from runtime.kit.format.limits import MAX_DOCUMENT_BYTES
from runtime.kit.format.manifest import Descriptor
from runtime.kit.format.media_types import MANIFESTS, OCI_INDEX
from runtime.kit.format.reference import TAG, Reference, newest
from runtime.kit.registry.client import Body, Client, raise_if_passing, read_capped
from runtime.kit.registry.credentials import Credential, Given, client_certificate, find_credential
from runtime.kit.registry.login import Login
from runtime.kit.registry.origin import Origin, registry_origin
from runtime.kit.registry.ranges import Buffers
from runtime.kit.registry.retry import Pause, RetryBudget, Tell, Transient

_MAX_ERROR_BYTES: Final = 64 * 1024
_CONTENT_RANGE: Final = re.compile(r"bytes ([0-9]{1,19})-([0-9]{1,19})/([0-9]{1,19}|\*)")
_UNPRINTABLE: Final = re.compile(r"[^\x20-\x7e]+")
# https://github.com/opencontainers/distribution-spec/blob/v1.1.0/spec.md#warnings
_WARNING: Final = re.compile(r'299 - "((?:[^"\\]|\\.)*)"')
_MOST_WARNING: Final = 4096  # characters of a header
_MOST_PAGES: Final = 16


class Repository:
    """Asks for manifests, blobs and tags. `pause` sleeps between attempts; it may raise to give up.

    `given`: the login that the operator gave for this registry; None for one that a kit or a mirror named. `warn` gets
    the registry's warnings, each text once; `retried` why it is asked again after a longer pause.
    """

    def __init__(
        self,
        reference: Reference,
        budget_seconds: float,
        pause: Pause,
        *,
        plain_http: bool,
        min_rate: int = 0,
        buffers: Buffers | None = None,
        given: Given | None = None,
        warn: Tell = lambda text: None,
        retried: Tell = lambda reason: None,
    ) -> None:
        origin = registry_origin(reference.registry, plain_http=plain_http)
        self._host, self._name = reference.registry, reference.repository
        self._budget, self._pause = budget_seconds, pause
        self.min_rate = min_rate  # bytes a second, below which a connection is replaced
        self.buffers = buffers or Buffers()
        self.ranges = True  # until an answer to a bounded range is something else
        self._given, self._warn, self._retried, self._warned = given, warn, retried, set[str]()
        certificate = client_certificate() if given else None
        self._client = client = Client(origin, plain_http=plain_http, certificate=certificate)
        self._names = client.container(reference.repository)
        self._login = client.login = Login(self._host, origin, self._name, self._credential, client.ask_token)

    def _credential(self, host: str) -> Credential:
        is_own = host == self._host
        given = self._given.credential() if self._given and is_own else None
        return given or find_credential(host, self._name if is_own else "")

    def retry_budget(self) -> RetryBudget:
        """Returns a new budget for one thing wanted from here."""
        return RetryBudget(self._host, self._budget, self._pause, self._retried)

    def manifest(self, tag_or_digest: str) -> bytes:
        """Returns the manifest's bytes as sent. Raises NotFound, naming the newest tags."""
        if (raw := self.find(tag_or_digest)) is None:
            raise self._not_found(tag_or_digest)
        return raw

    def find(self, tag_or_digest: str) -> bytes | None:
        """Returns the manifest's bytes as sent; None if there is none."""
        budget = self.retry_budget()
        return budget.run(lambda: self._manifest(tag_or_digest, budget))

    def referrers(self, digest: Digest, artifact_type: str) -> Iterator[bytes]:
        """Yields the pages of the index of what refers to a manifest, of this type if the registry can choose.

        https://github.com/opencontainers/distribution-spec/blob/v1.1.0/spec.md#listing-referrers
        """
        place = f"{self._names.registry}/v2/{self._names.api_prefix}/referrers/{digest}"
        address = f"{place}?artifactType={quote(artifact_type, safe='')}"
        for _ in range(_MOST_PAGES):
            budget = self.retry_budget()
            page, following = budget.run(partial(self._page, address, budget))
            if page is not None:
                yield page
            if following is None:
                return
            address = following

    def open_blob(
        self, descriptor: Descriptor, offset: int, budget: RetryBudget, *, fresh: bool = False, end: int | None = None
    ) -> Body:
        """Makes one attempt at a blob's bytes from `offset` on; `fresh` asks caches on the way for a new copy.

        The body may start at 0 in spite of the offset. Raises Transient, NotFound, SizeMismatch, LoginRefused.
        """
        headers = {"Range": f"bytes={offset}-{'' if end is None else end - 1}"} if offset else {}
        headers |= {"Cache-Control": "no-cache"} if fresh else {}
        response = self._get(self._names.get_blob_url(str(descriptor.digest)), headers, budget)
        try:
            return self._body(response, descriptor, offset, end or descriptor.size)
        except BaseException:
            response.close()
            raise

    def tags(self) -> list[str] | None:
        """Returns all well-formed tags in the registry's order; None if they cannot be had."""
        try:
            with self._get(self._names.tags_url(), {}, RetryBudget(self._host, 0.0, self._pause)) as response:
                listed = json.loads(read_capped(response, MAX_DOCUMENT_BYTES)) if response.status_code == 200 else {}
            return [tag for tag in listed["tags"] if isinstance(tag, str) and re.fullmatch(TAG, tag)]
        except (Transient, Failure, ValueError, LookupError, TypeError, RecursionError):
            return None

    def close(self) -> None:
        """Closes all connections that are not in use."""
        self._client.session.close()

    def _get(self, address: str, headers: dict[str, str], budget: RetryBudget) -> requests.Response:
        url = f"{self._client.prefix}://{address}"
        response = self._client.do_request(url, headers=headers, stream=True, left_seconds=budget.left())
        for text in _WARNING.findall(response.headers.get("Warning", "")[:_MOST_WARNING]):
            if text not in self._warned:
                self._warned.add(text)
                self._warn(f"{Origin.of(response.url)} says: {_UNPRINTABLE.sub(' ', text)}")
        return response

    def _page(self, address: str, budget: RetryBudget) -> tuple[bytes | None, str | None]:
        """Returns a page of referrers, and the address of the next one if that is here. None: there is none."""
        with self._get(address, {"Accept": OCI_INDEX}, budget) as response:
            raise_if_passing(response)
            if response.status_code != 200:
                return None, None
            return read_capped(response, MAX_DOCUMENT_BYTES), self._next_page(response)

    def _next_page(self, response: requests.Response) -> str | None:
        """Returns the address that `Link` has, if it is at this registry. Warns of another."""
        if "next" not in response.links:
            return None
        with suppress(ValueError):
            following = urljoin(response.url, response.links["next"]["url"])
            if Origin.of(following) == self._client.origin:
                return following.partition("://")[2]
        self._warn(f"{self._client.origin} has the next page of an answer elsewhere, where it is not asked for")
        return None

    def _manifest(self, tag_or_digest: str, budget: RetryBudget) -> bytes | None:
        address, accept = self._names.manifest_url(tag_or_digest), {"Accept": ", ".join(MANIFESTS)}
        with self._get(address, accept, budget) as response:
            if response.status_code == 404:
                return None
            if response.status_code != 200:
                raise self._failure(response, f"manifest {tag_or_digest}")
            raw = read_capped(response, MAX_DOCUMENT_BYTES)
            self._check_headers(response, raw)
        return raw

    def _body(self, response: requests.Response, descriptor: Descriptor, offset: int, end: int) -> Body:
        if response.status_code == 200:
            return Body(response, 0)
        if response.status_code == 206:
            return Body(response, _range_start(response, descriptor, offset, end))
        if response.status_code == 404:
            raise NotFound(f"{self._host}/{self._name} has no blob {descriptor.digest}, though its manifest names it")
        if response.status_code == 416 and offset:  # its body is not read: docker-registry sends a wrong length
            raise SizeMismatch(f"blob {descriptor.digest} ends after {offset} bytes, wanted {descriptor.size}")
        raise self._failure(response, f"blob {descriptor.digest}")

    def _check_headers(self, response: requests.Response, raw: bytes) -> None:
        """Compares what the headers claim with the body: nothing relies on them, but a wrong one is an error.

        A digest of another algorithm is legal (a registry may store under its own). Type confusion: CVE-2021-41190.
        """
        kind = response.headers.get("Content-Type", "").partition(";")[0].strip().lower()
        if kind == "text/html":
            raise InvalidManifest(f"{self._host} answered with a web page instead of a manifest: is it a registry?")
        encoding = response.headers.get("Content-Encoding", "identity")
        if encoding.lower() != "identity":
            raise InvalidManifest(f"{self._host} sent the manifest encoded as {encoding[:20]!r}, asked for as it is")
        claimed, seen = response.headers.get("Docker-Content-Digest", ""), Digest.of(raw)
        if claimed.startswith("sha256:") and claimed != str(seen):
            raise DigestMismatch(f"the registry calls the manifest {claimed[:80]}, its bytes are {seen}: refused")
        inside = None
        with suppress(ValueError, RecursionError, AttributeError):
            inside = json.loads(raw).get("mediaType")
        if isinstance(inside, str) and inside and kind in MANIFESTS and kind != inside:
            raise InvalidManifest(f"the registry sent the manifest as {kind}, it calls itself {inside[:80]}: refused")

    def _not_found(self, tag_or_digest: str) -> NotFound:
        tags = self.tags()
        if tags is None:
            return NotFound(f"{self._host} has no repository {self._name}, or does not show it to this login")
        kind = "manifest" if ":" in tag_or_digest else "tag"
        known = f"newest tags: {', '.join(newest(tags))}" if tags else "it has no tags"
        return NotFound(f"{self._host}/{self._name} has no {kind} {tag_or_digest}; {known}")

    def _failure(self, response: requests.Response, what: str) -> Failure | Transient:
        raise_if_passing(response)
        status, origin, said = response.status_code, Origin.of(response.url), _said(response)
        if origin != self._client.origin and status in (400, 401, 403):  # signed addresses expire
            return Transient(f"{origin}, where it was redirected to, answered {status}{said}")
        if status == 403:
            return self._login.refused(f"it answered 403 for {what}{said}")
        return RegistryUnavailable(f"{origin} answered {status} for {what} of {self._name}{said}")


def _range_start(response: requests.Response, descriptor: Descriptor, offset: int, end: int) -> int:
    """Returns where a 206 starts (https://www.rfc-editor.org/rfc/rfc9110#section-14.4), which must be as asked for."""
    claimed = response.headers.get("Content-Range", "")
    match = _CONTENT_RANGE.fullmatch(claimed)
    if match and match[3] not in ("*", str(descriptor.size)):
        raise SizeMismatch(f"blob {descriptor.digest} has {match[3]} bytes at the registry, wanted {descriptor.size}")
    if not match or int(match[1]) != offset or int(match[2]) != end - 1:
        raise Transient(f"the registry sent the range {claimed[:60]!r}, asked for from {offset} on")
    return offset


def _said(response: requests.Response) -> str:
    # https://github.com/opencontainers/distribution-spec/blob/v1.1.0/spec.md#error-codes
    try:
        error = json.loads(read_capped(response, _MAX_ERROR_BYTES))["errors"][0]
        text = f"{error['code']}: {error.get('message', '')}".strip(": ")
    except (Transient, Failure, ValueError, LookupError, TypeError, AttributeError, RecursionError):
        return ""
    return f" ({_UNPRINTABLE.sub(' ', text)[:200]})"
