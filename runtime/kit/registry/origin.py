"""Where a request goes, and what may be sent there. Pure: no request is made here.

Credentials are bound to an origin: scheme, host, port (https://www.rfc-editor.org/rfc/rfc6454#section-4). What a
registry answers (a redirect, the realm of a challenge) is text that somebody else may have chosen: CVE-2026-48978 and
CVE-2026-50151 in oras-go, CVE-2020-15157 in containerd.
"""

import ipaddress
from typing import Final, NamedTuple, Self
from urllib.parse import urlsplit

DOCKER_HUB: Final = "docker.io"
_DOCKER_HUB_API: Final = "registry-1.docker.io"
_PORTS: Final = {"http": 80, "https": 443}
_TOKEN_HOSTS: Final = {  # token services known to be on another host than their registry
    _DOCKER_HUB_API: "auth.docker.io",
    "registry.gitlab.com": "gitlab.com",
    "registry.digitalocean.com": "api.digitalocean.com",
}


class Origin(NamedTuple):
    """Scheme, host (lower case, no brackets) and port of an address."""

    scheme: str
    host: str
    port: int

    @classmethod
    def of(cls, url: str) -> Self:
        """Returns the origin of an http or https address. Raises ValueError for anything else, a user name included."""
        parts = urlsplit(url)
        if parts.scheme not in _PORTS or not parts.hostname or "@" in parts.netloc:
            raise ValueError(f"not an http or https address: {_shown(url)}")
        return cls(parts.scheme, parts.hostname, parts.port or _PORTS[parts.scheme])

    @property
    def is_loopback(self) -> bool:
        """Tells whether requests to it stay on this machine: localhost, 127.0.0.0/8, ::1."""
        address = _address(self.host)
        return self.host == "localhost" if address is None else address.is_loopback

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{self.scheme}://{host}" + ("" if self.port == _PORTS[self.scheme] else f":{self.port}")


def registry_origin(registry: str, *, plain_http: bool) -> Origin:
    """Returns where the registry `registry` (host, optional port) answers: https, or http on loopback or by option."""
    host = _DOCKER_HUB_API if registry == DOCKER_HUB else registry
    secure = Origin.of(f"https://{host}")
    return Origin.of(f"http://{host}") if plain_http or secure.is_loopback else secure


def redirect_refusal(source: Origin, target: Origin, *, plain_http: bool) -> str | None:
    """Returns why a redirect from `source` to `target` is not followed, or None. Credentials are never sent along."""
    if target.scheme == "http" and source.scheme == "https":
        return "it leads from https to http"
    if target.scheme == "http" and not (plain_http or target.is_loopback):
        return "it leads to plain http; allow that with --plain-http"
    return inside_refusal(source, target, private_allowed=True)


def realm_refusal(registry: Origin, realm: Origin) -> str | None:
    """Returns why a token service is not asked at all, or None."""
    if realm.scheme == "http" and registry.scheme != "http":
        return "it is not https"
    return inside_refusal(registry, realm, private_allowed=False)


def may_hold_credentials(registry: Origin, realm: Origin) -> bool:
    """Tells whether the registry's credentials may go to this token service: same origin, or known as the registry's.

    Another port of the same host may be another user's. A common parent domain is not enough: many registries of
    different owners share `azurecr.io` or `co.uk`.
    """
    return realm == registry or _TOKEN_HOSTS.get(registry.host) == realm.host


def inside_refusal(source: Origin, target: Origin, *, private_allowed: bool) -> str | None:
    """Refuses addresses of this machine and its neighbours (cloud metadata services) in an answer from outside."""
    address = _address(target.host)
    if target.host == source.host or (source.is_loopback and target.is_loopback):
        return None
    if target.is_loopback or (address is not None and address.is_link_local):
        return "it leads to an address of this machine or its link"
    if address is not None and address.is_private and not private_allowed:
        return "it is a private address and not the registry's own"
    return None


def _address(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        address = ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return None
    return getattr(address, "ipv4_mapped", None) or address


def _shown(url: str) -> str:
    """Returns the address without its query and user information, which may hold secrets."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"[:200]
