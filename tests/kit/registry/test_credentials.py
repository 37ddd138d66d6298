"""Docker's config.json: every way to say who one is."""

from __future__ import annotations

import base64
import json
import os
import stat
from pathlib import Path

import pytest

from runtime.errors import LoginRefused
from runtime.kit.registry import credentials
from runtime.kit.registry.credentials import Credential, Given, client_certificate, find_credential


def write(folder: Path, config: object) -> Path:
    (folder / "config.json").write_text(config if isinstance(config, str) else json.dumps(config))
    return folder


def found_in(folder: Path, config: object) -> dict[str, str]:
    """An environment whose config.json is this one."""
    return {"DOCKER_CONFIG": str(write(folder, config))}


def auth(text: str) -> dict[str, str]:
    return {"auth": base64.b64encode(text.encode()).decode()}


def helper(folder: Path, name: str, script: str) -> dict[str, str]:
    """An environment in which `docker-credential-NAME` is this shell script."""
    program = folder / f"docker-credential-{name}"
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    return {"PATH": f"{folder}:{os.environ['PATH']}", "DOCKER_CONFIG": str(folder)}


@pytest.mark.parametrize(
    ("key", "registry"),
    [
        ("ghcr.io", "ghcr.io"),
        ("https://ghcr.io", "ghcr.io"),
        ("https://ghcr.io/v1/", "ghcr.io"),
        ("http://GHCR.io/v2", "ghcr.io"),
        ("127.0.0.1:5000", "127.0.0.1:5000"),
        ("https://index.docker.io/v1/", "docker.io"),
        ("docker.io", "docker.io"),
        ("registry-1.docker.io", "docker.io"),
    ],
)
def test_a_login_is_found_under_every_spelling_of_its_host(tmp_path: Path, key: str, registry: str) -> None:
    found = find_credential(registry, environ=found_in(tmp_path, {"auths": {key: auth("ada:pass:word")}}))
    assert (found.username, found.password) == ("ada", "pass:word")


@pytest.mark.parametrize("registry", ["ghcr.io:5000", "evil.ghcr.io", "ghcr.io.evil.example", "docker.io"])
def test_a_login_is_not_found_for_another_host(tmp_path: Path, registry: str) -> None:
    found = find_credential(registry, environ=found_in(tmp_path, {"auths": {"ghcr.io": auth("ada:secret")}}))
    assert found.anonymous
    assert found.source == f"no login for {registry} in {tmp_path}/config.json"


@pytest.mark.parametrize(
    ("entry", "wanted"),
    [
        ({"username": "ada", "password": "p"}, ("ada", "p", "", "")),
        ({"username": "no", "password": "no", **auth("ada:p")}, ("ada", "p", "", "")),
        ({**auth("ada:pässwörd")}, ("ada", "pässwörd", "", "")),
        ({"identitytoken": "t"}, ("", "", "t", "")),
        ({"registrytoken": "t"}, ("", "", "", "t")),
        ({}, ("", "", "", "")),
        ({"auth": 5}, ("", "", "", "")),
    ],
    ids=["plain", "auth wins", "utf-8", "identity", "registry", "empty", "number"],
)
def test_an_entry_may_hold_any_kind_of_login(tmp_path: Path, entry: dict[str, object], wanted: tuple[str, ...]) -> None:
    found = find_credential("r.example", environ=found_in(tmp_path, {"auths": {"r.example": entry}}))
    assert (found.username, found.password, found.identity_token, found.registry_token) == wanted


def test_the_config_is_the_one_that_docker_config_names_else_the_one_at_home(tmp_path: Path) -> None:
    environ = {"DOCKER_CONFIG": str(tmp_path / "from variable"), "HOME": str(tmp_path / "home")}
    assert find_credential("r", environ=environ).source == f"no Docker config at {tmp_path}/from variable/config.json"
    home = {"HOME": str(tmp_path / "home")}
    assert find_credential("r", environ=home).source == f"no Docker config at {tmp_path}/home/.docker/config.json"


