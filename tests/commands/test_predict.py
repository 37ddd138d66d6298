"""`runtime predict REF [FILE]`: rows in, predictions out, by a process of its own."""

from __future__ import annotations

import csv
import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from runtime.commands import predict
from runtime.errors import InvalidSetting, NotFound, StorageFailed
from runtime.settings import Settings
from tests.commands.forked import run
from tests.commands.test_inspect_files import third_party
from tests.e2e.server import PATIENCE_SECONDS
from tests.installed import environ
from tests.places import KITS, ROOT
from tests.terminal import Terminal

IRIS = f"oci:{KITS / 'iris-onnx'}:v1"
NUMBER = r"\d+\.\d+(?:e-?\d+)?"
ROWS = "id,X[0],X[1],X[2],X[3]\na,5.1,3.5,1.4,0.2\nb,6.9,3.2,5.7,2.3\n"


def read(*arguments: str) -> Settings:
    return Settings.read(["predict", *arguments], {})


def test_the_words_are_a_reference_and_a_file():
    assert (read("host.example/m:v1", "a.csv").kit, read("host.example/m:v1", "a.csv").rows) == (
        "host.example/m:v1",
        "a.csv",
    )
    assert read("host.example/m:v1").rows == "-"
    assert read("--kit", "host.example/m:v1", "a.csv").rows == "a.csv"
    asked = "a,b", "--columns", '"c, d",e f'
    assert read("host.example/m:v1", "a.csv", "--columns", *asked).columns == ("a", "b", "c, d", "e f")
    with pytest.raises(InvalidSetting, match="2 references were given"):
        read("host.example/m:v1", "host.example/n:v1", "a.csv")


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    return str(tmp_path_factory.mktemp("cache"))


@pytest.fixture
def rows(tmp_path):
    path = tmp_path / "rows.csv"
    path.write_text(ROWS)
    return path


@pytest.mark.slow
def test_a_file_gets_its_predictions_beside_the_rows(rows, tmp_path, cache):
    output = tmp_path / "out.csv"
    done = run("predict", IRIS, str(rows), "--output", str(output), "--cache-dir", cache)
    assert (done.returncode, done.stdout) == (0, ""), done.stderr
    found = list(csv.DictReader(output.read_text().splitlines()))
    assert [(row["id"], row["X[0]"], row["label"]) for row in found] == [("a", "5.1", "0"), ("b", "6.9", "2")]
    assert float(found[1]["probabilities[virginica]"]) == pytest.approx(0.97668, abs=1e-4)
    assert json.loads(done.stderr.splitlines()[-1])["rows"] == 2
    assert output.stat().st_mode & 0o777 == 0o666 & ~_umask()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out.csv", "rows.csv"]


def _umask():
    os.umask(mask := os.umask(0o077))
    return mask


@pytest.mark.slow
def test_standard_input_and_output_and_a_file_that_replaces_itself(rows, cache):
    piped = subprocess.run(
        [sys.executable, "-m", "runtime", "predict", IRIS, "--alone", "--cache-dir", cache],
        input=b'{"X": [5.1, 3.5, 1.4, 0.2]}\n', capture_output=True, timeout=PATIENCE_SECONDS, check=False,
    )  # fmt: skip
    assert json.loads(piped.stdout)["label"] == 0, piped.stderr
    done = run("predict", IRIS, str(rows), "--output", str(rows), "--cache-dir", cache)
    assert done.returncode == 0, done.stderr
    assert rows.read_text().splitlines()[0].startswith("id,X[0],X[1],X[2],X[3],label,")


@pytest.mark.slow
def test_a_wrong_row_ends_it_and_leaves_no_file(rows, tmp_path, cache):
    rows.write_text(ROWS + "c,1,2,x,4\n")
    done = run("predict", IRIS, str(rows), "--output", str(tmp_path / "out.csv"), "--cache-dir", cache)
    assert done.returncode == 65
    assert (
        "row 3: input 'X', element 2: FP32 wants a number or null, got 'x'"
        in json.loads(done.stderr.splitlines()[-1])["reason"]
    )
    assert [path.name for path in tmp_path.iterdir()] == ["rows.csv"]
    done = run("predict", IRIS, str(rows), "--on-error", "skip", "--cache-dir", cache)
    assert (done.returncode, len(done.stdout.splitlines())) == (0, 3)


@pytest.mark.parametrize(
    ("use", "error", "words"),
    [
        (lambda: predict._source("no-such.csv").__enter__(), NotFound, "no file 'no-such.csv' with rows"),
        (lambda: predict._source("/").__enter__(), InvalidSetting, "'/' is a folder"),
        (
            lambda: predict._target("/no/such/folder/x.csv").__enter__(),
            StorageFailed,
            "cannot write '/no/such/folder/x.csv'",
        ),
        (lambda: predict._target("/").__enter__(), StorageFailed, "cannot write '/'"),
        (lambda: predict._form("a.csv", "b.json"), InvalidSetting, "--output 'b.json' is json, but 'a.csv' is csv"),
    ],
)
def test_a_file_that_cannot_be_used_is_named(use, error, words):
    with pytest.raises(error) as caught:
        use()
    assert words in str(caught.value)


