"""One repository of one registry: manifests, blobs and tags, asked for with patience. Content is verified in `remote`.

Protocol: OCI distribution-spec 1.1, "Pull".
"""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Final

from runtime.errors import DigestMismatch, Failure, InvalidManifest, NotFound, RegistryUnavailable, SizeMismatch
from runtime.kit.format.digest import Digest
from runtime.kit.format.json_text import MAX_DOCUMENT_BYTES
from runtime.kit.format.reference_rules import TAG
from runtime.kit.format.tags import newest
from runtime.kit.registry.client import Body, KitRegistry, raise_if_passing, read_capped
from runtime.kit.registry.credentials import find_credential
from runtime.kit.registry.login import Login
from runtime.kit.registry.origin import Origin, registry_origin
from runtime.kit.registry.retry import Patience, Transient

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    import requests

    from runtime.kit.format.manifest import Descriptor
    from runtime.kit.format.reference import Reference

_MANIFESTS: Final = (
    "application/vnd.oci.image.manifest.v1+json",
    "application/vnd.oci.image.index.v1+json",
    "application/vnd.docker.distribution.manifest.v2+json",
    "application/vnd.docker.distribution.manifest.list.v2+json",
)
_MAX_ERROR_BYTES: Final = 64 * 1024
_CONTENT_RANGE: Final = re.compile(r"bytes ([0-9]{1,19})-([0-9]{1,19})/([0-9]{1,19}|\*)")
_UNPRINTABLE: Final = re.compile(r"[^\x20-\x7e]+")


class Repository:
    """Asks for things by name. `pause` sleeps between attempts; it may raise to give up."""

    def __init__(
        self,
        reference: Reference,
        *,
        plain_http: bool,
        retry_budget_seconds: float,
        docker_config: Path | None,
        pause: Callable[[float], None],
    ) -> None:
        origin = registry_origin(reference.registry, plain_http=plain_http)
        self._host, self._name = reference.registry, reference.repository
        self._budget, self._pause = retry_budget_seconds, pause
        self._wire = KitRegistry(origin, plain_http=plain_http)
        self._names = self._wire.container(reference.repository)
        self._login = self._wire.login = Login(
            self._host, origin, self._name, lambda host: find_credential(host, docker_config), self._wire.ask_token
        )

    def patience(self) -> Patience:
        """A fresh budget for one thing wanted from here."""
        return Patience(self._host, self._budget, self._pause)

    def manifest(self, tag_or_digest: str) -> bytes:
        """The manifest's bytes as sent. Raises NotFound, naming the newest tags, when there is none of that name."""
        patience = self.patience()
        return patience.persist(lambda: self._manifest(tag_or_digest, patience))

    def open_blob(self, descriptor: Descriptor, offset: int, patience: Patience, *, fresh: bool) -> Body:
        """One attempt at a blob's bytes from `offset` on; `fresh` asks caches on the way to stand aside.

        The body may start at 0 in spite of the offset. Raises Transient, NotFound, SizeMismatch, LoginRefused.
        """
        headers = {"Range": f"bytes={offset}-"} if offset else {}
        headers |= {"Cache-Control": "no-cache"} if fresh else {}
        response = self._get(self._names.get_blob_url(str(descriptor.digest)), headers, patience)
        try:
            return self._body(response, descriptor, offset)
        except BaseException:
            response.close()
            raise

    def tags(self) -> list[str] | None:
        """All well-formed tags in the registry's order, None if there is no such repository or nobody may know."""
        try:
            response = self._get(self._names.tags_url(), {}, Patience(self._host, 0.0, self._pause))
            try:
                listed = json.loads(read_capped(response, MAX_DOCUMENT_BYTES)) if response.status_code == 200 else None
            finally:
                response.close()
        except (Transient, Failure, ValueError, RecursionError):
            return None
        tags = listed.get("tags") if isinstance(listed, dict) else None
        return (
            [tag for tag in tags if isinstance(tag, str) and re.fullmatch(TAG, tag)] if isinstance(tags, list) else None
        )

    def close(self) -> None:
        """Close all connections that are not in use."""
        self._wire.session.close()

    def _get(self, address: str, headers: dict[str, str], patience: Patience) -> requests.Response:
        url = f"{self._wire.prefix}://{address}"
        return self._wire.do_request(url, headers=headers, stream=True, left_seconds=patience.left())

    def _manifest(self, tag_or_digest: str, patience: Patience) -> bytes:
        response = self._get(self._names.manifest_url(tag_or_digest), {"Accept": ", ".join(_MANIFESTS)}, patience)
        try:
            if response.status_code == 404:
                response.close()
                raise self._not_found(tag_or_digest)
            if response.status_code != 200:
                raise self._failure(response, f"manifest {tag_or_digest}")
            self._check_readable(response)
            raw = read_capped(response, MAX_DOCUMENT_BYTES)
        finally:
            response.close()
        _check_headers(response, raw)
        return raw

    def _body(self, response: requests.Response, descriptor: Descriptor, offset: int) -> Body:
        if response.status_code == 200:
            return Body(response, 0)
        if response.status_code == 206:
            return Body(response, _range_start(response, descriptor, offset))
        if response.status_code == 404:
            raise NotFound(f"{self._host}/{self._name} has no blob {descriptor.digest}, though its manifest names it")
        if response.status_code == 416 and offset:  # its body is never read: Debian's registry lies about its length
            raise SizeMismatch(f"blob {descriptor.digest} ends after {offset} bytes, wanted {descriptor.size}")
        raise self._failure(response, f"blob {descriptor.digest}")

    def _check_readable(self, response: requests.Response) -> None:
        kind, encoding = _content_type(response), response.headers.get("Content-Encoding", "identity")
        if kind == "text/html":
            raise InvalidManifest(f"{self._host} answered with a web page instead of a manifest: is it a registry?")
        if encoding.lower() != "identity":
            raise InvalidManifest(f"{self._host} sent the manifest encoded as {encoding[:20]!r}, asked for as it is")

    def _not_found(self, tag_or_digest: str) -> NotFound:
        where, tags = f"{self._host}/{self._name}", self.tags()
        kind = "manifest" if ":" in tag_or_digest else "tag"
        if tags is None:
            return NotFound(f"{self._host} has no repository {self._name}, or does not show it to this login")
        known = f"newest tags: {', '.join(newest(tags))}" if tags else "it has no tags"
        return NotFound(f"{where} has no {kind} {tag_or_digest}; {known}")

    def _failure(self, response: requests.Response, what: str) -> Failure | Transient:
        """What an unwanted status means."""
        raise_if_passing(response)
        status, origin = response.status_code, Origin.of(response.url)
        said = _said(response)
        if origin != self._wire.origin and status in (400, 401, 403):
            return Transient(
                f"{origin}, where it was redirected to, answered {status}{said}"
            )  # signed addresses expire
        if status == 403:
            return self._login.refused(f"it answered 403 for {what}{said}")
        return RegistryUnavailable(f"{origin} answered {status} for {what} of {self._name}{said}")


