"""Real registries for tests: Debian's `docker-registry` as a process of its own, filled by `skopeo`.

    with Registry(folder) as registry:                        # no login; or auth="basic", or auth=token_service
        digest = registry.push(kits / "iris-onnx", "v1")      # as registry.host/kits/iris-onnx:v1

Each stands on an ephemeral loopback port, so tests run side by side.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
import secrets
import shutil
import subprocess
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import TracebackType
from typing import Literal, Self
from urllib.parse import parse_qs, urlsplit

USER, PASSWORD = "ada", "correct horse: battery/staple"
_BCRYPT = "$2y$05$abcdefghijklmnopqrstuu39I0.wrV6odTZY3hs66ndrRwKZWQJwK"  # of PASSWORD, by perl's crypt
IDENTITY_TOKEN = "identity-of-ada"
_LISTENING = re.compile(r"listening on 127\.0\.0\.1:(\d+)")
_START_SECONDS = 20


class TokenService:
    """Gives out Bearer tokens for a registry, to anybody or to USER only; a docker-registry trusts its certificate.

    `seen` has every request: method, query or form, Authorization header.
    """

    def __init__(self, folder: Path, *, anonymous: bool = False, lifetime_seconds: int = 300) -> None:
        self.anonymous, self.lifetime_seconds = anonymous, lifetime_seconds
        self.seen: list[TokenQuestion] = []
        self.certificate = folder / "token-service.pem"
        self._make_key()
        service = self

        class Handler(BaseHTTPRequestHandler):
            disable_nagle_algorithm = True  # head and body are two writes: the second would wait 40 ms
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                service._answer(self)

            do_POST = do_GET  # noqa: N815 - a name that http.server gives

            def log_message(self, *args: object) -> None:
                """Keep quiet."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.host = f"127.0.0.1:{self._server.server_address[1]}"
        self.realm = f"http://{self.host}/token"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True)
        self._thread.start()

    def token(self, scope: str, service: str, expired_seconds_ago: int = 0) -> str:
        """A signed token for `repository:NAME:ACTIONS`, good now or expired already."""
        kind, name, actions = scope.split(":")
        now = int(time.time()) - expired_seconds_ago - (self.lifetime_seconds if expired_seconds_ago else 0)
        claims = {
            "iss": "tests",
            "sub": USER,
            "aud": service,
            "exp": now + self.lifetime_seconds,
            "nbf": now - 10,
            "iat": now,
            "jti": secrets.token_hex(8),
            "access": [{"type": kind, "name": name, "actions": actions.split(",")}],
        }
        head = _base64({"typ": "JWT", "alg": "RS256", "x5c": [self._x5c]}) + "." + _base64(claims)
        return head + "." + _base64(self._sign(head.encode()))

    def close(self) -> None:
        """Stop."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _answer(self, wire: BaseHTTPRequestHandler) -> None:
        body = wire.rfile.read(int(wire.headers.get("Content-Length", 0)))
        fields = parse_qs(body.decode()) if wire.command == "POST" else parse_qs(urlsplit(wire.path).query)
        question = TokenQuestion(wire.command, fields, wire.headers.get("Authorization"))
        self.seen.append(question)
        status, answer = self._decide(question)
        data = json.dumps(answer).encode()
        wire.send_response_only(status)
        wire.send_header("Content-Type", "application/json")
        wire.send_header("Content-Length", str(len(data)))
        wire.end_headers()
        wire.wfile.write(data)

    def _decide(self, question: TokenQuestion) -> tuple[int, dict[str, object]]:
        if not self._may(question):
            return 401, {"details": "incorrect username or password"}
        token = self.token(question.fields["scope"][0], question.fields["service"][0])
        return 200, {
            "access_token" if question.method == "POST" else "token": token,
            "expires_in": self.lifetime_seconds,
        }

    def _may(self, question: TokenQuestion) -> bool:
        if question.method == "POST":
            return question.fields.get("refresh_token") == [IDENTITY_TOKEN]
        return question.authorization == basic(USER, PASSWORD) or (question.authorization is None and self.anonymous)

    def _make_key(self) -> None:
        from cryptography import x509
        from cryptography.hazmat.primitives import hashes, serialization
        from cryptography.hazmat.primitives.asymmetric import padding, rsa

        key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
        name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "tests")])
        now = datetime.now(UTC)
        certificate = (
            x509.CertificateBuilder()
            .subject_name(name)
            .issuer_name(name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - timedelta(hours=1))
            .not_valid_after(now + timedelta(days=1))
            .sign(key, hashes.SHA256())
        )
        self.certificate.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
        self._x5c = base64.b64encode(certificate.public_bytes(serialization.Encoding.DER)).decode()
        self._sign = lambda data: key.sign(data, padding.PKCS1v15(), hashes.SHA256())


@dataclass(frozen=True)
class TokenQuestion:
    """What somebody asked a token service."""

    method: str
    fields: Mapping[str, list[str]]
    authorization: str | None


class Registry:
    """A docker-registry process with its own empty storage below `folder`. `host` is HOST:PORT.

    With a `certificate`, its key in the same file, it speaks TLS and wants clients to have that certificate. With
    `upstream`, another registry's host, it is a cache in front of that (pull-through), and takes no pushes.
    """

    def __init__(
        self,
        folder: Path,
        auth: Literal["none", "basic"] | TokenService = "none",
        certificate: Path | None = None,
        upstream: str = "",
    ) -> None:
        self._auth, self._certificate, self._upstream = auth, certificate, upstream
        self._folder = folder / f"registry-{secrets.token_hex(4)}"
        self._folder.mkdir(parents=True)
        self.storage = self._folder / "storage"
        config = self._folder / "config.json"  # YAML reads JSON
        config.write_text(json.dumps(self._config()))
        self._log = (self._folder / "log").open("wb")
        self._process = subprocess.Popen(
            [_program("docker-registry"), "serve", str(config)], stdout=self._log, stderr=subprocess.STDOUT
        )
        self.host = f"127.0.0.1:{self._port()}"

    def push(self, layout: Path, tag: str, repository: str | None = None, new_tag: str | None = None) -> str:
        """Copy a kit from a layout, byte for byte; gives its reference in this registry."""
        reference = f"{self.host}/{repository or f'kits/{layout.name}'}:{new_tag or tag}"
        login = [] if self._auth == "none" else ["--dest-creds", f"{USER}:{PASSWORD}"]
        skopeo(
            "copy",
            "--preserve-digests",
            "--dest-tls-verify=false",
            *login,
            f"oci:{layout}:{tag}",
            f"docker://{reference}",
        )
        return reference

    def push_all(self, layout: Path) -> list[str]:
        """Copy every tag of a layout."""
        return [self.push(layout, tag) for tag in tags_of(layout)]

    def close(self) -> None:
        """End the process and remove its storage."""
        self._process.kill()  # it would take up to a second to end by itself
        self._process.wait()
        self._log.close()
        shutil.rmtree(self._folder)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _config(self) -> dict[str, object]:
        config: dict[str, object] = {
            "version": 0.1,
            "log": {"level": "info"},
            "storage": {"filesystem": {"rootdirectory": str(self.storage)}, "delete": {"enabled": True}},
            "http": {"addr": "127.0.0.1:0", "secret": "for tests"},
        }
        if self._certificate:
            file = str(self._certificate)
            config["http"] |= {"tls": {"certificate": file, "key": file, "clientcas": [file]}}  # type: ignore[operator]
        if self._upstream:
            config["proxy"] = {"remoteurl": f"http://{self._upstream}"}
        if self._auth == "basic":
            users = self._folder / "htpasswd"
            users.write_text(f"{USER}:{_BCRYPT}\n")
            config["auth"] = {"htpasswd": {"realm": "kits", "path": str(users)}}
        elif isinstance(self._auth, TokenService):
            trust = {"realm": self._auth.realm, "service": "kits", "issuer": "tests"}
            config["auth"] = {"token": {**trust, "rootcertbundle": str(self._auth.certificate)}}
        return config

    def _port(self) -> int:
        """The port it chose, read from its log."""
        log, deadline = self._folder / "log", time.monotonic() + _START_SECONDS
        while time.monotonic() < deadline and self._process.poll() is None:
            if found := _LISTENING.search(log.read_text()):
                return int(found[1])
            time.sleep(0.01)  # a log file cannot be waited for
        text = log.read_text()
        self.close()
        raise RuntimeError(f"docker-registry did not start: {text[-2000:]}")


def tags_of(layout: Path) -> list[str]:
    """Tags in a layout's index, in its order."""
    index = json.loads((layout / "index.json").read_bytes())
    return [each["annotations"]["org.opencontainers.image.ref.name"] for each in index["manifests"]]


