"""Logging in: Basic and Bearer at real registries, and challenges that want a login for themselves."""

import json
import re
import time
from collections.abc import Callable
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest

from runtime.errors import LoginRefused, RegistryUnavailable
from runtime.kit.registry import retry
from tests.kit.pulling import AT_ONCE_SECONDS, Recorder, pulled
from tests.lying_registry import LyingRegistry, challenge, cut, other, redirect, refusal
from tests.registries import IDENTITY_TOKEN, PASSWORD, USER, Registry, TokenService, basic, docker_config

Lying = Callable[..., LyingRegistry]


@pytest.fixture(autouse=True)
def short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pauses between attempts grow as they do, from 20 ms on."""
    monkeypatch.setattr(retry, "_FIRST_PAUSE_SECONDS", 0.02)


@pytest.fixture(scope="module")
def basic_registry(make_registry: Callable[..., Registry], kits: Path) -> Registry:
    registry = make_registry(auth="basic")
    registry.push(kits / "iris-onnx", "v1")
    return registry


@pytest.fixture(scope="module")
def tokens(make_token_service: Callable[..., TokenService]) -> TokenService:
    return make_token_service()


@pytest.fixture(scope="module")
def token_registry(make_registry: Callable[..., Registry], tokens: TokenService, kits: Path) -> Registry:
    registry = make_registry(auth=tokens)
    registry.push(kits / "iris-onnx", "v1")
    return registry


# --- the real registry


def test_10_basic_logs_in_with_one_more_request(basic_registry: Registry, tmp_path: Path) -> None:
    config = docker_config(tmp_path / "docker", {basic_registry.host: (USER, PASSWORD)})
    kit = pulled(f"{basic_registry.host}/kits/iris-onnx:v1", tmp_path / "cache", docker_config=config)
    assert kit.verified == "true"


def test_docker_config_is_read_from_the_environment(
    basic_registry: Registry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = docker_config(tmp_path / "docker", {f"http://{basic_registry.host}/v2/": (USER, PASSWORD)})
    monkeypatch.setenv("DOCKER_CONFIG", str(folder))
    assert pulled(f"{basic_registry.host}/kits/iris-onnx:v1", tmp_path / "cache").verified == "true"


@pytest.mark.parametrize("way", ["variables", "file"])
def test_10_a_login_may_be_given_by_variables_or_a_file(
    way: str, basic_registry: Registry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "password").write_text(PASSWORD + "\n")
    if way == "variables":
        monkeypatch.setenv("KIT_USER", USER)
        monkeypatch.setenv("KIT_PASSWORD", PASSWORD)
    given = {"registry_user": USER, "registry_password_file": tmp_path / "password"} if way == "file" else {}
    reference = f"{basic_registry.host}/kits/iris-onnx:v1"
    assert pulled(reference, tmp_path / "cache", docker_config=tmp_path, **given).verified == "true"


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["basic_registry", "token_registry"])
def test_30_a_wrong_password_is_refused_at_once_naming_where_it_came_from(
    kind: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    registry, tokens = request.getfixturevalue(kind), request.getfixturevalue("tokens")
    asked = tokens.host if kind == "token_registry" else registry.host
    config = docker_config(tmp_path, dict.fromkeys((registry.host, asked), (USER, "not-the-password")))
    started = time.monotonic()
    with pytest.raises(LoginRefused) as caught:
        pulled(
            f"{registry.host}/kits/iris-onnx:v1", tmp_path / "cache", docker_config=config, retry_budget_seconds=30.0
        )
    assert time.monotonic() - started < AT_ONCE_SECONDS
    message = str(caught.value)
    assert f"used: the entry {asked} of {tmp_path}/config.json; run `docker login {registry.host}`" in message
    assert "wrong user" in message
    assert "not-the-password" not in message + repr(caught.value.__cause__)
    assert basic(USER, "not-the-password") not in message


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["basic_registry", "token_registry"])
def test_no_login_is_refused_at_once_naming_where_it_was_looked_for(
    kind: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    registry = request.getfixturevalue(kind)
    config = docker_config(tmp_path, {"other.example": (USER, PASSWORD)})
    with pytest.raises(LoginRefused) as caught:
        pulled(f"{registry.host}/kits/iris-onnx:v1", tmp_path / "cache", docker_config=config)
    assert f"used: no login for {registry.host} in {tmp_path}/config.json" in str(caught.value)


def test_10_bearer_asks_for_one_token_for_all_requests(
    token_registry: Registry, tokens: TokenService, tmp_path: Path
) -> None:
    config = docker_config(tmp_path / "docker", dict.fromkeys((token_registry.host, tokens.host), (USER, PASSWORD)))
    before = len(tokens.seen)
    assert (
        pulled(f"{token_registry.host}/kits/iris-onnx:v1", tmp_path / "cache", docker_config=config).verified == "true"
    )
    (question,) = tokens.seen[before:]
    assert question.method == "GET"
    assert question.fields["scope"] == ["repository:kits/iris-onnx:pull"]
    assert question.fields["service"] == ["kits"]
    assert question.authorization == basic(USER, PASSWORD)


def test_10_an_identity_token_is_exchanged_by_post(
    token_registry: Registry, tokens: TokenService, tmp_path: Path
) -> None:
    (tmp_path / "config.json").write_text(
        json.dumps({"auths": {host: {"identitytoken": IDENTITY_TOKEN} for host in (token_registry.host, tokens.host)}})
    )
    before = len(tokens.seen)
    assert (
        pulled(f"{token_registry.host}/kits/iris-onnx:v1", tmp_path / "cache", docker_config=tmp_path).verified
        == "true"
    )
    (question,) = tokens.seen[before:]
    assert (question.method, question.authorization) == ("POST", None)
    assert question.fields["grant_type"] == ["refresh_token"]


def test_a_registry_token_is_used_as_it_is(token_registry: Registry, tokens: TokenService, tmp_path: Path) -> None:
    token = tokens.token("repository:kits/iris-onnx:pull", "kits")
    (tmp_path / "config.json").write_text(json.dumps({"auths": {token_registry.host: {"registrytoken": token}}}))
    before = len(tokens.seen)
    assert (
        pulled(f"{token_registry.host}/kits/iris-onnx:v1", tmp_path / "cache", docker_config=tmp_path).verified
        == "true"
    )
    assert len(tokens.seen) == before
    old = tokens.token("repository:kits/iris-onnx:pull", "kits", expired_seconds_ago=600)
    (tmp_path / "config.json").write_text(json.dumps({"auths": {token_registry.host: {"registrytoken": old}}}))
    with pytest.raises(LoginRefused) as caught:
        pulled(f"{token_registry.host}/kits/iris-onnx:v1", tmp_path / "other", docker_config=tmp_path)
    assert old not in str(caught.value)


@pytest.mark.slow
def test_an_anonymous_token_is_enough_where_the_service_gives_one(
    make_registry: Callable[..., Registry], make_token_service: Callable[..., TokenService], kits: Path, tmp_path: Path
) -> None:
    tokens = make_token_service(anonymous=True)
    registry = make_registry(auth=tokens)
    reference = registry.push(kits / "iris-bare", "v1")
    before = len(tokens.seen)
    assert pulled(reference, tmp_path / "cache", docker_config=tmp_path / "none").verified == "true"
    (question,) = tokens.seen[before:]
    assert question.authorization is None


# --- tokens that end


def _bearer(registry: LyingRegistry, kit: str = "iris-onnx") -> Callable[[str], object]:
    """Makes a lying registry want the token that was given out last; gives the lie for its other addresses."""
    registry.lie(
        "GET /token", lambda exchange: exchange.send(200, {}, b'{"token":"t%d"}' % len(registry.seen("/token")))
    )

    def guarded(exchange) -> None:
        if exchange.seen.headers.get("authorization") == f"Bearer t{len(registry.seen('/token'))}":
            return exchange.send()
        return challenge(f'Bearer realm="{registry.url}/token",service="s",scope="repository:kits/{kit}:pull"')(
            exchange
        )

    registry.lie("/v2/", guarded)
    return guarded


def test_24_a_token_that_ends_between_manifest_and_blobs_is_renewed_once_for_all_threads(
    lying: Lying, tmp_path: Path
) -> None:
    registry = lying("everything")
    registry.lie("/blobs/", lambda exchange: (registry.seen("/token").clear(), challenge(
        f'Bearer realm="{registry.url}/token",error="invalid_token"')(exchange))[1], times=1)  # fmt: skip
    _bearer(registry)
    assert pulled(f"{registry.host}/kits/everything:v1", tmp_path).verified == "true"
    assert len(registry.seen("/token")) == 2


def test_24_a_token_that_ends_in_the_middle_of_a_blob_is_renewed_and_the_blob_goes_on(
    lying: Lying, tmp_path: Path
) -> None:
    registry = lying("iris-bare")
    registry.lie("/manifests/", challenge(f'Bearer realm="{registry.url}/token"'), times=1)
    registry.lie("/token", other(b'{"token":"first"}'), times=1)
    registry.lie("/token", other(b'{"access_token":"second"}'), times=1)
    registry.lie("/manifests/", lambda exchange: exchange.send(), times=1)
    registry.lie("/blobs/", lambda exchange: exchange.send(), times=1)
    registry.lie("/blobs/", cut(1000), times=1)
    registry.lie("/blobs/", challenge(f'Bearer realm="{registry.url}/token",error="invalid_token"'), times=1)
    assert pulled(f"{registry.host}/kits/iris-bare:v1", tmp_path).verified == "true"
    last = registry.requests[-1]
    assert last.headers["authorization"] == "Bearer second"
    assert last.headers["range"] == "bytes=1000-"


def test_a_token_that_never_works_is_refused_after_the_second_try(lying: Lying, tmp_path: Path) -> None:
    registry = lying("iris-bare")
    registry.lie("/token", other(b'{"token":"useless"}'))
    registry.lie("/manifests/", challenge(f'Bearer realm="{registry.url}/token",error="insufficient_scope"'))
    with pytest.raises(LoginRefused, match="not allowed to read it"):
        pulled(f"{registry.host}/kits/iris-bare:v1", tmp_path, retry_budget_seconds=30.0)
    assert len(registry.seen("/manifests/")) == 2
    assert len(registry.seen("/token")) == 1


@pytest.mark.parametrize(
    ("lie", "error", "said"),
    [
        (other(b"{}"), RegistryUnavailable, "answered without a usable token"),
        (other(b'{"token":"a b\\r\\nX: y"}'), RegistryUnavailable, "answered without a usable token"),
        (other(b"[" * 60_000), RegistryUnavailable, "answered without a usable token"),
        (other(b" " * 70_000), RegistryUnavailable, "sent more than 65536 bytes"),
        (refusal(404), RegistryUnavailable, "answered 404"),
        (refusal(403), LoginRefused, "answered 403: it wants a login"),
        (refusal(503), RegistryUnavailable, "answered 503"),
    ],
    ids=["empty", "header injection", "deep", "big", "404", "403", "503"],
)
def test_a_token_service_that_fails_is_named(
    lying: Lying, tmp_path: Path, lie: object, error: type[Exception], said: str
) -> None:
    registry = lying("iris-bare")
    registry.lie("/token", lie)
    registry.lie("/manifests/", challenge(f'Bearer realm="{registry.url}/token"'))
    with pytest.raises(error) as caught:
        pulled(f"{registry.host}/kits/iris-bare:v1", tmp_path, retry_budget_seconds=0.0)
    assert said in str(caught.value)


@pytest.mark.parametrize(
    ("header", "error", "said"),
    [
        ("", LoginRefused, "it wants a login by no scheme at all"),
        ('Negotiate, NTLM realm="x"', LoginRefused, "it wants a login by negotiate, ntlm"),
        ('Bearer realm="', RegistryUnavailable, "asks for a login in an unreadable way"),
        ("Bearer service=x", LoginRefused, "cannot be asked, not an http or https address"),
        ('Bearer realm="file:///etc/passwd"', LoginRefused, "cannot be asked"),
        ('Bearer realm="http://user:secret@127.0.0.1/"', LoginRefused, "cannot be asked"),
        ('Basic realm="kits"', LoginRefused, "it wants a user and a password"),
    ],
)
def test_a_challenge_that_cannot_be_answered_is_said_to_be_that(
    lying: Lying, tmp_path: Path, header: str, error: type[Exception], said: str
) -> None:
    registry = lying("iris-bare")
    registry.lie("/manifests/", challenge(header))
    with pytest.raises(error) as caught:
        pulled(f"{registry.host}/kits/iris-bare:v1", tmp_path, docker_config=tmp_path)
    assert said in str(caught.value)
    assert "secret" not in str(caught.value)
    assert len(registry.requests) == 1


# --- credentials go to their own registry only

SECRETS = re.compile(re.escape(basic("ada", "pa55")) + "|Bearer")


def _login(tmp_path: Path, *hosts: str) -> Path:
    return docker_config(tmp_path / "docker", dict.fromkeys(hosts, ("ada", "pa55")))


def _strange(lying: Lying) -> LyingRegistry:
    """A registry that is somebody else: another host (127.0.0.2), who writes down what comes, and gives out tokens."""
    stranger = lying("iris-bare", address="127.0.0.2")
    stranger.lie("/token", other(b'{"token":"from-a-stranger"}'))
    return stranger


def seen_secrets(registry: LyingRegistry) -> list[str]:
    """Requests that carry a login anywhere: headers, address or body."""
    texts = [f"{seen.path} {dict(seen.headers)} {seen.body!r}" for seen in registry.requests]
    return [text for text in texts if SECRETS.search(text) or "pa55" in text or "authorization" in text.lower()]


@pytest.mark.parametrize(
    "header", ['Bearer realm="{url}/token",service="s"', 'Bearer realm="{url}/token?account=ada",scope="x"']
)
def test_41_a_strangers_token_service_never_sees_the_login(lying: Lying, tmp_path: Path, header: str) -> None:
    registry, stranger = lying("iris-bare"), _strange(lying)
    registry.lie("/manifests/", challenge(header.format(url=stranger.url)))
    with pytest.raises(LoginRefused) as caught:
        pulled(f"{registry.host}/kits/iris-bare:v1", tmp_path, docker_config=_login(tmp_path, registry.host))
    assert len(stranger.requests) == 1
    assert seen_secrets(stranger) == []
    assert f"is not for {stranger.url}: log in to that host too if it is right" in str(caught.value)


def test_a_strangers_token_service_gets_the_login_that_is_its_own(lying: Lying, tmp_path: Path) -> None:
    registry, service = lying("iris-bare"), _strange(lying)
    registry.lie("/manifests/", challenge(f'Bearer realm="{service.url}/token"'), times=1)
    config = docker_config(tmp_path / "docker", {registry.host: ("ada", "pa55"), service.host: ("eve", "0wn")})
    assert pulled(f"{registry.host}/kits/iris-bare:v1", tmp_path / "cache", docker_config=config).verified == "true"
    assert [seen.headers["authorization"] for seen in service.requests] == [basic("eve", "0wn")]


@pytest.mark.parametrize("where", ["query", "scope"])
def test_a_token_bought_with_anothers_login_is_for_reading_the_repository_that_was_asked_for_only(
    lying: Lying, tmp_path: Path, where: str
) -> None:
    registry, service = lying("iris-bare"), _strange(lying)
    wish = "repository:secret/x:pull,push"
    header = f'"{service.url}/token?scope={wish}"' if where == "query" else f'"{service.url}/token",scope="{wish}"'
    registry.lie("/manifests/", challenge(f"Bearer realm={header}"), times=1)
    config = docker_config(tmp_path / "docker", {registry.host: ("ada", "pa55"), service.host: ("eve", "0wn")})
    pulled(f"{registry.host}/kits/iris-bare:v1", tmp_path / "cache", docker_config=config)
    (question,) = service.requests
    assert parse_qs(urlsplit(question.path).query)["scope"] == ["repository:kits/iris-bare:pull"]


@pytest.mark.parametrize("scheme", ["basic", "bearer"])
@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
@pytest.mark.parametrize("where", ["/manifests/", "/blobs/"])
def test_12_a_redirect_to_a_stranger_leaves_the_login_behind(
    lying: Lying, tmp_path: Path, where: str, status: int, scheme: str
) -> None:
    registry, stranger = lying("iris-bare"), _strange(lying)
    if scheme == "basic":
        wanted = basic("ada", "pa55")
        registry.lie(
            "/v2/",
            _unless(wanted, 'Basic realm="kits"', redirect(lambda each: stranger.url + each.seen.path, status), where),
        )
    else:
        registry.lie("/token", other(b'{"token":"t"}'))
        realm = f'Bearer realm="{registry.url}/token"'
        registry.lie(
            "/v2/", _unless("Bearer t", realm, redirect(lambda each: stranger.url + each.seen.path, status), where)
        )
    kit = pulled(f"{registry.host}/kits/iris-bare:v1", tmp_path, docker_config=_login(tmp_path, registry.host))
    assert kit.verified == "true"
    assert len(stranger.requests) > 0
    assert seen_secrets(stranger) == []


def _unless(wanted: str, header: str, lie, where: str):
    """A challenge without the login that is wanted; with it the lie at one kind of address, else the truth."""

    def guarded(exchange) -> None:
        if exchange.seen.headers.get("authorization") != wanted:
            return challenge(header)(exchange)
        return lie(exchange) if where in exchange.seen.path else exchange.send()

    return guarded


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
def test_another_port_of_the_same_host_is_a_stranger_for_redirects(lying: Lying, tmp_path: Path, host: str) -> None:
    registry, other_port = lying("iris-bare"), lying("iris-bare")
    target = f"http://{host}:{other_port.port}"
    registry.lie(
        "/v2/",
        _unless(basic("ada", "pa55"), "Basic realm=x", redirect(lambda each: target + each.seen.path), "/blobs/"),
    )
    pulled(f"{registry.host}/kits/iris-bare:v1", tmp_path, docker_config=_login(tmp_path, registry.host))
    assert len(other_port.requests) == 2
    assert seen_secrets(other_port) == []


def test_a_stranger_that_asks_for_a_login_after_a_redirect_gets_none(lying: Lying, tmp_path: Path) -> None:
    registry, stranger = lying("iris-bare"), _strange(lying)
    registry.lie("/blobs/", redirect(lambda each: stranger.url + each.seen.path))
    stranger.lie("/blobs/", challenge(f'Bearer realm="{stranger.url}/token"'))
    with pytest.raises(RegistryUnavailable, match="where it was redirected to, answered 401"):
        pulled(
            f"{registry.host}/kits/iris-bare:v1",
            tmp_path,
            docker_config=_login(tmp_path, registry.host, stranger.host),
            retry_budget_seconds=0.0,
        )
    assert seen_secrets(stranger) == []
    assert stranger.seen("/token") == []


def test_a_redirected_token_service_keeps_the_login_to_itself(lying: Lying, tmp_path: Path) -> None:
    registry, stranger = lying("iris-bare"), _strange(lying)
    registry.lie("/token", redirect(stranger.url + "/token"))
    registry.lie("/manifests/", challenge(f'Bearer realm="{registry.url}/token"'), times=1)
    pulled(f"{registry.host}/kits/iris-bare:v1", tmp_path, docker_config=_login(tmp_path, registry.host))
    assert len(stranger.requests) == 1
    assert seen_secrets(stranger) == []


def test_an_identity_token_is_not_posted_to_where_its_service_redirects(lying: Lying, tmp_path: Path) -> None:
    registry, stranger = lying("iris-bare"), _strange(lying)
    registry.lie("/token", redirect(stranger.url + "/token"))
    registry.lie("/manifests/", challenge(f'Bearer realm="{registry.url}/token"'))
    (tmp_path / "config.json").write_text(json.dumps({"auths": {registry.host: {"identitytoken": "pa55"}}}))
    with pytest.raises(RegistryUnavailable, match="answered 307"):
        pulled(f"{registry.host}/kits/iris-bare:v1", tmp_path, docker_config=tmp_path)
    assert stranger.requests == []


def test_netrc_and_cookies_add_nothing(lying: Lying, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    netrc = tmp_path / "netrc"
    netrc.write_text("machine 127.0.0.1 login ada password pa55\ndefault login ada password pa55\n")
    netrc.chmod(0o600)
    monkeypatch.setenv("NETRC", str(netrc))
    registry = lying("iris-bare")
    registry.lie(
        "/manifests/", lambda exchange: exchange.send(headers={**exchange.headers, "Set-Cookie": "id=1; Path=/"})
    )
    pulled(f"{registry.host}/kits/iris-bare:v1", tmp_path / "cache", Recorder())
    assert seen_secrets(registry) == []
    assert all("cookie" not in seen.headers for seen in registry.requests)
