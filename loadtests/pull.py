"""How fast a kit comes: from a docker-registry on loopback to a verified tree, against `curl | tar`, ratios of one run.

    python -m loadtests.pull [MEGABYTES [ROUNDS]]

The kit has one layer, an uncompressed tar of random bytes. `curl | tar` verifies nothing; `curl`, `sha256sum` and `tar`
one after another is what a script would do. Needs docker-registry, skopeo and curl.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import statistics
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

from tests.kit.made import KIT, named, put
from tests.places import ROOT
from tests.registries import Registry

MB: Final = 1_000_000


def make_kit(folder: Path, megabytes: int) -> tuple[Path, str]:
    """Returns a layout with a kit of that size, and the digest of its layer."""
    blobs = folder / "blobs/sha256"
    blobs.mkdir(parents=True)
    with (folder / "model.bin").open("wb") as file:
        file.writelines(os.urandom(MB) for _ in range(megabytes))
    with tarfile.open(folder / "layer", "w") as archive:
        archive.add(folder / "model.bin", "model.bin")
    (folder / "model.bin").unlink()
    with (folder / "layer").open("rb") as file:
        hexadecimal = hashlib.file_digest(file, "sha256").hexdigest()
    (folder / "layer").rename(blobs / hexadecimal)
    digest, size = f"sha256:{hexadecimal}", (blobs / hexadecimal).stat().st_size
    config = {"manifestVersion": "1.0.0", "model": {"path": "model.bin", "digest": digest}}
    manifest = {
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": put(folder, json.dumps(config).encode(), f"{KIT}.config.v1+json"),
        "layers": [{"mediaType": f"{KIT}.model.v1.tar", "digest": digest, "size": size}],
    }
    named(folder, put(folder, json.dumps(manifest).encode(), str(manifest["mediaType"])), "v1")
    return folder, digest


def shell(command: str, folder: Path) -> Callable[[], tuple[float, float]]:
    """Returns what runs a command in an empty folder: seconds, and 0 for its memory, which nobody asks for."""

    def run() -> tuple[float, float]:
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        started = time.perf_counter()
        subprocess.run(["bash", "-ec", command], cwd=folder, check=True, stdout=subprocess.DEVNULL)
        return time.perf_counter() - started, 0.0

    return run


def pull(reference: str, cache: Path, *options: str, warm: bool = False) -> Callable[[], tuple[float, float]]:
    """Returns what pulls a kit with `runtime pull`: seconds, and the peak of its resident memory in MB."""

    def run() -> tuple[float, float]:
        if not warm:
            shutil.rmtree(cache, ignore_errors=True)
        started = time.perf_counter()
        command = [sys.executable, "-m", "runtime", "pull", reference, "--cache-dir", str(cache), *options]
        process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        _, status, usage = os.wait4(process.pid, 0)
        assert status == 0, status
        return time.perf_counter() - started, usage.ru_maxrss / 1000

    return run


def main() -> None:
    """Measures, and prints a line for each."""
    megabytes, rounds = (int(text) for text in (*sys.argv[1:], *("1000", "3")[len(sys.argv) - 1 :]))
    with tempfile.TemporaryDirectory() as text:
        folder = Path(text)
        layout, digest = make_kit(folder / "layout", megabytes)
        with Registry(folder) as registry:
            reference, work = registry.push(layout, "v1"), folder / "work"
            shutil.rmtree(layout)
            host, _, name = reference.partition("/")
            url = f"http://{host}/v2/{name.partition(':')[0]}/blobs/{digest}"
            three = f"curl -s {url} -o layer; sha256sum layer; tar -xf layer"
            cases = {
                "curl | tar (verifies nothing)": shell(f"curl -s {url} | tar -x", work),
                "curl; sha256sum; tar": shell(three, work),
                "cold, --keep-blobs never": pull(reference, folder / "never", "--keep-blobs", "never"),
                "warm, of that": pull(reference, folder / "never", "--keep-blobs", "never", warm=True),
                "cold": pull(reference, folder / "cache"),
                "warm": pull(reference, folder / "cache", warm=True),
                "sha256sum of a warm file": shell("sha256sum ../cache/kits/*/model.bin", work),
            }
            taken = [{name: run() for name, run in cases.items()} for _ in range(rounds)]
    least = statistics.median(round_["curl | tar (verifies nothing)"][0] for round_ in taken)
    for name in cases:
        seconds = statistics.median(round_[name][0] for round_ in taken)
        memory = max(round_[name][1] for round_ in taken)
        print(f"{name:32}{seconds:7.2f} s{seconds / least:7.2f} x" + (f"{memory:8.0f} MB at most" if memory else ""))


if __name__ == "__main__":
    main()
