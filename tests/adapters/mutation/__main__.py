"""Tries mutated files: forked children load them and predict, the parent counts what ends a child."""

from __future__ import annotations

import argparse
import mmap
import os
import pickle
import resource
import signal
import sys
import time
import traceback
import warnings
from collections.abc import Callable, Collection
from contextlib import suppress
from importlib import import_module
from math import prod
from pathlib import Path
from random import Random
from tempfile import NamedTemporaryFile, TemporaryDirectory
from typing import Any, Final

import numpy as np

from adapters import load
from adapters.base import Model, Options
from adapters.values import DTYPES
from tests.adapters.kits import files_in
from tests.adapters.mutation.formats import FORMATS, Format

CHUNK: Final = 200
CPU_SECONDS: Final = 10.0
"""What one file may take. A server ends longer loads and predictions by their deadlines."""
MEMORY: Final = 8 << 30
TRIED, SERVED = range(2)


def mutated(name: str, seed: int, number: int, whole: dict[str, bytes]) -> tuple[str, bytes]:
    """Returns which whole file was taken, and what was made of it."""
    rng, chosen = Random(f"{name} {seed} {number}"), list(whole)[number % len(whole)]
    return chosen, rng.choice(FORMATS[name].mutators)(whole[chosen], rng)


def rows(model: Model, rng: Random) -> dict[str, Any]:
    draw, made = np.random.default_rng(rng.randrange(1 << 30)), {}
    for spec in model.inputs:
        shape = [2 if size == -1 else size for size in spec.shape]
        if prod(shape) > 1 << 22:
            raise MemoryError
        if spec.datatype == "BYTES":
            array: Any = draw.choice(np.array([b"red", b"some words of text", b""], object), shape)
        elif spec.datatype.startswith("FP"):
            array = draw.normal(scale=rng.choice((1, 3, 1e6)), size=shape)
        else:
            array = draw.integers(0, 4, size=shape)
        made[spec.name] = array.astype(DTYPES[spec.datatype])
    return made


def answers(folder: Path, form: Format, rng: Random) -> bool:
    """Loads the file and predicts; False if any step says that it cannot."""
    options = Options(trust=form.trust, threads=1, confined=True, inputs=form.inputs)
    try:
        _, model = load(files_in(folder, form.path), options, framework=None, format=None, warn=lambda _: None)
        for _ in range(2):
            model.predict(rows(model, rng), tuple(spec.name for spec in model.outputs))
    except Exception:  # noqa: BLE001 - whatever it says, it says it
        return False
    return True


def in_child(work: Callable[[], None]) -> int:
    """Returns the wait status of a child that has done `work`."""
    if (pid := os.fork()) == 0:
        try:
            warnings.simplefilter("ignore")
            work()
            os._exit(0)
        except BaseException:  # noqa: BLE001 - nothing may get back into the parent's code
            traceback.print_exc()
            os._exit(1)
    return os.waitpid(pid, 0)[1]


def whole_files(names: Collection[str]) -> dict[str, dict[str, bytes]]:
    """Returns each format's files, made in a child: threads that training leaves behind do not survive a fork."""
    for name in names:
        import_module(FORMATS[name].framework)  # once, and not in each child
    with NamedTemporaryFile() as made:
        path = Path(made.name)
        assert in_child(lambda: path.write_bytes(pickle.dumps({n: FORMATS[n].files() for n in names})) and None) == 0
        found: dict[str, dict[str, bytes]] = pickle.loads(path.read_bytes())
    return found


def try_files(name: str, seed: int, end: int, whole: dict[str, bytes], folder: Path, counts: Any) -> None:
    """Tries the next files, in this process. `counts` is memory that the parent sees."""
    silent = os.open(os.devnull, os.O_RDWR)
    os.dup2(silent, 1)
    os.dup2(silent, 2)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    form = FORMATS[name]
    for number in range(counts[TRIED], min(end, counts[TRIED] + CHUNK)):
        with suppress(ValueError, IndexError, TypeError, OverflowError):  # a mutation that cannot be written down
            (folder / form.path).write_bytes(mutated(name, seed, number, whole)[1])
        signal.setitimer(signal.ITIMER_PROF, CPU_SECONDS)
        served = answers(folder, form, Random(number))
        signal.setitimer(signal.ITIMER_PROF, 0)
        counts[SERVED] += served
        counts[TRIED] += 1


def trial(
    name: str, whole: dict[str, bytes], count: int, seed: int, keep: Path | None = None
) -> tuple[int, int, dict[str, str]]:
    """Returns how many files were served, how many took too long, and what ended a process: file -> signal."""
    slow, ended, counts = 0, {}, memoryview(mmap.mmap(-1, 16)).cast("q")
    with TemporaryDirectory() as made:
        folder = Path(made)
        while counts[TRIED] < count:
            if status := in_child(lambda: try_files(name, seed, count, whole, folder, counts)):
                number = counts[TRIED]
                counts[TRIED] += 1
                if os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGPROF:
                    slow += 1
                    continue
                chosen, data = mutated(name, seed, number, whole)
                how = signal.Signals(os.WTERMSIG(status)).name if os.WIFSIGNALED(status) else "an error"
                ended[f"number {number} of seed {seed}, made of {chosen!r}"] = how
                if keep:
                    (keep / f"{name}-{number}-{FORMATS[name].path}").write_bytes(data)
    return counts[SERVED], slow, ended


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--only", choices=FORMATS, nargs="+", default=list(FORMATS))
    parser.add_argument("--count", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--keep", type=Path)
    told = parser.parse_args()
    ends = 0
    for name, whole in whole_files(told.only).items():
        began = time.monotonic()
        served, slow, ended = trial(name, whole, told.count, told.seed, told.keep)
        took = f"{slow} over {CPU_SECONDS:.0f} s, {time.monotonic() - began:.0f} s in all"
        lines = [f"{name}: {told.count} files, {served} served, {len(ended)} ended a process, {took}"]
        lines += [f"  {what}: {how}" for what, how in ended.items()]
        sys.stdout.write("\n".join((*lines, "")))
        sys.stdout.flush()
        ends += len(ended)
    return min(ends, 1)


if __name__ == "__main__":
    sys.exit(main())
