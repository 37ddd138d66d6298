"""Container engines for tests: podman without a daemon, and a real dockerd, each with a store of its own."""

from __future__ import annotations

import contextlib
import json
import os
import resource
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import httpx

from tests.places import ROOT

BASE = "python:3.11-slim"
"""What the Dockerfile builds on. Here it is made of Debian's packages, under the same name: no image can be pulled."""
EPOCH = "1700000000"
HARDENED = (
    "--network=host",
    "--read-only",
    "--tmpfs=/tmp:rw,noexec,nosuid,size=64m,mode=1777",
    "--cap-drop=ALL",
    "--security-opt=no-new-privileges",
    "--pids-limit=128",
    "--cpus=1",
)
PATIENCE_SECONDS = 60.0
_SYSTEMD = "unable to get systemd connection"


class Engine:
    """A command line that speaks Docker's language."""

    def __init__(self, program: str, environ: dict[str, str]) -> None:
        self.program, self.environ = program, {**os.environ, **environ}

    def __call__(self, *arguments: str | Path, check: bool = True, seconds: float = 600) -> str:
        """Runs one command; gives what it printed. A failing one fails the test with what it complained about."""
        done = self.finished(*arguments, seconds=seconds)
        assert not check or done.returncode == 0, f"{self.program} {' '.join(map(str, arguments))}: {done.stderr}"
        return done.stdout

    def finished(self, *arguments: str | Path, seconds: float = 600) -> subprocess.CompletedProcess[str]:
        """Runs one command to its end."""
        return subprocess.run(
            [self.program, *arguments],
            env=self.environ,
            capture_output=True,
            text=True,
            timeout=seconds,
            cwd=ROOT
            if arguments[0] == "build"
            else tempfile.gettempdir(),  # conmon leaves a file `oom` where it stands
            check=False,
        )

    def inspect(self, name: str) -> dict[str, Any]:
        """What the engine knows of an image or container."""
        (found,) = json.loads(self("inspect", name))
        return dict(found)

    def layers(self, image: str) -> list[str]:
        """The digests of the uncompressed layers."""
        return list(self.inspect(image)["RootFS"]["Layers"])


def build_arguments(*, fresh: bool = False) -> list[str]:
    """What a build here needs beside the Dockerfile: no pull, the certificates of this machine."""
    arguments = ["--isolation=chroot", "--network=host", "--pull=never", "--format=docker", f"--timestamp={EPOCH}"]
    return arguments + certificates() + (["--no-cache"] if fresh else [])


def certificates() -> list[str]:
    """The secret with this machine's certificate authorities, if the environment names some."""
    file = os.environ.get("SSL_CERT_FILE")
    return [f"--secret=id=cacert,src={file}"] if file else []


class Container:
    """A running container, gone at the end. `arguments` follow the image, `options` stand before it."""

    def __init__(self, engine: Engine, image: str, arguments: Sequence[str], options: Sequence[str] = HARDENED) -> None:
        self.engine = engine
        self.id = engine("run", "--detach", *options, image, *arguments).strip()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.engine("rm", "--force", self.id, check=False)

    def exec(self, *command: str) -> str:
        """Runs a command inside."""
        return self.engine("exec", self.id, *command)

    def logs(self) -> str:
        """All it said."""
        done = self.engine.finished("logs", self.id)
        return done.stdout + "\n".join(line for line in done.stderr.splitlines() if _SYSTEMD not in line)

    def wait(self) -> int:
        """Waits for its end; gives the exit code."""
        return int(self.engine("wait", self.id, seconds=PATIENCE_SECONDS))

    def ready(self, port: int) -> httpx.Client:
        """Waits until the server on `port` is ready; gives a client of it."""
        address = f"http://127.0.0.1:{port}"
        deadline = time.monotonic() + PATIENCE_SECONDS
        while time.monotonic() < deadline:
            with contextlib.suppress(httpx.TransportError):  # a container's port tells nobody when it opens
                if httpx.get(f"{address}/v2/health/ready").status_code == 200:
                    return httpx.Client(base_url=address, timeout=PATIENCE_SECONDS)
            time.sleep(0.02)
        raise AssertionError(f"never ready:\n{self.logs()}")


def podman(folder: Path) -> Engine:
    """A podman with its store in `folder`, for root without systemd."""
    files, processes = (
        min(resource.getrlimit(limit)[1], most)
        for limit, most in ((resource.RLIMIT_NOFILE, 20_000), (resource.RLIMIT_NPROC, 8_192))
    )
    (folder / "containers.conf").write_text(
        f'[containers]\ndefault_ulimits = ["nofile={files}:{files}", "nproc={processes}:{processes}"]\n'
        f'[engine]\nruntime = "runc"\ncgroup_manager = "cgroupfs"\nevents_logger = "file"\n'
        f'tmp_dir = "{folder}/libpod"\n'
    )
    (folder / "storage.conf").write_text(
        f'[storage]\ndriver = "overlay"\ngraphroot = "{folder}/store"\nrunroot = "{folder}/run"\n'
    )
    environ = {
        "CONTAINERS_CONF": f"{folder}/containers.conf",
        "CONTAINERS_STORAGE_CONF": f"{folder}/storage.conf",
        "TMPDIR": str(folder),
    }
    return Engine("podman", environ)


def base_archive(folder: Path) -> Path:
    """The file system of the base image as a tar archive, made once."""
    archive = folder / "base.tar"
    if not archive.exists():
        making = folder / "base.tar.part"
        paths = [f"--dpkgopt=path-exclude=/usr/share/{name}/*" for name in ("man", "doc", "locale")]
        command = [
            "mmdebstrap",
            "--quiet",
            "--variant=minbase",
            "--include=python3,python3-venv,ca-certificates",
            "--dpkgopt=force-unsafe-io",
            *paths,
            "--format=tar",
            "bookworm",
            making,
        ]
        scratch = Path("/dev/shm") if shutil.disk_usage("/dev/shm").free > 2 * 2**30 else folder
        done = subprocess.run(
            command, env={**os.environ, "TMPDIR": str(scratch)}, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr
        making.rename(archive)
    return archive


@contextlib.contextmanager
def dockerd(folder: Path) -> Iterator[Engine]:
    """A Docker daemon that leaves the machine's network alone, and the client that matches it."""
    socket = folder / "socket"
    command = [
        "dockerd",
        f"--data-root={folder}/data",
        f"--exec-root={folder}/exec",
        f"--pidfile={folder}/pid",
        f"--host=unix://{socket}",
        "--storage-driver=overlay2",
        "--iptables=false",
        "--ip6tables=false",
        "--bridge=none",
    ]
    with (folder / "log").open("w") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log)
    engine = Engine("/usr/bin/docker", {"DOCKER_HOST": f"unix://{socket}", "DOCKER_BUILDKIT": "1"})
    try:
        deadline = time.monotonic() + PATIENCE_SECONDS
        while engine.finished("version").returncode and time.monotonic() < deadline and process.poll() is None:
            time.sleep(0.1)
        assert engine.finished("version").returncode == 0, (folder / "log").read_text()[-3000:]
        yield engine
    finally:
        process.terminate()
        process.wait(PATIENCE_SECONDS)
        subprocess.run(["umount", f"{folder}/exec/netns/default"], capture_output=True, check=False)
