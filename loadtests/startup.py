"""Start and memory: the runtime against the bare script, both started and asked in turn, medians and ratios of one run.

    python loadtests/startup.py [ROUNDS [IMAGE]]

Time: process start → first prediction, of a small kit from an OCI layout and from the cache
(pinned digest, no registry there). Other programs make it longer by any amount: as root, `chrt --rr 1` in front of the
command has them wait. The processor time of all processes until then changes less, and counts where there is one core.
Memory: resident, after that prediction; the supervisor also after a pull from a real docker-registry.
With IMAGE, the same kit in a container too (podman, or what ENGINE names), from `run` to the first prediction.
"""

from __future__ import annotations

import compileall
import contextlib
import http.client
import json
import os
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from loadtests.ports import free_port

ROOT: Final = Path(__file__).parent.parent
LAYOUT: Final = ROOT / "examples/iris-onnx"
REQUEST: Final = json.dumps(
    {"inputs": [{"name": "X", "datatype": "FP32", "shape": [1, 4], "data": [5.1, 3.5, 1.4, 0.2]}]}
)
PATIENCE_SECONDS: Final = 60.0
MB: Final = 1_000_000


@dataclass
class Case:
    """One way to start, and what its rounds took."""

    name: str
    command: list[str]
    seconds: list[float] = field(default_factory=list)
    processor_seconds: list[float] = field(default_factory=list)
    parent_mb: list[float] = field(default_factory=list)
    child_mb: list[float] = field(default_factory=list)

    def run(self, port: int) -> None:
        """Starts it, waits for the first prediction, notes time and memory, stops it."""
        started = time.perf_counter()
        process = subprocess.Popen([*self.command, str(port)], cwd=ROOT, stderr=subprocess.DEVNULL)
        try:
            first_prediction(process, port)
            self.seconds.append(time.perf_counter() - started)
            workers = children(process.pid)
            self.processor_seconds.append(sum(map(processor_seconds, (process.pid, *workers))))
            self.parent_mb.append(resident_mb(process.pid))
            self.child_mb.extend(map(resident_mb, workers))
        finally:
            process.send_signal(signal.SIGINT)
            process.wait(PATIENCE_SECONDS)


def first_prediction(process: subprocess.Popen[bytes], port: int) -> None:
    """Asks until the model answers."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while time.monotonic() < deadline and process.poll() is None:
        with contextlib.suppress(OSError, http.client.HTTPException):
            connection = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE_SECONDS)
            with contextlib.closing(connection):
                connection.request("POST", "/v2/models/iris-onnx/infer", REQUEST)
                if connection.getresponse().status == 200:
                    return
        time.sleep(0.003)
    raise SystemExit(f"no prediction on port {port}: {' '.join(map(str, process.args))}")  # type: ignore[arg-type]  # ours is a list


def processor_seconds(pid: int) -> float:
    """Processor time that a process has taken, threads that have ended included: clock_getcpuclockid(3)."""
    return time.clock_gettime(~pid << 3 | 2)


def resident_mb(pid: int) -> float:
    """Resident memory in MB, as the kernel counts it (shared libraries included)."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 / MB for line in lines if line.startswith("VmRSS:"))


def children(pid: int) -> list[int]:
    """The process ids of the workers."""
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


@contextlib.contextmanager
def registry(folder: Path) -> Iterator[str]:
    """A docker-registry with the example kit in it; gives the kit's reference."""
    port = free_port()
    configuration = [
        "version: 0.1",
        "log: {level: error, accesslog: {disabled: true}}",
        f"storage: {{filesystem: {{rootdirectory: {folder}/storage}}}}",
        f"http: {{addr: '127.0.0.1:{port}'}}",
    ]
    (folder / "registry.yml").write_text("\n".join(configuration))
    process = subprocess.Popen(["docker-registry", "serve", folder / "registry.yml"], stderr=subprocess.DEVNULL)
    try:
        wait_for(port)
        kit = f"127.0.0.1:{port}/kits/iris-onnx:v1"
        copy = ["skopeo", "--insecure-policy", "copy", "--quiet", "--preserve-digests", "--dest-tls-verify=false"]
        subprocess.run([*copy, f"oci:{LAYOUT}:v1", f"docker://{kit}"], check=True)
        yield kit
    finally:
        process.terminate()
        process.wait(PATIENCE_SECONDS)


