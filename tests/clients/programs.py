"""Clients that are programs: curl, node, and a page in headless Chromium."""

from __future__ import annotations

import json
import queue
import shutil
import subprocess
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from tests.clients.drivers import PATIENCE_SECONDS, SCRIPTS
from tests.clients.servers import Servers

Given = dict[str, Any]
_CHROMIUM = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync", "--disable-dev-shm-usage",
)  # fmt: skip


def curl_json(servers: Servers, kit: str, request: Given) -> Any:
    url = f"{servers.address(kit).url}/v2/models/{kit}/infer"
    return outputs_of(json.loads(_run("curl", "-sS", url, "-d", json.dumps(request))))


def curl_compressed(servers: Servers, kit: str, request: Given) -> Any:
    url = f"{servers.address(kit).url}/v2/models/{kit}/infer"
    many = {"inputs": [{**request["inputs"][0], "shape": [300, 4], "data": request["inputs"][0]["data"] * 100}]}
    head = _run("curl", "-sS", "--compressed", "-D", "-", "-o", "/dev/null", url, "-d", json.dumps(many))
    assert "content-encoding:" in head.lower(), head
    return outputs_of(json.loads(_run("curl", "-sS", "--compressed", url, "-d", json.dumps(request))))


def curl_v1(servers: Servers, kit: str, request: Given) -> Any:
    flat = request["inputs"][0]["data"]
    rows = json.dumps({"instances": [flat[at : at + 4] for at in range(0, len(flat), 4)]})
    url = f"{servers.address(kit).url}/v1/models/{kit}"
    answers = {name: json.loads(_run("curl", "-sS", f"{url}{colon}predict", "-d", rows))
               for name, colon in (("literal", ":"), ("quoted", "%3A"))}  # fmt: skip
    return {name: len(answer["predictions"]) for name, answer in answers.items()}


def node_fetch(servers: Servers, kit: str, request: Given) -> Any:
    with tempfile.NamedTemporaryFile("w", suffix=".json") as file:
        file.write(json.dumps(request))
        file.flush()
        url = f"{servers.address(kit).url}/v2/models/{kit}/infer"
        return json.loads(_run("node", str(SCRIPTS / "fetch.mjs"), file.name, url))


def page_allowed(servers: Servers, kit: str, request: Given) -> Any:
    return _seen(servers, kit, json.dumps(request))[0]


def page_refused(servers: Servers, kit: str, request: Given) -> Any:
    return _seen(servers, kit, json.dumps(request))[1]


@cache
def _seen(servers: Servers, kit: str, request: str) -> Any:
    """What a page sees of a server that allows its origin, and of one that does not."""
    with _page(json.loads(request)) as page:
        addresses = servers.address(kit, "--cors-origin", page.origin), servers.address(kit)
        return page.seen([f"{address.url}/v2/models/{kit}/infer" for address in addresses])


def outputs_of(answer: Given) -> Given:
    """The outputs of a V2 answer in JSON."""
    return {"outputs": {output["name"]: output["data"] for output in answer["outputs"]}}


class Page:
    """A site with one page, which asks servers for a prediction and tells the site what it saw."""

    def __init__(self, request: Given) -> None:
        self._told: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self._given: Given = {"request": request}
        page = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                if self.path == "/given":
                    self._answer("application/json", json.dumps(page._given).encode())
                else:
                    self._answer("text/html", (SCRIPTS / "page.html").read_bytes())

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                self._answer("text/plain", b"thanks")
                page._told.put(json.loads(body))

            def _answer(self, kind: str, body: bytes) -> None:
                self.send_response(200)
                self.send_header("content-type", kind)
                self.send_header("content-length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *args: object) -> None:
                """Keep quiet."""

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.origin = f"http://127.0.0.1:{self.server.server_address[1]}"

    def seen(self, urls: list[str]) -> Any:
        """What the page saw of each server when Chromium opened it."""
        self._given["urls"] = urls
        with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
            command = [_program("chromium"), *_CHROMIUM, f"--user-data-dir={profile}", "--remote-debugging-port=0"]
            browser = subprocess.Popen(
                [*command, f"{self.origin}/"],
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                start_new_session=True,
            )
            try:
                return self._told.get(timeout=PATIENCE_SECONDS)
            finally:
                browser.terminate()
                browser.wait(PATIENCE_SECONDS)


@contextmanager
def _page(request: Given) -> Iterator[Page]:
    page = Page(request)
    thread = threading.Thread(target=page.server.serve_forever, args=(0.02,))
    thread.start()
    try:
        yield page
    finally:
        page.server.shutdown()
        page.server.server_close()
        thread.join()


def _run(program: str, *arguments: str) -> str:
    done = subprocess.run(
        [_program(program), *arguments], capture_output=True, text=True, timeout=PATIENCE_SECONDS, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def _program(name: str) -> str:
    found = shutil.which(name)
    assert found, f"{name} is not installed: make programs"
    return found