def _content_type(response: requests.Response) -> str:
    return response.headers.get("Content-Type", "").partition(";")[0].strip().lower()


def _check_headers(response: requests.Response, raw: bytes) -> None:
    """Compare what the headers claim with the body: they are never believed, but a lie is told.

    A digest of another algorithm is legal (a registry may store under its own). Type confusion: CVE-2021-41190.
    """
    claimed = response.headers.get("Docker-Content-Digest", "")
    seen = Digest.of(raw)
    if claimed.startswith("sha256:") and claimed != str(seen):
        raise DigestMismatch(f"the registry calls the manifest {claimed[:80]}, its bytes are {seen}: refused")
    kind, inside = _content_type(response), _media_type(raw)
    if inside and kind in _MANIFESTS and kind != inside:
        raise InvalidManifest(f"the registry sent the manifest as {kind}, it calls itself {inside[:80]}: refused")


def _media_type(raw: bytes) -> str:
    try:
        document = json.loads(raw)
    except (ValueError, RecursionError):
        return ""
    value = document.get("mediaType") if isinstance(document, dict) else None
    return value if isinstance(value, str) else ""


def _range_start(response: requests.Response, descriptor: Descriptor, offset: int) -> int:
    """Where a 206 starts. Raises Transient unless it is what was asked for, up to the end (RFC 9110, 15.3.7)."""
    claimed = response.headers.get("Content-Range", "")
    match = _CONTENT_RANGE.fullmatch(claimed)
    if match and match[3] not in ("*", str(descriptor.size)):
        raise SizeMismatch(f"blob {descriptor.digest} has {match[3]} bytes at the registry, wanted {descriptor.size}")
    if not match or int(match[1]) != offset or int(match[2]) != descriptor.size - 1:
        raise Transient(f"the registry sent the range {claimed[:60]!r}, asked for from {offset} on")
    return offset


def _said(response: requests.Response) -> str:
    """The first error of the body, in the distribution spec's form: ` (CODE: message)`, made printable, or nothing."""
    try:
        error = json.loads(read_capped(response, _MAX_ERROR_BYTES))["errors"][0]
        text = f"{error['code']}: {error.get('message', '')}".strip(": ")
    except (Transient, Failure, ValueError, LookupError, TypeError, AttributeError, RecursionError):
        return ""
    return f" ({_UNPRINTABLE.sub(' ', text)[:200]})"
