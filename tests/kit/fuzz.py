"""What readers of kits do with any bytes: they give a value or a Failure, in memory that is bounded.

`test_fuzz.py` runs these targets with hypothesis; `make fuzz` with atheris, which looks for new paths through the code.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from runtime.kit.format.paths import Parts

ROOT = Path(__file__).resolve().parents[2]
KITS = ROOT / "tests/kits"


class Target(NamedTuple):
    """One reader, and files of what it reads."""

    read: Callable[[bytes], object]
    seeds: tuple[bytes, ...]


class SafeTree:
    """Takes the members of an archive, and writes nothing."""

    def folder(self, parts: Parts) -> bool:
        assert not {"", ".", ".."} & set(parts)
        assert not any("/" in part or "\0" in part for part in parts)
        return True

    def file(self, parts: Parts, size: int | None, chunks: Iterator[bytes]) -> bool:
        seen = sum(map(len, chunks))
        assert size in (None, seen)
        return self.folder(parts)


def targets() -> dict[str, Target]:
    """All of them. What they read with is imported here, so that atheris can instrument it."""
    from runtime.errors import Failure
    from runtime.kit.disk.layout import _index_members
    from runtime.kit.format.digest import Digest
    from runtime.kit.format.index import selected
    from runtime.kit.format.kitfile import Entry, Kitfile
    from runtime.kit.format.limits import UnpackLimits
    from runtime.kit.format.manifest import Descriptor, Layer, Manifest
    from runtime.kit.format.placing import Placed
    from runtime.kit.format.reference import Reference
    from runtime.kit.signature.signed import Signed
    from runtime.kit.unpack.walk import Walk
    from tests.kit.archives import python_tar, with_checksums

    limits, digest = UnpackLimits(), Digest.of(b"")

    def refused_or(read: Callable[[bytes], object]) -> Callable[[bytes], object]:
        def one(data: bytes) -> None:
            with suppress(Failure):
                read(data)

        return one

    def reference(data: bytes) -> None:
        found = Reference.parse(data.decode(errors="replace"))
        assert Reference.parse(str(found), model_name=found.name) == found

    def kitfile(data: bytes) -> None:
        with suppress(Failure):
            Kitfile.parse_json(data)
        Kitfile.parse_yaml(data.decode(errors="replace"))

    def manifest(data: bytes) -> None:
        selected(data, "an index", ())
        Manifest.parse(data, expected=None)

    def archive(data: bytes) -> None:
        mended = with_checksums(data)
        with suppress(Failure):
            _index_members(BytesIO(mended), "an archive")
        for compression in ("", "gzip"):
            layer = Layer(Descriptor("", digest, len(data), {}), "model", "tar", compression, prompt=False)
            placed = Placed(Entry("."), "model", layer)
            with suppress(Failure):
                Walk(limits, lambda: None).layer(SafeTree(), placed, BytesIO(mended if not compression else data).read)

    def signature(data: bytes) -> None:
        for form in ("cosign", "dsse"):
            with suppress(Failure):
                Signed(form, data, b"").claims(digest)  # type: ignore[arg-type]  # both are
        Signed.of_kept(data)
        Signed.of_bundle(data)

    blobs = [path.read_bytes() for path in sorted((KITS / "iris-onnx/blobs/sha256").iterdir())]
    documents = tuple(blob for blob in blobs if blob.startswith(b"{"))
    tars = (python_tar({"a": None, "a/b": b"b" * 600, "é" * 60: b"", "c/d": b"1"}),)
    gzipped = tuple(blob for blob in blobs if blob.startswith(b"\x1f\x8b") and len(blob) < 10_000)
    signatures = [path.read_bytes() for path in sorted((KITS / "signed/blobs/sha256").iterdir())]
    references = (b"kit://n=h.x:5000/a/b:t@sha256:", b"oci:folder:tag", b"local://x", b"./folder")
    return {
        "reference": Target(refused_or(reference), references),
        "manifest": Target(refused_or(manifest), documents),
        "kitfile": Target(refused_or(kitfile), (*documents, (ROOT / "examples/Kitfile").read_bytes())),
        "archive": Target(archive, tars + gzipped),
        "signature": Target(refused_or(signature), tuple(each for each in signatures if b'"' in each)),
    }


def main(arguments: list[str]) -> int:
    """Runs each target in a process of its own; with a name, that target here."""
    if not arguments:
        seconds = round(float(os.environ.get("MINUTES", "5")) * 60)
        command = [sys.executable, "-m", "tests.kit.fuzz"]
        codes = [
            subprocess.run([*command, name, f"-max_total_time={seconds}"], cwd=ROOT, check=False).returncode
            for name in targets()
        ]
        return max(codes, key=abs)
    import atheris  # not for hypothesis

    with atheris.instrument_imports(include=["runtime"]):
        target = targets()[arguments[0]]
    corpus = ROOT / "build/fuzz-corpus" / arguments[0]
    corpus.mkdir(parents=True, exist_ok=True)
    for number, seed in enumerate(target.seeds):
        (corpus / f"seed-{number}").write_bytes(seed)
    atheris.Setup([arguments[0], "-print_final_stats=1", *arguments[1:], str(corpus)], target.read)
    atheris.Fuzz()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