def digest_of(layout: Path, tag: str) -> str:
    """Digest of a tag's manifest in a layout."""
    index = json.loads((layout / "index.json").read_bytes())
    found = {
        each["annotations"]["org.opencontainers.image.ref.name"]: str(each["digest"]) for each in index["manifests"]
    }
    return found[tag]


def skopeo(*arguments: str) -> str:
    """Run skopeo; what it printed. Fails with what it complained about."""
    done = subprocess.run([_program("skopeo"), *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def docker_config(folder: Path, logins: Mapping[str, tuple[str, str]]) -> Path:
    """A config.json with these users and passwords by host; gives the folder, for DOCKER_CONFIG."""
    folder.mkdir(parents=True, exist_ok=True)
    auths = {host: {"auth": base64.b64encode(":".join(login).encode()).decode()} for host, login in logins.items()}
    (folder / "config.json").write_text(json.dumps({"auths": auths}))
    return folder


def basic(user: str, password: str) -> str:
    """An Authorization header."""
    return "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()


def sha256(data: bytes) -> str:
    """A digest as OCI writes it."""
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


def _base64(value: dict[str, object] | bytes) -> str:
    data = value if isinstance(value, bytes) else json.dumps(value).encode()
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def _program(name: str) -> str:
    found = shutil.which(name)
    assert found, f"{name} is not installed: apt-get install docker-registry skopeo"
    return found
