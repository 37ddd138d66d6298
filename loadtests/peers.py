"""Other servers to compare with: one worker each, settings as for production, in an environment of its own.

    python -m loadtests.peers [mlserver kserve litserve bentoml]      makes their environments in build/peers

MLServer and KServe get the same requests as the runtime and answer them in full. LitServe and BentoML have no protocol
of their own: they get the same JSON, and read and answer it as the floor does.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from loadtests.ports import free_port
from loadtests.servers import ROOT, Server, ready, started

if TYPE_CHECKING:
    from loadtests.workloads import Made

_FOLDER: Final = ROOT / "build/peers"
_WHOLE: Final = "whole"
"""A file that is written last."""


@dataclass(frozen=True)
class Peer:
    """How a server is installed and started; `{port}` stands for its port."""

    package: str
    command: str
    """The first word is a program of the environment."""
    path: str = "/v2/models/m/infer"
    variables: dict[str, str] = field(default_factory=dict)


PEERS: Final = {
    "mlserver": Peer(
        "mlserver==1.7.1",
        "mlserver start loadtests/peer_apps/mlserver",
        # parallel workers are for many cores: inline, one process serves a request sooner
        variables={"MLSERVER_PARALLEL_WORKERS": "0", "MLSERVER_HTTP_PORT": "{port}", "MLSERVER_GRPC_PORT": "{grpc}",
                   "MLSERVER_METRICS_PORT": "{metrics}", "MLSERVER_DEBUG": "false"},
    ),
    "kserve": Peer(
        "kserve==0.21.0", "python -m loadtests.peer_apps.with_kserve --http_port {port} --enable_grpc false"
    ),
    "litserve": Peer("litserve==0.2.19", "python -m loadtests.peer_apps.with_litserve {port}", "/predict"),
    "bentoml": Peer("bentoml==1.4.40", "bentoml serve loadtests.peer_apps.with_bentoml:Model --port {port}", "/infer",
                    {"BENTOML_DO_NOT_TRACK": "True"}),
}  # fmt: skip


def installed(name: str) -> bool:
    """Whether the environment of a peer is there as a whole."""
    return (_FOLDER / name / _WHOLE).exists()


@contextmanager
def running(name: str, made: Made, core: int) -> Iterator[Server]:
    """A peer with the model of a workload."""
    peer, port = PEERS[name], free_port()
    words = {"port": str(port), "grpc": str(free_port()), "metrics": str(free_port())}
    program, *rest = peer.command.format(**words).split()
    variables = {name: value.format(**words) for name, value in peer.variables.items()}
    programs = _FOLDER / name / "bin"
    variables["PATH"] = f"{programs}:{os.environ['PATH']}"
    command = [str(programs / program), *rest]
    with started(command, core=core, MODEL=str(made.model), PYTHONPATH=str(ROOT), **variables) as process:
        yield Server(name, port, ready(port, peer.path, made.bodies[0], made.headers), process)


def make(name: str) -> None:
    """Makes the environment of a peer, unless it is there."""
    if installed(name):
        return
    print(f"Making the environment of {name}: a few minutes, once.", flush=True)
    folder = _FOLDER / name
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", "--clear", str(folder)], check=True)
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--python", str(folder / "bin/python")]
    packages = [PEERS[name].package, "onnxruntime", "orjson"]
    subprocess.run([*pip, "install", "--quiet", "--quiet", *packages], check=True)
    (folder / _WHOLE).touch()


if __name__ == "__main__":
    for each in sys.argv[1:] or PEERS:
        make(each)
