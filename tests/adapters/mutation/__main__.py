"""Tries mutated files: forked children load and predict, the parent counts what ends them."""

from __future__ import annotations

import argparse
import mmap
import os
import pickle
import resource
import signal
import struct
import sys
import time
import traceback
import warnings
from importlib import import_module
from pathlib import Path
from random import Random
from tempfile import NamedTemporaryFile, TemporaryDirectory
from typing import Any, NamedTuple

import numpy as np

from adapters import load
from adapters.base import AdapterError, Model, Options, WrongInput
from adapters.values import DTYPES
from tests.adapters.kits import files_in
from tests.adapters.mutation.formats import FORMATS, Format

CHUNK = 100
SLOW = 20.0
"""Seconds for one file."""
MEMORY = 8 << 30


class Result(NamedTuple):
    tried: int
    refused: int
    served: int
    ended: dict[str, str]
    """What a file was made of -> the signal that ended its process."""


def mutated(name: str, seed: int, number: int, whole: dict[str, bytes]) -> tuple[str, bytes]:
    rng = Random(f"{name} {seed} {number}")
    chosen = list(whole)[number % len(whole)]
    return chosen, rng.choice(FORMATS[name].mutators)(whole[chosen], rng)


def rows(model: Model, rng: Random) -> dict[str, Any]:
    made = {}
    for spec in model.inputs:
        shape = [2 if d == -1 else d for d in spec.shape]
        if int(np.prod(shape)) > 1 << 22:
            raise MemoryError
        draw = np.random.default_rng(rng.randrange(1 << 30))
        if spec.datatype == "BYTES":
            array = np.empty(shape, object)
            array.ravel()[:] = [rng.choice((b"red", b"words of text", b"")) for _ in range(array.size)]
        elif spec.datatype.startswith("FP"):
            array = (draw.normal(size=shape) * rng.choice((1, 1, 3, 1e6))).astype(DTYPES[spec.datatype])
        else:
            array = draw.integers(0, 4, size=shape).astype(DTYPES[spec.datatype])
        made[spec.name] = array
    return made


def attempt(files: Path, form: Format, rng: Random) -> bool:
    """Loads and predicts once; True if it was answered."""
    try:
        _, model = load(files_in(files, form.path), Options(trust=form.trust, threads=1, confined=True, inputs=form.inputs), framework=None, format=None, warn=lambda _: None)
        for _ in range(2):
            model.predict(rows(model, rng), tuple(spec.name for spec in model.outputs))
    except (AdapterError, WrongInput, MemoryError):
        return False
    except Exception as error:
        if os.environ.get("SHOW"):
            traceback.print_exc()
        return False
    return True


def child(name: str, seed: int, numbers: range, whole: dict[str, bytes], folder: Path, seen: mmap.mmap) -> None:
    silent = os.open(os.devnull, os.O_RDWR)
    if not os.environ.get("SHOW"):
        os.dup2(silent, 1)
        os.dup2(silent, 2)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    warnings.simplefilter("ignore")
    form = FORMATS[name]
    for number in numbers:
        seen[:24] = struct.pack("<qqq", number, *struct.unpack("<qq", seen[8:24]))
        try:
            _, data = mutated(name, seed, number, whole)
        except Exception:  # noqa: BLE001 - a mutation that is none
            continue
        (folder / form.path).write_bytes(data)
        signal.setitimer(signal.ITIMER_PROF, SLOW)
        ok = attempt(folder, form, Random(number))
        signal.setitimer(signal.ITIMER_PROF, 0)
        _, refused, served = struct.unpack("<qqq", seen[:24])
        seen[8:24] = struct.pack("<qq", refused + (not ok), served + ok)
    seen[:8] = struct.pack("<q", numbers.stop)


def whole_files(name: str) -> dict[str, bytes]:
    """Returns the format's files, made in a child: threads that training leaves behind would not survive a fork."""
    with NamedTemporaryFile() as made:
        if (pid := os.fork()) == 0:
            try:
                warnings.simplefilter("ignore")
                Path(made.name).write_bytes(pickle.dumps(FORMATS[name].files()))
                os._exit(0)
            except BaseException:
                traceback.print_exc()
                os._exit(1)
        _, status = os.waitpid(pid, 0)
        assert status == 0, f"{name}: its files could not be made"
        found: dict[str, bytes] = pickle.loads(Path(made.name).read_bytes())
        return found


def trial(name: str, count: int, seed: int, start: int = 0) -> Result:
    whole = whole_files(name)
    import_module(FORMATS[name].framework)  # once, and not in each child
    ended: dict[str, str] = {}
    seen = mmap.mmap(-1, 24)
    number, end = start, start + count
    with TemporaryDirectory() as folder:
        while number < end:
            pid = os.fork()
            if pid == 0:
                try:
                    child(name, seed, range(number, min(end, number + CHUNK)), whole, Path(folder), seen)
                    os._exit(0)
                except BaseException as error:  # noqa: BLE001
                    print(error, file=sys.__stderr__)
                    os._exit(9)
            _, status = os.waitpid(pid, 0)
            (number,) = struct.unpack("<q", seen[:8])
            if os.WIFSIGNALED(status):
                ended[f"{name} {number} {mutated(name, seed, number, whole)[0]}"] = signal.Signals(os.WTERMSIG(status)).name
                number += 1
            elif os.WEXITSTATUS(status):
                ended[f"{name} {number} {mutated(name, seed, number, whole)[0]}"] = f"exit {os.WEXITSTATUS(status)}"
                number += 1
    _, refused, served = struct.unpack("<qqq", seen[:24])
    return Result(count, refused, served, ended)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--only")
    parser.add_argument("--count", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--start", type=int, default=0)
    parser.add_argument("--keep", type=Path)
    told = parser.parse_args()
    for name in [told.only] if told.only else FORMATS:
        began = time.monotonic()
        found = trial(name, told.count, told.seed, told.start)
        print(f"{name}: {found.tried} tried, {found.refused} refused, {found.served} served, {len(found.ended)} ended, {time.monotonic() - began:.0f} s", flush=True)
        for what, how in found.ended.items():
            print("   ", what, how, flush=True)
        if told.keep:
            whole = whole_files(name)
            for what in found.ended:
                i = int(what.split()[1])
                (told.keep / f"{name}-{i}-{FORMATS[name].path}").write_bytes(mutated(name, told.seed, i, whole)[1])


if __name__ == "__main__":
    main()