def test_no_config_is_no_login_and_says_where_it_was_looked_for(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    environ = {"DOCKER_CONFIG": str(tmp_path / "file")}
    assert find_credential("r.example", environ=environ).source == f"no Docker config at {tmp_path}/file/config.json"
    assert find_credential("r.example", environ={}).source == "no Docker config: neither DOCKER_CONFIG nor HOME is set"


@pytest.mark.parametrize(
    ("config", "reason"),
    [
        ('{"auths": {"r.example": {"auth": "c2VjcmV0', "is not JSON (line 1 column"),
        ("[]", "is not a JSON object"),
        ({"auths": {"r.example": {"auth": "not base64"}}}, "is not base64 of USER:PASSWORD"),
        ({"auths": {"r.example": {"auth": "c2VjcmV0"}}}, "is not base64 of USER:PASSWORD"),
        ({"credsStore": "../../bin/sh"}, "not a program's name"),
    ],
)
def test_a_broken_config_is_refused_without_quoting_it(tmp_path: Path, config: object, reason: str) -> None:
    with pytest.raises(LoginRefused) as caught:
        find_credential("r.example", environ=found_in(tmp_path, config))
    assert reason in str(caught.value)
    assert "c2VjcmV0" not in str(caught.value)
    assert caught.value.__cause__ is None


def test_a_helper_of_the_registry_comes_before_the_store_and_the_file(tmp_path: Path) -> None:
    environ = helper(tmp_path, "one", """read host; echo '{"Username":"'$host'","Secret":"from one"}'""")
    helper(tmp_path, "two", """echo '{"Username":"u","Secret":"from two"}'""")
    config = {"auths": {"r.example": auth("file:file")}, "credHelpers": {"r.example": "one"}, "credsStore": "two"}
    write(tmp_path, config)
    assert find_credential("r.example", environ=environ).password == "from one"
    assert find_credential("r.example", environ=environ).username == "r.example"
    assert find_credential("other.example", environ=environ).password == "from two"


def test_a_helper_is_asked_for_docker_hub_by_its_old_address(tmp_path: Path) -> None:
    environ = helper(tmp_path, "hub", """read host; echo '{"Username":"'$host'","Secret":"s"}'""")
    write(tmp_path, {"credsStore": "hub"})
    assert find_credential("docker.io", environ=environ).username == "https://index.docker.io/v1/"


def test_a_helper_may_answer_with_an_identity_token(tmp_path: Path) -> None:
    environ = helper(tmp_path, "acr", """echo '{"Username":"<token>","Secret":"identity"}'""")
    write(tmp_path, {"credsStore": "acr"})
    found = find_credential("r.example", environ=environ)
    assert (found.identity_token, found.username) == ("identity", "")
    assert found.source == "the credential helper docker-credential-acr"


def test_a_helper_that_knows_nothing_or_is_missing_leaves_the_file(tmp_path: Path) -> None:
    environ = helper(tmp_path, "empty", "echo credentials not found in native keychain; exit 1")
    write(
        tmp_path, {"credHelpers": {"r.example": "missing"}, "credsStore": "empty", "auths": {"r.example": auth("a:b")}}
    )
    assert find_credential("r.example", environ=environ).username == "a"
    source = find_credential("s.example", environ=environ).source
    assert source.endswith("docker-credential-empty has none either (exit code 1)")


@pytest.mark.parametrize("answer", ["", "secret", '{"Username":"u"}', '{"Username":"u","Secret":7}', "[]"])
def test_a_helper_that_answers_nonsense_is_refused_without_quoting_it(tmp_path: Path, answer: str) -> None:
    environ = helper(tmp_path, "bad", f"echo '{answer}'")
    write(tmp_path, {"credsStore": "bad"})
    with pytest.raises(LoginRefused, match=r"docker-credential-bad gave no Username and Secret for r\.example$"):
        find_credential("r.example", environ=environ)


@pytest.mark.slow
def test_a_helper_that_hangs_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(credentials, "HELPER_SECONDS", 0.2)
    environ = helper(tmp_path, "slow", "exec sleep 30")
    write(tmp_path, {"credsStore": "slow"})
    with pytest.raises(LoginRefused, match=r"docker-credential-slow .* did not answer for r\.example in 0\.2 s"):
        find_credential("r.example", environ=environ)


def test_secrets_are_not_in_a_repr() -> None:
    text = repr(Credential("here", "ada", "secret-1", "secret-2", "secret-3"))
    assert "ada" in text
    assert "secret" not in text


@pytest.mark.parametrize("kind", ["identitytoken", "registrytoken"])
def test_a_token_that_no_header_may_hold_is_refused_unquoted(kind: str, tmp_path: Path) -> None:
    config = {"auths": {"r.example.com": {kind: "secret-1\r\nX: y"}}}
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(LoginRefused, match=f'"{kind}" in .* has characters that no header may have') as caught:
        find_credential("r.example.com", environ={"DOCKER_CONFIG": str(tmp_path)})
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    ("repository", "user"),
    [
        ("team-a/iris", "ann"),
        ("team-a/deep/iris", "dora"),
        ("team-b/iris", "bob"),
        ("team-ab/iris", "host"),
        ("", "host"),
    ],
)
def test_the_longest_path_that_leads_to_the_repository_counts(tmp_path: Path, repository: str, user: str) -> None:
    keys = {"r.example/team-a": "ann", "https://R.example/team-a/deep/": "dora", "r.example/team-b": "bob"}
    auths = {key: auth(f"{name}:x") for key, name in {**keys, "r.example": "host"}.items()}
    found = find_credential("r.example", repository, found_in(tmp_path, {"auths": auths}))
    assert found.username == user
    del auths["r.example"]
    assert (find_credential("r.example", "other", found_in(tmp_path, {"auths": auths}))).anonymous


