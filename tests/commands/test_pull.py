"""`runtime pull` and `runtime unpack` of a kit that is whole, and cannot be served."""

import json
from pathlib import Path

import pytest

from tests.commands.forked import run
from tests.kit.made import made_kit

pytestmark = pytest.mark.slow
POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345\n"


@pytest.mark.parametrize("command", ["pull", "unpack"])
def test_a_git_lfs_pointer_in_place_of_the_model_is_a_warning(command: str, tmp_path: Path) -> None:
    layout = made_kit(tmp_path / "layout", {"m.onnx": POINTER, "labels.txt": b"a\n"})
    folder = [str(tmp_path / "models")] if command == "unpack" else []
    done = run(command, f"oci:{layout}:v1", *folder, "--cache-dir", str(tmp_path / "cache"))
    assert done.returncode == 0, done.stderr
    said = [json.loads(line) for line in done.stderr.splitlines() if "model.is_pointer" in line]
    wanted = "m.onnx is a Git LFS pointer and not the model's file: `git lfs pull`"
    assert [each["reason"].startswith(wanted) for each in said] == [True]