def wait_for(port: int) -> None:
    """Returns as soon as something listens."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while time.monotonic() < deadline:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port)):
            return
        time.sleep(0.01)
    raise SystemExit(f"nothing listens on port {port}")


def model_file(folder: Path) -> Path:
    """The example kit's ONNX file, taken out of its layer for the bare script."""
    for blob in (LAYOUT / "blobs/sha256").iterdir():
        with contextlib.suppress(tarfile.ReadError), tarfile.open(blob) as layer:
            for member in layer:
                if member.name.endswith(".onnx") and (content := layer.extractfile(member)):
                    (folder / "iris.onnx").write_bytes(content.read())
                    return folder / "iris.onnx"
    raise SystemExit(f"no ONNX file in {LAYOUT}")


def runtime(reference: str, cache: Path) -> list[str]:
    """The command line of a server; the port follows."""
    return [sys.executable, "-m", "runtime", "--kit", reference, "--cache-dir", str(cache), "--port"]


def after_a_pull(reference: str, folder: Path) -> Case:
    """Serves from the registry with an empty cache, three times."""
    case = Case("after a pull", [])
    for number in range(3):
        case.command = runtime(reference, folder / f"empty-{number}")
        case.run(free_port())
    return case


def container(image: str) -> Case:
    """The image on the host's network, with the same layout."""
    options = ["run", "--rm", "--network=host", "--read-only", "--tmpfs=/tmp", f"--volume={LAYOUT}:/kit:ro"]
    kit = ["--kit", "iris-onnx=oci:/kit:v1", "--port"]
    return Case("container", [os.environ.get("ENGINE", "podman"), *options, image, *kit])


def main(rounds: int, images: list[str]) -> None:
    """Runs everything and prints the ratios."""
    os.environ["PYTHONPATH"] = str(ROOT)
    for package in ("runtime", "adapters"):  # as they are where they are installed
        compileall.compile_dir(ROOT / package, quiet=1)
    folder = Path(tempfile.mkdtemp(prefix="startup-"))
    try:
        bare = Case("bare script", [sys.executable, str(ROOT / "loadtests/bare.py"), str(model_file(folder))])
        layout = Case("OCI layout", runtime(f"oci:{LAYOUT}:v1", folder / "cache"))
        with registry(folder) as kit:
            pulled = after_a_pull(kit, folder)
            digest = subprocess.check_output(
                [*runtime(kit, folder / "cache")[:3], "pull", kit, "--cache-dir", folder / "cache"], text=True
            )
            cached = Case("cached pinned digest", runtime(f"{kit}@{digest.strip()}", folder / "cache"))
        containers = [container(image) for image in images]
        for _ in range(rounds):
            for case in (bare, layout, cached, *containers):
                case.run(free_port())
    finally:
        shutil.rmtree(folder)
    report(bare, layout, cached, pulled)
    for case in containers:
        extra = statistics.median(case.seconds) - statistics.median(layout.seconds)
        print(f"{case.name}: {extra:+.3f} s against the same outside  (wanted: at most 0.5 more)")


def report(bare: Case, layout: Case, cached: Case, pulled: Case) -> None:
    """Prints medians, and ratios to the bare script."""
    median = statistics.median
    print(f"process start to first prediction, medians of {len(bare.seconds)} rounds; processor time until then")
    print(f"  {bare.name:24}{median(bare.seconds):6.3f} s{median(bare.processor_seconds):43.3f} s")
    for case in (layout, cached):
        seconds, ratio = median(case.seconds), median(case.seconds) / median(bare.seconds)
        wanted = f"{ratio:5.2f}x  (wanted: at most 1.2x)"
        print(f"  {case.name:24}{seconds:6.3f} s  {wanted}{median(case.processor_seconds):10.3f} s")
    print("resident memory")
    print(f"  {'supervisor, cached kit':24}{median(cached.parent_mb):6.1f} MB         (wanted: under 30)")
    print(f"  {'supervisor, after a pull':24}{median(pulled.parent_mb):6.1f} MB         (wanted: under 48)")
    print(f"  {bare.name:24}{median(bare.parent_mb):6.1f} MB")
    worker = median(cached.child_mb)
    print(f"  {'worker':24}{worker:6.1f} MB  {worker / median(bare.parent_mb):5.2f}x  (wanted: at most 1.2x)")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 15, sys.argv[2:])