def test_a_file_of_containers_is_looked_at_first_and_then_dockers(tmp_path: Path) -> None:
    environ = found_in(tmp_path, {"auths": {"r.example": auth("docker:x"), "s.example": auth("docker:x")}})
    (tmp_path / "auth.json").write_text(json.dumps({"auths": {"r.example": auth("podman:x")}}))
    environ["REGISTRY_AUTH_FILE"] = str(tmp_path / "auth.json")
    assert find_credential("r.example", environ=environ).username == "podman"
    assert find_credential("s.example", environ=environ).username == "docker"
    source = find_credential("t.example", environ=environ).source
    assert source == f"no login for t.example in {tmp_path}/auth.json; no login for t.example in {tmp_path}/config.json"


def test_kits_own_logins_are_looked_at_before_dockers(tmp_path: Path) -> None:
    environ = found_in(tmp_path, {"auths": {"r.example": auth("docker:x"), "s.example": auth("docker:x")}})
    environ["KITOPS_HOME"] = str(tmp_path / "kitops")
    assert find_credential("r.example", environ=environ).username == "docker"
    (tmp_path / "kitops").mkdir()
    (tmp_path / "kitops" / "credentials.json").write_text(json.dumps({"auths": {"r.example": auth("kit:x")}}))
    assert find_credential("r.example", environ=environ).username == "kit"
    assert find_credential("s.example", environ=environ).username == "docker"


def test_a_given_login_comes_from_a_file_else_from_kits_variables(tmp_path: Path) -> None:
    (tmp_path / "password").write_text("s3cret \n")
    variables = {"KIT_USER": "kit", "KIT_PASSWORD": "x"}
    given = Given("ada", tmp_path / "password").credential(variables)
    assert given
    assert (given.username, given.password, given.source) == (
        "ada",
        "s3cret ",
        f"--registry-user and {tmp_path}/password",
    )
    assert "s3cret" not in repr(given)
    of_variables = Given().credential(variables)
    assert of_variables
    assert (of_variables.username, of_variables.source) == ("kit", "KIT_USER and KIT_PASSWORD")
    assert Given().credential({"KIT_USER": "kit"}) is None


@pytest.mark.parametrize(("content", "reason"), [(None, "No such file or directory"), (b"\xe9", "it is not UTF-8")])
def test_a_password_file_that_cannot_be_read_is_named(content: bytes | None, reason: str, tmp_path: Path) -> None:
    if content:
        (tmp_path / "password").write_bytes(content)
    with pytest.raises(LoginRefused) as caught:
        Given("ada", tmp_path / "password").credential({})
    assert str(caught.value) == f"cannot read --registry-password-file {tmp_path}/password: {reason}"


def test_a_client_certificate_is_named_as_for_kit() -> None:
    assert client_certificate({}) is client_certificate({"KITOPS_CLIENT_KEY": "k"}) is None
    assert client_certificate({"KITOPS_CLIENT_CERT": "c"}) == "c"
    assert client_certificate({"KITOPS_CLIENT_CERT": "c", "KITOPS_CLIENT_KEY": "k"}) == ("c", "k")
