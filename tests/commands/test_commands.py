"""`runtime pull`, `inspect`, `health`, and what they print."""

import json
import os
import pty
import re
import socket
import subprocess
import sys
import threading
from contextlib import suppress

import pytest

from runtime.commands.health import run as health
from runtime.settings import Settings
from runtime.supervisor.sockets import listen
from tests.commands.forked import run
from tests.e2e.server import PATIENCE_SECONDS, Server
from tests.kit.made import named, put
from tests.lying_registry import Gate, stalled
from tests.places import KITS, ROOT

IRIS = f"oci:{KITS / 'iris-onnx'}:v1"
DIGEST = "sha256:44b4f1ec6a443b09778fd033f873370cee057611ad6865a07b212ea225cb9f6c"

pytestmark = pytest.mark.slow


def test_pull_prints_the_digest_and_nothing_else(tmp_path):
    done = run("pull", IRIS, "--cache-dir", str(tmp_path))
    assert (done.returncode, done.stdout) == (0, DIGEST + "\n")


def test_inspect_says_what_a_kit_is_without_its_model(tmp_path):
    done = run("inspect", IRIS, "--json", "--cache-dir", str(tmp_path))
    report = json.loads(done.stdout)
    assert (report["name"], report["digest"]) == ("iris-onnx", DIGEST)
    assert report["adapter"] == {"name": "onnx", "reason": "by name"}
    assert {layer["path"]: layer["fetched"] for layer in report["layers"]} == {
        "model/iris.onnx": True,
        "model/samples.json": True,
        "data/iris.csv": False,
        "README.md": False,
    }
    assert report["fetch_bytes"] == 3072 + 4096
    assert report["limits"] == {"max_body_bytes": 67_108_864, "max_in_flight": 1024, "inference_timeout": 30.0}
    assert "files" not in report


def test_inspect_for_people_names_layers_sizes_and_adapter(tmp_path):
    shown = run("inspect", IRIS, "--cache-dir", str(tmp_path), "--inference-timeout", "0").stdout
    about = "  about      Which iris is it?\n  authors    Kit corpus\n  licence    Apache-2.0\n"
    assert about in shown
    assert "framework  onnx" in shown
    assert "limits     67.1 MB in a body, 1024 requests at once\n" in shown
    assert "adapter    onnx (by name)" in shown
    assert re.search(r"\* model\s+3\.1 kB  model/iris\.onnx", shown)
    assert re.search(r"  dataset  761\.3 kB  data/iris\.csv", shown)


def test_inspect_files_gives_the_files_verdict(tmp_path):
    done = run("inspect", f"oci:{KITS / 'iris-liar'}:v1", "--files", "--json", "--cache-dir", str(tmp_path))
    report = json.loads(done.stdout)
    assert report["adapter"]["name"] == "onnx"
    assert "sklearn:1.3.0" in report["adapter"]["reason"]
    assert any(file["path"].endswith(".onnx") for file in report["files"])


def test_inspect_of_a_kit_without_a_model_says_so(tmp_path):
    report = json.loads(run("inspect", f"oci:{KITS / 'empty'}:v1", "--json", "--cache-dir", str(tmp_path)).stdout)
    assert report["adapter"]["name"] is None
    assert "no model" in report["adapter"]["reason"]


def test_health_follows_the_server(tmp_path):
    with Server(IRIS, "--drain-delay", "0", cache=tmp_path) as server:
        with server.ready() as client:
            healthy = run("health", "--port", str(client.base_url.port))
        assert (healthy.returncode, json.loads(healthy.stdout)) == (0, {"ready": True, "live": True})
        assert server.stop() == 0
    assert run("health", "--port", str(client.base_url.port)).returncode == 1


def test_health_hears_no_more_than_an_answer():
    def pour(listener):
        with suppress(OSError), listener.accept()[0] as connection:
            while True:
                connection.sendall(b"HTTP/1.1 200 OK\r\n\r\n" + b"\x1b" * 65_536)

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=pour, args=(listener,))
        thread.start()
        port = listener.getsockname()[1]
        code, answer = health(Settings.read(["health", "--host", "127.0.0.1", "--port", str(port)], {}))
        thread.join(PATIENCE_SECONDS)
    assert code == 0
    assert len("".join(answer)) < 200_000


def test_the_console_command_and_the_module_are_the_same():
    shown = subprocess.run([f"{sys.prefix}/bin/runtime", "--help"], capture_output=True, text=True, check=True).stdout
    assert shown == run("--help").stdout


def test_a_taken_port_ends_with_its_own_code(tmp_path):
    with listen("127.0.0.1", 0) as taken:
        port = str(taken.getsockname()[1])
        done = run("--kit", IRIS, "--port", port, "--cache-dir", str(tmp_path))
    assert done.returncode == 3
    assert f"port {port}" in json.loads(done.stderr)["reason"]


def test_an_error_before_anything_else_is_one_line():
    done = run("--kit", "Not A Reference")
    assert done.returncode == 2
    assert len(done.stderr.splitlines()) == 1
    said = run("cache", "list", RUNTIME_LOG_FORMAT="text").stderr
    assert said == "runtime: cache takes one of ls, verify and gc, got 'list'\n"


