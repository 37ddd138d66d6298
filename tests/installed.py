"""The package as its users install it: a wheel of this tree, in a virtual environment outside the checkout.

Real: the wheel, pip, which checks every requirement of the wheel against what the environment has, the program `runtime`, and
the sandbox. Linked: the files of the other packages, those that the wheel's own metadata asks for and no more, as hard links to
the files that pip installed here; where extras are asked for, those of the runtime that pip has installed without. So nothing is
fetched, nothing compiled twice, and a dependency that is not declared cannot be imported.
"""

from __future__ import annotations

import csv
import errno
import fcntl
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from importlib.metadata import Distribution, PathDistribution, distribution
from pathlib import Path
from zipfile import Path as PathInZip

from packaging.requirements import Requirement

from tests.places import ROOT

SOURCES = ("runtime", "adapters", "pyproject.toml", "README.md", "LICENSE")
OFFLINE = {"PIP_NO_INDEX": "1", "PIP_NO_BUILD_ISOLATION": "0"}
"""For pip in a `checkout`: nothing is fetched, and the setuptools that is there is taken (0 means no isolation)."""
KEPT = ("LANG", "TMPDIR", "OMP_WAIT_POLICY", "OPENBLAS_NUM_THREADS")


class Installed:
    """Makes wheel and environments in `shared`, each once, for all processes of a test run."""

    def __init__(self, shared: Path) -> None:
        shared.mkdir(exist_ok=True)
        self._shared = shared

    def wheel(self) -> Path:
        """The wheel of this tree."""
        (wheel,) = self._once("wheel", _build).glob("*.whl")
        return wheel

    def bin(self, *extras: str) -> Path:
        """The folder with `python3` and `runtime` of an environment with these extras and no others."""
        wheel = self.wheel()
        core = self._once("venv", lambda folder: _install(wheel, folder))
        if extras:
            name = "-".join(["venv", *sorted(extras)])
            return self._once(name, lambda folder: _install_with(extras, wheel, core, folder)) / "bin"
        return core / "bin"

    def _once(self, name: str, make: Callable[[Path], None]) -> Path:
        folder, whole = self._shared / name, self._shared / f"{name}.whole"
        with (self._shared / f"{name}.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not whole.exists():
                shutil.rmtree(folder, ignore_errors=True)
                make(folder)
                whole.touch()
        return folder


def environ(programs: Path, home: Path) -> dict[str, str]:
    """The variables of a user who has installed the runtime; nothing of this test run is among them but limits of threads."""
    kept = {name: os.environ[name] for name in KEPT if name in os.environ}
    return {**kept, "PATH": f"{programs}:{os.environ['PATH']}", "HOME": str(home)}


def checkout(folder: Path) -> Path:
    """A copy of what `make serve` reads. Its `.venv` has what pip would fetch, and pip; the runtime itself is not installed."""
    copy_sources(folder, "Makefile", "constraints.txt", "examples")
    link(closure(distribution("modelkit-runtime"), ()) | {"pip", "setuptools"}, venv(folder / ".venv"))
    return folder


def copy_sources(folder: Path, *more: str) -> Path:
    """Copies what a wheel is made of, and more of the checkout; gives the copy's folder."""
    folder.mkdir()
    for name in (*SOURCES, *more):
        path = ROOT / name
        if path.is_dir():
            shutil.copytree(path, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(path, folder / name)
    return folder


def link(needed: set[str], python: Path) -> None:
    """Links the files of these packages into the environment of an interpreter."""
    for name in needed:
        _link(distribution(name), python)


def _link(found: Distribution, python: Path) -> None:
    """Links what belongs to a package, but scripts."""
    (site,) = python.parent.parent.glob("lib/python*/site-packages")
    here, made = found.locate_file(""), set[str]()
    for file, *_ in csv.reader((found.read_text("RECORD") or "").splitlines()):
        if file.startswith(".."):
            continue
        folder = file.rpartition("/")[0]
        if folder not in made:
            (site / folder).mkdir(parents=True, exist_ok=True)
            made.add(folder)
        try:
            os.link(f"{here}/{file}", f"{site}/{file}")
        except FileExistsError:
            pass  # of a namespace that several packages have
        except OSError as error:
            if error.errno not in (errno.EXDEV, errno.EPERM):
                raise
            shutil.copy(f"{here}/{file}", f"{site}/{file}")


def closure(wanted: Distribution, extras: tuple[str, ...]) -> set[str]:
    """The names of all packages that one needs, without its own."""
    names, left = set[str](), [(wanted, extras)]
    while left:
        found, extras = left.pop()
        for requirement in map(Requirement, found.requires or ()):
            asked = not requirement.marker or any(
                requirement.marker.evaluate({"extra": extra}) for extra in ("", *extras)
            )
            if asked and requirement.name not in names:
                names.add(requirement.name)
                needed = distribution(requirement.name)
                assert requirement.specifier.contains(needed.version, prereleases=True), requirement
                left.append((needed, tuple(requirement.extras)))
    return names


def _build(folder: Path) -> None:
    """Makes the wheel with the hook that pip calls (https://peps.python.org/pep-0517/#build-wheel)."""
    folder.mkdir()
    code = "import sys; from setuptools.build_meta import build_wheel; build_wheel(sys.argv[1])"
    _run([sys.executable, "-c", code, str(folder)], cwd=copy_sources(folder / "source"))


def _install(wheel: Path, folder: Path) -> None:
    python = venv(folder)
    link(closure(_inside(wheel), ()), python)
    pip = [sys.executable, "-m", "pip", "--isolated", "--disable-pip-version-check", "--quiet"]
    _run([*pip, "--python", str(python), "install", "--no-index", wheel.as_uri()], cwd=folder)


def _install_with(extras: tuple[str, ...], wheel: Path, core: Path, folder: Path) -> None:
    python, (installed,) = venv(folder), core.glob("lib/python*/site-packages/modelkit_runtime-*.dist-info")
    assert set(extras) <= set(_inside(wheel).metadata.get_all("Provides-Extra", ()))
    link(closure(_inside(wheel), extras), python)
    _link(PathDistribution(installed), python)
    program = (core / "bin/runtime").read_text().replace(f"{core}/bin/", f"{folder}/bin/")
    (folder / "bin/runtime").write_text(program)
    (folder / "bin/runtime").chmod(0o755)


def _inside(wheel: Path) -> PathDistribution:
    """What a wheel says of itself."""
    name, version = wheel.name.split("-")[:2]
    return PathDistribution(PathInZip(wheel, f"{name}-{version}.dist-info/"))


def venv(folder: Path) -> Path:
    """Makes an empty environment; gives its interpreter."""
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(folder)], check=True, timeout=100)
    return folder / "bin" / "python3"


def _run(command: list[str], cwd: Path) -> None:
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=200, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