@pytest.mark.slow
def test_what_is_no_text_does_not_go_to_a_terminal():
    terminal = Terminal()
    command = [sys.executable, "-m", "runtime", "predict", IRIS, "rows.parquet"]
    done = subprocess.run(command, stdout=terminal.fd, stderr=subprocess.PIPE, text=True, timeout=60, check=False)
    assert (done.returncode, terminal.shown()) == (2, "")
    assert "the predictions are no text for a terminal: name a file with --output FILE" in done.stderr


@pytest.mark.slow
def test_a_full_disk_is_said_of_which_files(rows, cache):
    done = run("predict", IRIS, str(rows), "--output", "/dev/full", "--cache-dir", cache)
    assert done.returncode == 74
    assert f"No space left on device (rows '{rows}', predictions '/dev/full')" in done.stderr


def test_a_device_or_a_pipe_stays_what_it_is_and_a_link_points_where_it_did(tmp_path):
    (tmp_path / "link.csv").symlink_to(tmp_path / "real.csv")
    with predict._target(str(tmp_path / "link.csv")) as (target, publish):
        os.write(target, b"x")
        publish()
    assert ((tmp_path / "link.csv").is_symlink(), (tmp_path / "real.csv").read_bytes()) == (True, b"x")
    os.mkfifo(tmp_path / "pipe")
    reader = os.open(tmp_path / "pipe", os.O_RDONLY | os.O_NONBLOCK)
    with predict._target(str(tmp_path / "pipe")) as (target, publish):
        os.write(target, b"x")
        publish()
    assert (os.read(reader, 2), (tmp_path / "pipe").is_fifo()) == (b"x", True)
    os.close(reader)


@pytest.mark.slow
def test_a_reader_that_has_seen_enough_ends_it_well(tmp_path, cache):
    rows = tmp_path / "rows.csv"
    rows.write_text("5.1,3.5,1.4,0.2\n" * 20_000)
    process = subprocess.Popen(
        [sys.executable, "-m", "runtime", "predict", IRIS, str(rows), "--cache-dir", cache],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert process.stdout.readline().startswith(b"X[0],")
    process.stdout.close()
    assert process.wait(PATIENCE_SECONDS) == 0, process.stderr.read()
    process.stderr.close()


@pytest.mark.slow
def test_it_can_be_stopped(cache):
    process = subprocess.Popen(
        [sys.executable, "-m", "runtime", "predict", IRIS, "--cache-dir", cache, "--output", "/dev/null"],
        stdin=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    assert any(b"kit.resolved" in line for line in process.stderr)
    process.terminate()
    assert process.wait(PATIENCE_SECONDS) == 128 + signal.SIGTERM
    process.stdin.close()
    process.stderr.close()


@pytest.mark.slow
def test_a_model_that_ends_the_process_costs_the_command_one_line(rows, tmp_path):
    environ = third_party(tmp_path, "import os\nos.abort()\n")
    done = run("predict", f"oci:{tmp_path / 'kit'}:v1", str(rows), "--cache-dir", str(tmp_path / "cache"), **environ)
    assert done.returncode == 71
    assert "ended (SIGABRT)" in json.loads(done.stderr.splitlines()[-1])["reason"]


@pytest.mark.slow
def test_memory_does_not_grow_with_the_file(tmp_path, cache):
    """The peak of a file ten times as long is at most a few megabytes higher."""
    peaks = []
    for count in (5_000, 50_000):
        path = Path(tmp_path, f"{count}.csv")
        path.write_text("5.1,3.5,1.4,0.2\n" * count)
        program = "import resource, sys; from runtime.cli import main; code = main(sys.argv[1:]); print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss); sys.exit(code)"
        command = [
            sys.executable,
            "-c",
            program,
            "predict",
            IRIS,
            str(path),
            "--output",
            str(tmp_path / "out.csv"),
            "--cache-dir",
            cache,
        ]
        done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE_SECONDS, check=True)
        peaks.append(int(done.stdout))
    assert peaks[1] - peaks[0] < 8_000


PAGE = (ROOT / "docs" / "predict-files.md").read_text()
BLOCKS = re.findall(r"^```console rows\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)


@pytest.mark.slow
def test_the_page_shows_what_happens(tmp_path, installed):
    """Every command of docs/predict-files.md in one folder, each with the lines below it, as the runtime is installed without extras."""
    variables = environ(installed.bin(), tmp_path)
    for command, shown in re.findall(r"^\$ (.*)\n((?:(?!\$ ).*\n)*)", "".join(BLOCKS), re.MULTILINE):
        here = command.replace("registry.example.com/org/iris:v1", IRIS)
        done = subprocess.run(
            ["bash", "-c", here],
            cwd=tmp_path,
            env=variables,
            capture_output=True,
            text=True,
            timeout=PATIENCE_SECONDS,
            check=False,
        )
        said = done.stdout + "".join(
            json.loads(line).get("reason", "") + "\n" for line in done.stderr.splitlines() if '"error"' in line
        )
        numbers, wanted = ([round(float(each), 4) for each in re.findall(NUMBER, text)] for text in (said, shown))
        assert (re.sub(NUMBER, "?", said), numbers) == (re.sub(NUMBER, "?", shown).replace("runtime: ", ""), wanted), (
            done.stderr
        )