def test_a_terminal_gets_readable_lines_and_a_curl_that_works(tmp_path):
    leader, follower = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "runtime", "--kit", IRIS, "--port", "0", "--cache-dir", str(tmp_path)],
        stderr=follower,
        stdout=follower,
        stdin=follower,
    )
    os.close(follower)
    shown = ""
    while "curl" not in shown or not shown.endswith("\n"):
        shown += os.read(leader, 65_536).decode()
    curl = next(line for line in shown.splitlines() if "curl" in line).strip()
    answer = subprocess.run(["bash", "-c", curl], capture_output=True, text=True, check=True)
    assert "outputs" in json.loads(answer.stdout)
    os.write(leader, b"\x03")  # what Ctrl-C sends
    process.send_signal(2)
    assert process.wait(30) == 0
    os.close(leader)
    assert DIGEST[:19] in shown
    assert '{"' not in shown.replace(curl, "")


@pytest.mark.parametrize("command", ["pull", "inspect --files", "verify"])
def test_a_command_that_is_stopped_has_failed(command, lying, tmp_path):
    gate = Gate()
    registry = lying("iris-onnx")
    registry.lie("blobs/sha256:e2efdb39975bb174", stalled(100, gate))
    arguments = [*command.split(), f"{registry.host}/kits/iris:v1", "--cache-dir", str(tmp_path)]
    process = subprocess.Popen(
        [sys.executable, "-m", "runtime", *arguments], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    )
    assert gate.reached.wait(30)
    process.terminate()
    assert process.communicate(timeout=30) == (b"", None)
    assert process.returncode == 128 + 15


def shell(line, *arguments):
    """`line` in a shell; `runtime` in it is the command."""
    line = line.replace("runtime", f"{sys.executable} -m runtime")
    done = ["bash", "-c", line, "bash", *map(str, arguments)]
    return subprocess.run(done, capture_output=True, text=True, timeout=PATIENCE_SECONDS, check=False)


@pytest.mark.parametrize("closed", ["<&-", "2>&-", "<&- 2>&-"])
def test_closed_standard_streams_are_no_matter(closed, tmp_path):
    done = shell(f'runtime verify "$1" --cache-dir "$2" {closed}', IRIS, tmp_path)
    assert (done.returncode, done.stdout.splitlines()[0]) == (0, "iris-onnx: passes")


@pytest.mark.parametrize(
    ("output", "code", "reason"),
    [
        (">&-", 0, ""),
        ("| true; exit ${PIPESTATUS[0]}", 0, ""),
        (">/dev/full", 74, "cannot write to standard output: No space left on device"),
    ],
)
def test_what_cannot_be_printed_costs_a_line_at_most(output, code, reason, tmp_path):
    done = shell(f'runtime inspect "$1" --cache-dir "$2" --log-level error {output}', IRIS, tmp_path)
    assert done.returncode == code
    assert [json.loads(line)["reason"] for line in done.stderr.splitlines()] == [reason] * bool(reason)


@pytest.mark.parametrize("words", ["--help", "--version", "pull --help"])
def test_help_that_cannot_be_printed_is_a_failure(words):
    done = shell(f"runtime {words} >/dev/full")
    assert done.returncode == 74
    assert json.loads(done.stderr)["reason"] == "cannot write to standard output: No space left on device"


@pytest.mark.parametrize("reference", ["./kit", "oci:kit:v1"])
def test_a_working_folder_that_is_gone_is_said(reference, tmp_path):
    (tmp_path / "gone").mkdir()
    line = f'cd "$1" && rmdir "$1" && PYTHONPATH="$2" runtime pull {reference}'
    done = shell(line, tmp_path / "gone", ROOT)
    assert done.returncode == 66
    assert "the folder that this command was started in is gone" in json.loads(done.stderr)["reason"]


def test_a_pipe_that_somebody_made_non_blocking_gets_every_line():
    code = "import os; from runtime.cli import _print; os.set_blocking(1, False); _print(['x' * 999] * 1000)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, timeout=PATIENCE_SECONDS, check=False)
    assert (done.returncode, len(done.stdout), done.stderr) == (0, 1_000_000, b"")


@pytest.mark.parametrize("json_", [(), ("--json",)], ids=["text", "json"])
def test_the_words_of_a_kit_do_not_steer_a_terminal(json_, tmp_path):
    said = "\x1b[2J \x9b2J \u202e \u2028 \r end"
    put_kit(tmp_path / "kit", {"name": said, "description": said})
    done = run("inspect", f"oci:{tmp_path / 'kit'}:v1", *json_, "--cache-dir", str(tmp_path / "cache"))
    assert done.returncode == 0, done.stderr
    assert [character for character in done.stdout if not character.isprintable() and character != "\n"] == []
    if json_:
        assert json.loads(done.stdout)["package"]["name"] == said
    else:
        assert r"\u001b[2J \u009b2J \u202e \u2028 \r end" in done.stdout


def put_kit(folder, package):
    """A layout with a kit that has no layers and calls itself as `package` says."""
    config = json.dumps({"manifestVersion": "1.0.0", "package": package}).encode()
    kit = "application/vnd.kitops.modelkit.config.v1+json"
    manifest = {
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": put(folder, config, kit),
        "layers": [],
    }
    named(folder, put(folder, json.dumps(manifest).encode(), manifest["mediaType"]), "v1")


def test_make_help_lists_every_target_with_its_words():
    shown = subprocess.run(
        ["make", "--no-print-directory", "help"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout
    makefile = (ROOT / "Makefile").read_text()
    targets = re.findall(r"^\.PHONY: (.*)$", makefile, re.MULTILINE)[0].split()
    listed = dict(line.split(maxsplit=1) for line in shown.splitlines())
    assert sorted(listed) == sorted(targets)
    assert [target for target, words in listed.items() if f"{words}\n" not in makefile] == []
