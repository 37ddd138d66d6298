"""Where requests go, and what may go there."""

import pytest

from runtime.kit.registry.origin import Origin, may_hold_credentials, realm_refusal, redirect_refusal, registry_origin


@pytest.mark.parametrize(
    ("url", "text"),
    [
        ("https://ghcr.io/v2/", "https://ghcr.io"),
        ("https://GHCR.io:443", "https://ghcr.io"),
        ("http://127.0.0.1:5000/a", "http://127.0.0.1:5000"),
        ("http://[::1]:5000/a?b", "http://[::1]:5000"),
    ],
)
def test_an_origin_is_scheme_host_and_port(url: str, text: str) -> None:
    assert str(Origin.of(url)) == text


@pytest.mark.parametrize(
    "url",
    [
        "",
        "ghcr.io",
        "file:///etc/passwd",
        "ftp://a/b",
        "https://",
        "//ghcr.io/x",
        "https://user:secret@ghcr.io/x",
        "https://h:99999/",
    ],
)
def test_an_origin_is_refused_for_other_addresses_without_their_secrets(url: str) -> None:
    with pytest.raises(ValueError, match=r"^(?!.*secret)"):
        Origin.of(url)


@pytest.mark.parametrize(
    ("registry", "plain", "text"),
    [
        ("ghcr.io", False, "https://ghcr.io"),
        ("ghcr.io", True, "http://ghcr.io"),
        ("localhost", False, "http://localhost"),
        ("localhost:5000", False, "http://localhost:5000"),
        ("127.9.8.7:80", False, "http://127.9.8.7"),
        ("[::1]:5000", False, "http://[::1]:5000"),
        ("10.0.0.1:5000", False, "https://10.0.0.1:5000"),
        ("localhost.example.com", False, "https://localhost.example.com"),
        ("127.0.0.1.example.com", False, "https://127.0.0.1.example.com"),
        ("docker.io", False, "https://registry-1.docker.io"),
    ],
)
def test_plain_http_is_for_loopback_or_by_option(registry: str, plain: bool, text: str) -> None:
    assert str(registry_origin(registry, plain_http=plain)) == text


@pytest.mark.parametrize(
    ("source", "target", "plain", "refused"),
    [
        ("https://r.example", "https://cdn.example", False, None),
        ("https://r.example", "https://10.0.0.9:9000", False, None),
        ("https://r.example", "http://r.example", True, "from https to http"),
        ("https://r.example", "https://127.0.0.1", False, "this machine"),
        ("https://r.example", "https://localhost", False, "this machine"),
        ("https://r.example", "https://169.254.169.254", False, "this machine"),
        ("https://r.example", "https://[::ffff:169.254.169.254]", False, "this machine"),
        ("https://r.example", "https://[fe80::1]", False, "this machine"),
        ("http://127.0.0.1:5000", "http://127.0.0.1:6000", False, None),
        ("http://127.0.0.1:5000", "http://cdn.example", False, "--plain-http"),
        ("http://127.0.0.1:5000", "https://cdn.example", False, None),
        ("http://r.example", "http://cdn.example", True, None),
        ("http://r.example", "http://127.0.0.1:80", True, "this machine"),
    ],
)
def test_redirects_are_followed_by_rule(source: str, target: str, plain: bool, refused: str | None) -> None:
    reason = redirect_refusal(Origin.of(source), Origin.of(target), plain_http=plain)
    assert (refused in reason) if refused and reason else reason is refused


@pytest.mark.parametrize(
    ("registry", "realm", "refused"),
    [
        ("https://ghcr.io", "https://ghcr.io/token", None),
        ("https://registry-1.docker.io", "https://auth.docker.io/token", None),
        ("https://r.example", "https://elsewhere.example/token", None),
        ("https://r.example", "http://r.example/token", "not https"),
        ("https://r.example", "https://192.168.1.1/token", "private address"),
        ("https://192.168.1.1", "https://192.168.1.1:8443/token", None),
        ("https://r.example", "https://127.0.0.1/token", "this machine"),
        ("https://r.example", "https://169.254.169.254/token", "this machine"),
        ("http://127.0.0.1:5000", "http://127.0.0.1:6000/token", None),
    ],
)
def test_token_services_are_asked_by_rule(registry: str, realm: str, refused: str | None) -> None:
    reason = realm_refusal(Origin.of(registry), Origin.of(realm))
    assert (refused in reason) if refused and reason else reason is refused


@pytest.mark.parametrize(
    ("registry", "realm", "allowed"),
    [
        ("https://ghcr.io", "https://ghcr.io/token", True),
        ("https://ghcr.io:5000", "https://ghcr.io/token", False),
        ("https://ghcr.io:5000", "https://ghcr.io:5000/token", True),
        ("https://registry-1.docker.io", "https://auth.docker.io/token", True),
        ("https://registry.gitlab.com", "https://gitlab.com/jwt/auth", True),
        ("https://r.example", "https://auth.docker.io/token", False),
        ("https://mine.azurecr.io", "https://evil.azurecr.io/token", False),
        ("https://registry.example.com", "https://example.com/token", False),
        ("https://ghcr.io", "https://ghcr.io.evil.example/token", False),
        ("http://127.0.0.1:5000", "http://127.0.0.2:5000/token", False),
    ],
)
def test_credentials_go_to_a_registrys_own_token_service_only(registry: str, realm: str, allowed: bool) -> None:
    assert may_hold_credentials(Origin.of(registry), Origin.of(realm)) is allowed
