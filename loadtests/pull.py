"""How fast a kit comes: from a docker-registry on loopback to a verified tree, in ratios to each table's first line.

    python -m loadtests.pull [MEGABYTES [ROUNDS]]

1. One layer, an uncompressed tar. `curl | tar` verifies nothing; `curl`, `sha256sum` and `tar` one after another is
   what a script would do. A cached kit is read and hashed, as the last line does.
2. A layer of gzip, half the size, of numbers as weights are. The first line inflates and drops it.
3. The first kit through a proxy that adds 50 ms to each request, and gives each connection 100 MB a second.

Needs docker-registry, skopeo and curl. `TMPDIR=/dev/shm` keeps the disk out of it, `chrt -r 5` other processes.
"""

from __future__ import annotations

import compileall
import hashlib
import json
import multiprocessing
import os
import random
import shutil
import socket
import statistics
import struct
import subprocess
import sys
import tarfile
import tempfile
import threading
import time
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Final, NamedTuple

from tests.kit.made import KIT, named, put
from tests.places import ROOT
from tests.registries import Registry

MB: Final = 1_000_000
LATENCY_SECONDS: Final = 0.05
CONNECTION_BYTES: Final = 100 * MB  # a second
_INFLATE: Final = """
import sys, zlib
inflater = zlib.decompressobj(31)
with open(sys.argv[1], "rb") as file:
    while data := file.read(65536):
        while data:
            inflater.decompress(data, 262144)
            data = inflater.unconsumed_tail
"""
_HASH: Final = """
import hashlib, sys
with open(sys.argv[1], "rb") as file:
    hashlib.file_digest(file, "sha256")
"""


class Taken(NamedTuple):
    """What one run took: seconds, and of a pull the peak of its resident memory and what its cache has, in MB."""

    seconds: float
    memory: float = 0.0
    disk: float = 0.0


Run = Callable[[], Taken]


def make_kit(folder: Path, megabytes: int, tag: str, *, gzip: bool = False) -> str:
    """Adds a kit of that size to a layout; returns the digest of its layer. With `gzip` it has numbers."""
    blobs = folder / "blobs/sha256"
    blobs.mkdir(parents=True, exist_ok=True)
    with (folder / "model.bin").open("wb") as file:
        file.writelines(_weights() if gzip else os.urandom(MB) for _ in range(megabytes))
    with tarfile.open(folder / "layer", "w") as archive:
        archive.add(folder / "model.bin", "model.bin")
    (folder / "model.bin").unlink()
    content = _digest(folder / "layer")
    if gzip:
        packer = zlib.compressobj(1, wbits=31)
        with (folder / "layer").open("rb") as tar, (folder / "packed").open("wb") as packed:
            packed.writelines(packer.compress(data) for data in iter(lambda: tar.read(MB), b""))
            packed.write(packer.flush())
        (folder / "packed").rename(folder / "layer")
    digest, size = _digest(folder / "layer"), (folder / "layer").stat().st_size
    (folder / "layer").rename(blobs / digest[7:])
    config = {"manifestVersion": "1.0.0", "model": {"path": "model.bin", "digest": digest, "diffId": content}}
    kind = f"{KIT}.model.v1.tar" + ("+gzip" if gzip else "")
    manifest = {
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": put(folder, json.dumps(config).encode(), f"{KIT}.config.v1+json"),
        "layers": [{"mediaType": kind, "digest": digest, "size": size}],
    }
    named(folder, put(folder, json.dumps(manifest).encode(), str(manifest["mediaType"])), tag)
    return digest


def _weights() -> bytes:
    numbers = [random.gauss(0, 0.02) for _ in range(1000)]
    return b"".join(struct.pack("<1000f", *(number * scale for number in numbers)) for scale in range(1, 251))


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return f"sha256:{hashlib.file_digest(file, 'sha256').hexdigest()}"


def shell(command: str, folder: Path) -> Run:
    """Returns what runs a command in an empty folder."""

    def run() -> Taken:
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        started = time.perf_counter()
        subprocess.run(["bash", "-ec", command], cwd=folder, check=True, stdout=subprocess.DEVNULL)
        return Taken(time.perf_counter() - started)

    return run


def python(script: str, file: Callable[[], Path]) -> Run:
    """Returns what runs a script on a file."""

    def run() -> Taken:
        started = time.perf_counter()
        subprocess.run([sys.executable, "-c", script, file()], check=True)
        return Taken(time.perf_counter() - started)

    return run


def pull(reference: str, cache: Path, *options: str, warm: bool = False) -> Run:
    """Returns what pulls a kit with `runtime pull`."""

    def run() -> Taken:
        if not warm:
            shutil.rmtree(cache, ignore_errors=True)
        started = time.perf_counter()
        command = [sys.executable, "-m", "runtime", "pull", reference, "--cache-dir", str(cache), *options]
        process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        _, status, usage = os.wait4(process.pid, 0)
        assert status == 0, status
        held = sum(path.stat().st_size for path in cache.rglob("*") if path.is_file())
        return Taken(time.perf_counter() - started, usage.ru_maxrss / 1000, held / MB)

    return run


