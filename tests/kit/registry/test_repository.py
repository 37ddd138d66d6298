"""What a registry may answer, and what a person is told: one line, soon, with the right kind of failure."""

import re
import socket
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from runtime.errors import (
    BadContent,
    DigestMismatch,
    Failure,
    InvalidManifest,
    LoginRefused,
    NotAModelKit,
    NotFound,
    RegistryUnavailable,
)
from runtime.kit.registry import client, retry
from tests.kit.golden import golden
from tests.kit.made import made_kit
from tests.kit.pulling import AT_ONCE_SECONDS, Recorder, leftovers, pulled, tree, unverified
from tests.lying_registry import (
    Exchange,
    Gate,
    Lie,
    LyingRegistry,
    claiming,
    endless,
    gzipped,
    held,
    other,
    refusal,
    slow,
    web_page,
)
from tests.registries import Registry

INDEX = b'{"schemaVersion":2,"mediaType":"application/vnd.oci.image.index.v1+json","manifests":[]}'
Lying = Callable[..., LyingRegistry]


@pytest.fixture(autouse=True)
def short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pauses between attempts grow as they do, from 20 ms on."""
    monkeypatch.setattr(retry, "_FIRST_PAUSE_SECONDS", 0.02)


def failed(reference: str, cache: Path, **options: object) -> tuple[Failure, float]:
    """The failure of a pull, and how many seconds it took; checks what holds for every one of them."""
    started = time.monotonic()
    with pytest.raises(Failure) as caught:
        pulled(reference, cache, **options)
    assert "\n" not in str(caught.value)
    assert unverified(cache) == leftovers(cache) == []
    return caught.value, time.monotonic() - started


# --- what is not there, by the real registry


@pytest.mark.slow
def test_31_an_unknown_tag_names_the_newest_that_exist(registry: Registry, kits: Path, tmp_path: Path) -> None:
    for tag in ("v1", "v2", "v10", "latest"):
        registry.push(kits / "iris-bare", "v1", new_tag=tag)
    error, seconds = failed(f"{registry.host}/kits/iris-bare:v3", tmp_path)
    assert type(error) is NotFound
    assert str(error) == f"{registry.host}/kits/iris-bare has no tag v3; newest tags: v10, v2, v1, latest"
    assert seconds < AT_ONCE_SECONDS


def test_31_an_unknown_repository_is_said_to_be_that(registry: Registry, tmp_path: Path) -> None:
    error, seconds = failed(f"{registry.host}/kits/no-such-kit:v1", tmp_path)
    assert type(error) is NotFound
    assert str(error) == f"{registry.host} has no repository kits/no-such-kit, or does not show it to this login"
    assert seconds < AT_ONCE_SECONDS


def test_an_unknown_digest_is_said_to_be_that(registry: Registry, kits: Path, tmp_path: Path) -> None:
    registry.push(kits / "iris-bare", "v1", repository="kits/other")
    error, _ = failed(f"{registry.host}/kits/other@sha256:{'0' * 64}", tmp_path)
    assert type(error) is NotFound
    assert str(error) == f"{registry.host}/kits/other has no manifest sha256:{'0' * 64}; newest tags: v1"


@pytest.mark.parametrize(
    ("lie", "said"),
    [
        (other(b'{"name":"x","tags":null}'), "has no repository"),
        (other(b'{"name":"x","tags":[]}'), "; it has no tags"),
        (other(b'{"tags":["v\\u001b[31m",5,"v2"]}'), "; newest tags: v2"),
        (other(b"[" * 100_000), "has no repository"),
        (refusal(403, "DENIED"), "has no repository"),
        (refusal(500), "has no repository"),
    ],
    ids=["null", "none", "odd", "deep", "denied", "broken"],
)
def test_a_list_of_tags_that_cannot_be_had_is_no_second_failure(
    lying: Lying, tmp_path: Path, lie: Lie, said: str
) -> None:
    registry = lying("iris-bare")
    registry.lie("/tags/list", lie)
    error, seconds = failed(f"{registry.host}/kits/iris-bare:v9", tmp_path)
    assert type(error) is NotFound
    assert said in str(error)
    assert "\x1b" not in str(error)
    assert seconds < AT_ONCE_SECONDS
    assert len(registry.requests) == 2


# --- what is not a kit, or not the one that was asked for


@pytest.mark.parametrize(
    ("lie", "kind", "said"),
    [
        (web_page(), InvalidManifest, "answered with a web page instead of a manifest"),
        (gzipped(), InvalidManifest, "sent the manifest encoded as 'gzip'"),
        (other(b"no json", Content_Type="", Docker_Content_Digest=""), InvalidManifest, "is not JSON"),
        (other(b"[" * 200_000, Content_Type="", Docker_Content_Digest=""), InvalidManifest, "is not JSON"),
        (claiming(Docker_Content_Digest=f"sha256:{'1' * 64}"), DigestMismatch, f"calls the manifest sha256:{'1' * 64}"),
        (other(INDEX, Content_Type="", Docker_Content_Digest=""), NotAModelKit, "is not a ModelKit"),
        (endless(b" " * 65536), RegistryUnavailable, "sent more than 4194304 bytes"),
    ],
    ids=["web page", "gzip", "text", "deep", "digest header", "index", "endless"],
)  # fmt: skip
def test_37_a_wrong_manifest_is_refused_before_any_blob(
    lying: Lying, tmp_path: Path, lie: Lie, kind: type[Failure], said: str
) -> None:
    registry = lying("iris-bare")
    registry.lie("/manifests/", lie)
    error, seconds = failed(f"{registry.host}/kits/iris-bare:v1", tmp_path)
    assert type(error) is kind
    assert said in str(error)
    assert registry.seen("/blobs/") == []
    assert seconds < AT_ONCE_SECONDS


def test_38_a_manifest_sent_as_another_type_than_its_own_is_refused(tmp_path: Path) -> None:
    with LyingRegistry(made_kit(tmp_path / "layout", {"m.onnx": b"model"})) as registry:
        registry.lie("/manifests/", claiming(Content_Type="application/vnd.oci.image.index.v1+json"))
        error, _ = failed(f"{registry.host}/kits/m:v1", tmp_path / "cache")
    assert type(error) is InvalidManifest
    assert "image.index.v1+json, it calls itself application/vnd.oci.image.manifest.v1+json" in str(error)


def test_37_a_manifest_that_differs_from_the_pinned_digest_is_refused(lying: Lying, tmp_path: Path) -> None:
    registry, kit = lying("iris-onnx"), golden("iris-onnx", "gzip")
    registry.lie(
        "/manifests/",
        other(golden("iris-onnx").blob(golden("iris-onnx").digest).read_bytes(), Docker_Content_Digest=kit.digest),
    )
    error, _ = failed(f"{registry.host}/kits/iris-onnx@{kit.digest}", tmp_path)
    assert isinstance(error, BadContent)
    assert kit.digest in str(error)
    assert golden("iris-onnx").digest in str(error)
    assert registry.seen("/blobs/") == []


def test_a_digest_header_of_another_algorithm_is_no_lie(lying: Lying, tmp_path: Path) -> None:
    registry = lying("iris-bare")
    registry.lie("/manifests/", claiming(Docker_Content_Digest=f"sha512:{'1' * 128}"))
    pulled(f"{registry.host}/kits/iris-bare:v1", tmp_path)


# --- refusals and failures


@pytest.mark.parametrize("where", ["/manifests/", "/blobs/"])
def test_forbidden_is_a_refused_login_at_once(lying: Lying, tmp_path: Path, where: str) -> None:
    registry = lying("iris-bare")
    registry.lie(where, refusal(403, "DENIED"))
    error, seconds = failed(f"{registry.host}/kits/iris-bare:v1", tmp_path, retry_budget_seconds=30.0)
    assert type(error) is LoginRefused
    assert re.search(
        r"it answered 403 for (manifest v1|blob sha256:\S+) \(DENIED: denied\); used: no login", str(error)
    )
    assert f"docker login {registry.host}" in str(error)
    assert seconds < AT_ONCE_SECONDS


@pytest.mark.parametrize("status", [400, 405, 406, 410, 418, 451])
def test_other_refusals_are_final_and_show_the_registrys_words(lying: Lying, tmp_path: Path, status: int) -> None:
    registry = lying("iris-bare")
    registry.lie("/manifests/", refusal(status, "SOMETHING\x1b[2J"))
    error, seconds = failed(f"{registry.host}/kits/iris-bare:v1", tmp_path, retry_budget_seconds=30.0)
    assert type(error) is RegistryUnavailable
    wanted = f"answered {status} for manifest v1 of kits/iris-bare (SOMETHING [2J: something [2j)"
    assert str(error) == f"{registry.url} {wanted}"
    assert seconds < AT_ONCE_SECONDS


@pytest.mark.slow
@pytest.mark.parametrize("status", [429, 500, 502, 503, 504])
def test_23_a_failure_that_does_not_pass_ends_with_the_budget(lying: Lying, tmp_path: Path, status: int) -> None:
    registry = lying("iris-bare")
    registry.lie("/manifests/", refusal(status))
    error, seconds = failed(f"{registry.host}/kits/iris-bare:v1", tmp_path, retry_budget_seconds=0.3)
    assert type(error) is RegistryUnavailable
    assert re.search(
        rf"^127\.0\.0\.1:\d+ is unavailable: .* answered {status} .*\(\d+ attempts in 0\.\d s, --retry", str(error)
    )
    assert seconds < AT_ONCE_SECONDS
    assert len(registry.requests) > 1


@pytest.mark.slow
@pytest.mark.parametrize("form", ["seconds", "date"])
def test_22_retry_after_is_waited_for(lying: Lying, tmp_path: Path, form: str) -> None:
    from email.utils import formatdate

    registry = lying("iris-bare")
    started = time.monotonic()
    wait = "1" if form == "seconds" else formatdate(time.time() + 2, usegmt=True)  # a date has whole seconds
    registry.lie("/manifests/", refusal(429, Retry_After=wait), times=1)
    pulled(f"{registry.host}/kits/iris-bare:v1", tmp_path, watch := Recorder(), retry_budget_seconds=10.0)
    assert time.monotonic() - started > 0.9
    assert watch.warned == ["registry.retried"]
    assert len(registry.seen("/manifests/")) == 2


@pytest.mark.slow
@pytest.mark.parametrize("wait", ["", "soon", "-5", "9" * 400, "Wed, 99 Foo 2026"])
def test_a_retry_after_that_says_nothing_useful_does_no_harm(lying: Lying, tmp_path: Path, wait: str) -> None:
    registry = lying("iris-bare")
    registry.lie("/manifests/", refusal(503, Retry_After=wait), times=1)
    pulled(f"{registry.host}/kits/iris-bare:v1", tmp_path, retry_budget_seconds=0.5)


@pytest.mark.slow
def test_nobody_listening_is_said_after_the_budget(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # bound and not listening: connections are refused
        host = f"127.0.0.1:{taken.getsockname()[1]}"
        error, seconds = failed(f"{host}/kits/iris-bare:v1", tmp_path, retry_budget_seconds=0.5)
    assert type(error) is RegistryUnavailable
    assert re.search(rf"^{host} is unavailable: Connection refused \(\d+ attempts? in \d\.\d s", str(error))
    assert seconds < AT_ONCE_SECONDS


def test_a_host_without_an_address_is_said_after_the_budget(tmp_path: Path) -> None:
    error, _ = failed("no-such-host.invalid/kits/x:v1", tmp_path, retry_budget_seconds=0.0)
    assert type(error) is RegistryUnavailable
    assert str(error).startswith("no-such-host.invalid is unavailable: ")


def test_29_a_registry_that_comes_up_late_is_waited_for(tmp_path: Path, kits: Path, lying: Lying) -> None:
    registry, gate = lying("iris-bare"), Gate()
    registry.lie("/manifests/", refusal(503), times=2)
    registry.lie("/manifests/", held(gate), times=1)
    gate.open.set()
    pulled(f"{registry.host}/kits/iris-bare:v1", tmp_path, retry_budget_seconds=20.0)


@pytest.mark.slow
def test_silence_ends_with_the_budget_and_not_with_the_stall_limit(lying: Lying, tmp_path: Path) -> None:
    registry = lying("iris-bare")
    registry.lie("/manifests/", held(Gate()))
    error, seconds = failed(f"{registry.host}/kits/iris-bare:v1", tmp_path, retry_budget_seconds=0.2)
    assert "no answer in time" in str(error)
    assert seconds < AT_ONCE_SECONDS


@pytest.mark.slow
def test_a_manifest_that_drips_ends_with_the_budget(
    lying: Lying, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client, "STALL_SECONDS", 0.3)
    registry = lying("iris-bare")
    registry.lie("/manifests/", slow(1, 0.01))
    error, seconds = failed(f"{registry.host}/kits/iris-bare:v1", tmp_path, retry_budget_seconds=0.0)
    assert "bytes of a short answer in" in str(error)
    assert seconds < AT_ONCE_SECONDS


@pytest.mark.slow
def test_a_head_that_drips_ends_with_the_budget(lying: Lying, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def drip(exchange: Exchange) -> None:
        exchange.wire.wfile.write(b"HTTP/1.1 200 OK\r\nX-Slow: ")
        while not exchange.closing.wait(0.01):
            exchange.write(b"a")

    monkeypatch.setattr(client, "STALL_SECONDS", 0.3)
    registry = lying("iris-bare")
    registry.lie("/manifests/", drip)
    error, seconds = failed(f"{registry.host}/kits/iris-bare:v1", tmp_path, retry_budget_seconds=0.0)
    assert "no answer in time" in str(error)
    assert seconds < AT_ONCE_SECONDS


# --- the way things are asked for


def test_a_repository_with_a_dot_in_its_first_component_is_asked_for_as_it_is(lying: Lying, tmp_path: Path) -> None:
    registry = lying("iris-bare")
    pulled(f"{registry.host}/my.org/team/iris-bare:v1", tmp_path)
    assert registry.requests[0].path == "/v2/my.org/team/iris-bare/manifests/v1"


def test_requests_say_who_asks_and_carry_nothing_else(lying: Lying, tmp_path: Path) -> None:
    registry = lying("iris-bare")
    pulled(f"{registry.host}/kits/iris-bare:v1", tmp_path)
    for seen in registry.requests:
        assert re.fullmatch(r"modelkit-runtime/\d+\.\d+\.\d+\S*", seen.headers["user-agent"])
        assert set(seen.headers) <= {"host", "user-agent", "accept-encoding", "accept", "connection"}


def test_09_a_sha512_digest_is_verified(tmp_path: Path) -> None:
    from tests.kit.made import named, put
    from tests.registries import digest_of

    layout = made_kit(tmp_path / "layout", {"m.onnx": b"model"})
    raw = (layout / "blobs/sha256" / digest_of(layout, "v1")[7:]).read_bytes()
    named(layout, put(layout, raw, "application/vnd.oci.image.manifest.v1+json", "sha512"), "v2")
    with LyingRegistry(layout) as registry:
        kit = pulled(f"{registry.host}/kits/m@{digest_of(layout, 'v2')}", tmp_path / "cache")
    assert str(kit.digest).startswith("sha512:")
    assert tree(kit.root) == {"m.onnx": b"model"}
    assert unverified(tmp_path / "cache") == []


@pytest.mark.slow
@pytest.mark.parametrize("where", ["/manifests/", "/blobs/"])
def test_a_length_of_five_thousand_digits_is_none(lying: Lying, tmp_path: Path, where: str) -> None:
    registry = lying("iris-bare")
    registry.lie(where, claiming(**{"Content-Length": "9" * 5000}))
    error, _ = failed(f"{registry.host}/kits/iris-bare:v1", tmp_path, retry_budget_seconds=0.0)
    assert isinstance(error, BadContent | RegistryUnavailable)


@pytest.mark.parametrize("answer", [b"HTTP/9 " + b"x" * 60_000, b"HTTP/1.1 503 " + b"x" * 60_000], ids=["odd", "503"])
def test_what_a_registry_says_of_itself_is_cut_to_a_line(tmp_path: Path, answer: bytes) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        thread = threading.Thread(target=_answer, args=(server, answer + b"\r\n\r\n"))
        thread.start()
        host = f"127.0.0.1:{server.getsockname()[1]}"
        error, _ = failed(f"{host}/kits/iris-bare:v1", tmp_path, retry_budget_seconds=0.0)
        thread.join()
    assert len(str(error)) < 500


def _answer(server: socket.socket, answer: bytes) -> None:
    connection, _ = server.accept()
    with connection:
        connection.recv(65536)
        connection.sendall(answer)
