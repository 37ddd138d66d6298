"""One request: TLS, proxies, redirects, and what oras-py has to stay like for our seam to hold."""

import inspect
import socket
import ssl
import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import requests

from runtime.errors import RegistryUnavailable
from runtime.kit.registry import client as module
from runtime.kit.registry import retry
from runtime.kit.registry.origin import Origin
from tests.kit.pulling import pulled, tree
from tests.lying_registry import Exchange, LyingRegistry, cut, endless, redirect, refusal
from tests.places import KITS, ROOT
from tests.registries import Registry, basic, skopeo

Lying = Callable[..., LyingRegistry]
NAME = "registry.test"


@pytest.fixture(autouse=True)
def short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pauses between attempts grow as they do, from 20 ms on."""
    monkeypatch.setattr(retry, "_FIRST_PAUSE_SECONDS", 0.02)


@pytest.fixture(autouse=True)
def bare_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """No authorities or proxies of the machine the tests run on."""
    for name in ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "SSL_CERT_FILE", "no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def named(monkeypatch: pytest.MonkeyPatch) -> None:
    """Lets registry.test and everything below it lead to this machine, which is no loopback name to the runtime."""
    lookup = socket.getaddrinfo

    def find(host: str, *more: object, **named: object) -> object:
        return lookup("127.0.0.1" if str(host).endswith(NAME) else host, *more, **named)  # type: ignore[arg-type]

    monkeypatch.setattr(socket, "getaddrinfo", find)


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A certificate for registry.test, signed by itself, and its key in one file."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key, now = ec.generate_private_key(ec.SECP256R1()), datetime.now(UTC)
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, NAME)])
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(NAME)]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    secret = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    path = tmp_path_factory.mktemp("tls") / "registry.pem"
    path.write_bytes(made.public_bytes(serialization.Encoding.PEM) + secret)
    return path


@pytest.mark.usefixtures("named")
def test_11_tls_is_spoken_to_every_other_host_and_its_authority_can_be_given(
    lying: Lying, certificate: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    registry = lying("iris-bare", certificate=certificate)
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    assert pulled(f"{NAME}:{registry.port}/kits/iris-bare:v1", tmp_path).verified == "true"


@pytest.mark.slow
@pytest.mark.usefixtures("named")
@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_11_a_client_certificate_goes_to_the_registry_that_wants_one(
    certificate: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Registry(tmp_path, certificate=certificate) as registry:
        port = registry.host.rpartition(":")[2]
        (tmp_path / "client").mkdir()
        for name in ("client.cert", "client.key"):
            (tmp_path / "client" / name).write_bytes(certificate.read_bytes())
        skopeo("copy", "--preserve-digests", "--dest-tls-verify=false", f"--dest-cert-dir={tmp_path}/client",
               f"oci:{KITS}/iris-bare:v1", f"docker://127.0.0.1:{port}/kits/iris-bare:v1")  # fmt: skip
        monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
        with pytest.raises(RegistryUnavailable, match="wants a client certificate: set KITOPS_CLIENT_CERT"):
            pulled(f"{NAME}:{port}/kits/iris-bare:v1", tmp_path / "cache", retry_budget_seconds=0.1)
        monkeypatch.setenv("KITOPS_CLIENT_CERT", str(certificate))
        assert pulled(f"{NAME}:{port}/kits/iris-bare:v1", tmp_path / "cache").verified == "true"


@pytest.mark.usefixtures("named")
@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_certificate_that_nobody_vouches_for_is_final(lying: Lying, certificate: Path, tmp_path: Path) -> None:
    registry = lying("iris-bare", certificate=certificate)
    with pytest.raises(
        RegistryUnavailable, match=r"^no TLS with https://registry\.test:\d+: .*certificate.*SSL_CERT_FILE"
    ):
        pulled(f"{NAME}:{registry.port}/kits/iris-bare:v1", tmp_path, retry_budget_seconds=30.0)
    assert registry.requests == []


@pytest.mark.usefixtures("named")
def test_authorities_in_a_file_that_is_missing_are_an_error_in_one_line(
    lying: Lying, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "none.pem"))
    with pytest.raises(RegistryUnavailable, match=r"^cannot ask https://registry\.test:\d+: .*/none\.pem$"):
        pulled(f"{NAME}:{lying('iris-bare').port}/kits/iris-bare:v1", tmp_path, retry_budget_seconds=30.0)


@pytest.mark.usefixtures("named")
def test_plain_http_where_tls_belongs_is_recognised(lying: Lying, tmp_path: Path) -> None:
    registry = lying("iris-bare")
    with pytest.raises(RegistryUnavailable, match="it seems to speak plain http, which --plain-http allows"):
        pulled(f"{NAME}:{registry.port}/kits/iris-bare:v1", tmp_path, retry_budget_seconds=30.0)
    assert pulled(f"{NAME}:{registry.port}/kits/iris-bare:v1", tmp_path, plain_http=True).verified == "true"


def test_what_speaks_no_http_is_an_error_in_one_line(lying: Lying, tmp_path: Path) -> None:
    registry = lying("iris-bare")
    registry.lie("/manifests/", lambda exchange: exchange.write(b"SSH-2.0-x\r\n"))
    with pytest.raises(RegistryUnavailable, match="SSH"):
        pulled(f"{registry.host}/kits/iris-bare:v1", tmp_path, retry_budget_seconds=0.1)


@pytest.mark.usefixtures("named")
@pytest.mark.parametrize(
    ("target", "said"),
    [
        ("http://{host}/elsewhere", "from https to http"),
        ("https://127.0.0.1:1/x", "this machine or its link"),
        ("https://169.254.169.254/latest/meta-data", "this machine or its link"),
        ("file:///etc/passwd", "not an http or https address: file:///etc/passwd"),
        ("https://user:pa55@storage.example/x", "not an http or https address: https://storage.example/x"),
        ("https://[broken/x", "redirects to an address that is not followed"),
    ],
)
def test_41_a_redirect_to_where_it_must_not_lead_is_not_followed(
    lying: Lying, certificate: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, target: str, said: str
) -> None:
    registry = lying("iris-bare", certificate=certificate)
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    registry.lie("/manifests/", redirect(target.format(host=f"{NAME}:{registry.port}")))
    with pytest.raises(RegistryUnavailable) as caught:
        pulled(f"{NAME}:{registry.port}/kits/iris-bare:v1", tmp_path)
    assert said in str(caught.value)
    assert "pa55" not in str(caught.value)
    assert len(registry.requests) == 1


@pytest.mark.usefixtures("named")
def test_a_plain_http_redirect_off_this_machine_needs_the_option(lying: Lying, tmp_path: Path) -> None:
    registry, storage = lying("iris-bare"), lying("iris-bare")
    registry.lie("/blobs/", redirect(lambda each: f"http://storage.{NAME}:{storage.port}{each.seen.path}"))
    with pytest.raises(RegistryUnavailable, match="it leads to plain http; allow that with --plain-http"):
        pulled(f"{registry.host}/kits/iris-bare:v1", tmp_path)
    assert storage.requests == []
    assert pulled(f"{registry.host}/kits/iris-bare:v1", tmp_path, plain_http=True).verified == "true"


def test_41_redirects_in_a_circle_end(lying: Lying, tmp_path: Path) -> None:
    registry = lying("iris-bare")
    registry.lie("/manifests/", redirect(lambda each: each.seen.path))
    with pytest.raises(RegistryUnavailable, match="redirects more than 5 times"):
        pulled(f"{registry.host}/kits/iris-bare:v1", tmp_path, retry_budget_seconds=30.0)
    assert len(registry.requests) == 6


def test_the_body_of_a_redirect_is_not_read(lying: Lying, tmp_path: Path) -> None:
    registry = lying("iris-bare")

    def lie(exchange: Exchange) -> None:
        exchange.headers = {"Location": exchange.seen.path + "?again"}
        exchange.status = 307
        endless()(exchange)

    registry.lie(r"/manifests/v1$", lie)
    assert pulled(f"{registry.host}/kits/iris-bare:v1", tmp_path).verified == "true"


def test_five_redirects_are_followed_and_the_range_goes_along(lying: Lying, tmp_path: Path) -> None:
    registry = lying("iris-bare")
    registry.lie("/manifests/", redirect(lambda each: each.seen.path + "?again"), times=5)
    registry.lie(r"GET .*/blobs/[^?]*$", redirect(lambda each: each.seen.path + "?storage"))
    registry.lie(r"\?storage", lambda exchange: exchange.send(), times=1)
    registry.lie(r"\?storage", cut(900), times=1)
    kit = pulled(f"{registry.host}/kits/iris-bare:v1", tmp_path)
    assert kit.verified == "true"
    assert registry.requests[-1].headers["range"] == "bytes=900-"


def test_11_a_proxy_is_used_for_other_hosts_and_never_for_loopback(
    lying: Lying, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    proxy, registry = lying(None), lying("iris-bare")
    for name in ("http_proxy", "https_proxy", "all_proxy"):
        monkeypatch.setenv(name, proxy.url)
    pulled(f"{registry.host}/kits/iris-bare:v1", tmp_path)
    assert proxy.requests == []
    with pytest.raises(Exception, match=r"has no repository|answered 404|no manifest"):
        pulled("registry.example/kits/iris-bare:v1", tmp_path, plain_http=True)
    assert proxy.requests[0].path == "http://registry.example/v2/kits/iris-bare/manifests/v1"


def test_25_storage_that_no_longer_knows_a_signed_address_is_asked_for_by_a_new_one(
    lying: Lying, tmp_path: Path
) -> None:
    registry, storage = lying("iris-bare"), lying("iris-bare")
    registry.lie("/blobs/", redirect(lambda each: storage.url + each.seen.path))
    storage.lie("/blobs/", refusal(403, "EXPIRED"), times=1)
    kit = pulled(f"{registry.host}/kits/iris-bare:v1", tmp_path / "cache")
    assert tree(kit.root)
    assert len(registry.seen("/blobs/")) == 3


# --- the seam in oras-py (0.2.43): what of it is used has to stay there


def test_every_request_of_oras_goes_through_the_method_we_replace(
    lying: Lying, monkeypatch: pytest.MonkeyPatch
) -> None:
    registry = lying("iris-bare")
    client = module.Client(Origin.of(registry.url), plain_http=False)
    calls: list[str] = []
    original = module.Client.do_request

    def noting(self: module.Client, url: str, *more: object, **named: object) -> requests.Response:
        calls.append(url)
        return original(self, url, *more, **named)  # type: ignore[arg-type]

    monkeypatch.setattr(module.Client, "do_request", noting)
    container = client.container("kits/iris-bare")
    client.get_blob(container, f"sha256:{'0' * 64}", stream=True).close()
    assert client.get_tags(container) == ["v1"]
    assert len(calls) == len(registry.requests) == 2


def test_our_method_takes_what_oras_gives() -> None:
    ours = inspect.signature(module.Client.do_request).parameters
    theirs = inspect.signature(module._OrasRegistry.do_request).parameters
    assert list(ours)[: len(theirs)] == list(theirs)
    assert [each.default for each in list(ours.values())[: len(theirs)]] == [each.default for each in theirs.values()]


def test_addresses_are_those_of_the_distribution_spec() -> None:
    client = module.Client(Origin.of("https://[::1]:5000"), plain_http=False)
    container = client.container("my.org/kits/iris")
    assert container.manifest_url("v1") == "[::1]:5000/v2/my.org/kits/iris/manifests/v1"
    assert container.get_blob_url("sha256:x") == "[::1]:5000/v2/my.org/kits/iris/blobs/sha256:x"
    assert container.tags_url() == "[::1]:5000/v2/my.org/kits/iris/tags/list"
    assert client.prefix == "https"


def test_basic_in_tests_is_what_the_runtime_sends() -> None:
    from runtime.kit.registry.credentials import Credential

    assert Credential("here", "ada", "pässwörd").basic == basic("ada", "pässwörd")


def test_this_python_has_tls() -> None:
    assert ssl.HAS_TLSv1_3


# --- what comes along with oras-py, and what stays away

SCRIPT = """
import sys
{before}
from runtime.kit.registry.client import import_oras
provider, container = import_oras()
print(provider.Registry.__name__, container.Container.__name__)
print(sorted({{"jsonschema", "rfc3987_syntax", "lark", "isoduration", "arrow"}} & set(sys.modules)))
"""


def imported(before: str = "") -> list[str]:
    script = SCRIPT.format(before=before)
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, cwd=ROOT, check=True)
    return done.stdout.splitlines()


@pytest.mark.slow
def test_neither_jsonschema_nor_its_format_checkers_come_along() -> None:
    assert imported() == ["Registry Container", "[]"]


@pytest.mark.slow
def test_nothing_is_hidden_from_those_who_imported_jsonschema_before() -> None:
    before = "sys.modules['rfc3987_syntax'] = None; import jsonschema"  # or it would compile grammars for two seconds
    assert imported(before)[0] == "Registry Container"


@pytest.mark.slow
def test_a_push_of_orass_own_finds_jsonschema_and_so_does_who_imports_it_afterwards() -> None:
    script = (
        "import sys; from runtime.kit.registry.client import import_oras; provider, _ = import_oras();"
        "assert None not in sys.modules.values() and 'jsonschema' not in sys.modules;"
        "sys.modules['rfc3987_syntax'] = None;"  # it compiles its grammars for a second
        "provider.jsonschema.validate(1, {'type': 'number'});"
        "import jsonschema; assert jsonschema.Draft202012Validator is provider.jsonschema.Draft202012Validator"
    )
    subprocess.run([sys.executable, "-c", script], cwd=ROOT, check=True)