@contextmanager
def slow_proxy(host: str) -> Iterator[str]:
    """Yields the address of a proxy in front of `host`, a process of its own."""
    ours, theirs = multiprocessing.Pipe()
    process = multiprocessing.Process(target=_serve, args=(host, theirs), daemon=True)
    process.start()
    try:
        yield f"127.0.0.1:{ours.recv()}"
    finally:
        process.kill()
        process.join()


def _serve(host: str, pipe: Connection) -> None:
    name, _, port = host.partition(":")

    def forward(source: socket.socket, sink: socket.socket, seconds: float, bytes_a_second: float) -> None:
        buffer, due = memoryview(bytearray(1 << 18)), 0.0
        with suppress(OSError):
            while size := source.recv_into(buffer):
                due = max(due, time.monotonic()) + seconds + size / bytes_a_second
                time.sleep(max(0, due - time.monotonic()))
                sink.sendall(buffer[:size])
            sink.shutdown(socket.SHUT_WR)

    with socket.create_server(("127.0.0.1", 0)) as server:
        pipe.send(server.getsockname()[1])
        while True:
            client, upstream = server.accept()[0], socket.create_connection((name, int(port)))
            for each in ((client, upstream, LATENCY_SECONDS, 1e12), (upstream, client, 0, CONNECTION_BYTES)):
                threading.Thread(target=forward, args=each, daemon=True).start()


def measure(title: str, rounds: int, cases: dict[str, Run]) -> None:
    """Runs all cases in turn, and prints a line for each."""
    taken = [{name: run() for name, run in cases.items()} for _ in range(rounds)]
    least = statistics.median(each[next(iter(cases))].seconds for each in taken)
    print(title)
    for name in cases:
        runs = [each[name] for each in taken]
        seconds, most = statistics.median(run.seconds for run in runs), max(run.memory for run in runs)
        more = f"{most:8.0f} MB of memory{runs[0].disk:8.0f} MB of disk" if most else ""
        print(f"  {name:32}{seconds:7.2f} s{seconds / least:7.2f} x{more}", flush=True)


def main() -> None:
    """Measures the three tables."""
    megabytes, rounds = (int(text) for text in (*sys.argv[1:], *("1000", "3")[len(sys.argv) - 1 :]))
    for package in ("runtime", "adapters"):  # as pip does with what it installs
        compileall.compile_dir(ROOT / package, quiet=1)
    with tempfile.TemporaryDirectory() as text:
        folder = Path(text)
        layout, work, cache = folder / "layout", folder / "work", folder / "cache"
        plain, packed = make_kit(layout, megabytes, "v1"), make_kit(layout, megabytes // 2, "gzip", gzip=True)
        with Registry(folder) as registry:
            reference, gzipped = registry.push(layout, "v1"), registry.push(layout, "gzip")
            packed_file = (layout / "blobs" / packed.replace(":", "/")).rename(folder / "packed")
            shutil.rmtree(layout)
            host, _, name = reference.partition("/")
            address = f"{name.partition(':')[0]}/blobs/{plain}"
            url = f"http://{host}/v2/{address}"
            never = folder / "never"
            cases = {
                "curl | tar": shell(f"curl -s {url} | tar -x", work),
                "curl; sha256sum; tar": shell(f"curl -s {url} -o layer; sha256sum layer; tar -xf layer", work),
                "cold, --keep-blobs never": pull(reference, never, "--keep-blobs", "never"),
                "warm, of that": pull(reference, never, "--keep-blobs", "never", warm=True),
                "cold": pull(reference, cache),
                "warm": pull(reference, cache, warm=True),
                "reading and hashing the file": python(_HASH, lambda: next(cache.glob("kits/*/model.bin"))),
            }
            measure(f"{megabytes} MB of tar", rounds, cases)
            shutil.rmtree(never)
            cases = {
                "inflating alone": python(_INFLATE, lambda: packed_file),
                "cold, --keep-blobs never": pull(gzipped, never, "--keep-blobs", "never"),
                "cold": pull(gzipped, cache),
            }
            measure(f"{megabytes // 2} MB of numbers in gzip", rounds, cases)
            with slow_proxy(host) as proxy:
                cases = {
                    "curl, one connection": shell(f"curl -s http://{proxy}/v2/{address} -o layer", work),
                    "cold, --keep-blobs never": pull(f"{proxy}/{name}", never, "--keep-blobs", "never"),
                }
                measure("the first kit, 50 ms and 100 MB a second for each connection away", rounds, cases)


if __name__ == "__main__":
    main()
