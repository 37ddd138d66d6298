"""`runtime inspect --files`: what each file is and whether the trust level would load it, with nothing loaded."""

import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from runtime.commands.files import examine
from runtime.errors import NotExamined
from runtime.kit.format.reference import Reference
from runtime.kit.pull import pull
from runtime.link.messages import Verdict, one_line
from runtime.log import Log
from runtime.progress import Progress
from runtime.settings import Settings
from runtime.worker.confinement import landlock_abi
from tests.adapters.kits import unpack
from tests.commands.forked import run
from tests.descriptors import open_descriptors
from tests.e2e.misbehaving import ATTACKS, LOUD
from tests.e2e.server import PATIENCE_SECONDS
from tests.kit.made import made_kit
from tests.places import KITS

pytestmark = pytest.mark.slow


def inspect(reference, tmp_path, *options, **environ):
    done = run("inspect", reference, "--files", "--json", "--cache-dir", str(tmp_path / "cache"), *options, **environ)
    report = json.loads(done.stdout)
    refused = any(file["refused"] for file in report["files"])
    assert done.returncode == (79 if refused else 0 if report["adapter"]["name"] else 65), done.stderr
    return report


def verdict(report, path):
    (found,) = (file for file in report["files"] if file["path"] == path)
    return found["adapter"], found["refused"]


@pytest.mark.parametrize(
    ("kit", "options", "path", "adapter", "words"),
    [
        ("evil-pickle", (), "evil.pkl", "sklearn", "wants builtins.print"),
        ("evil-pickle", ("--allow-global", "builtins.print"), "evil.pkl", "sklearn", None),
        ("evil-pickle", ("--trust", "data"), "evil.pkl", "sklearn", "--trust data"),
        ("evil-pickle", ("--adapter", "python"), "evil.pkl", "python", "the kit's own code"),
    ],
)  # fmt: skip
def test_each_file_has_a_verdict(kit, options, path, adapter, words, tmp_path):
    report = inspect(f"oci:{KITS / kit}:v1", tmp_path, *options)
    seen, refused = verdict(report, path)
    assert seen == adapter
    assert (refused is None) if words is None else (words in refused), refused


def test_each_file_has_the_verdict_of_its_own_adapter(tmp_path):
    models = {}
    for kit in ("iris-onnx", "iris-lightgbm", "cnn-torchscript"):
        golden = unpack(kit, tmp_path / kit).files
        models[golden.path] = (golden.root / golden.path).read_bytes()
    report = inspect(f"oci:{made_kit(tmp_path / 'kit', models)}:v1", tmp_path)
    assert verdict(report, "model/iris.onnx") == ("onnx", None)
    assert verdict(report, "model.txt") == ("lightgbm", None)
    adapter, refused = verdict(report, "model/cnn.pt")
    assert adapter == "pytorch"
    assert (refused is None) if landlock_abi() else ("confined by Landlock" in refused), refused


@pytest.mark.parametrize(
    ("names", "code", "words"),
    [(("a.onnx", "b.onnx"), 65, "could mean any of a.onnx (onnx), b.onnx (onnx); name one file in model.path or"),
     (("notes.txt",), 78, "no adapter for the folder: no Kitfile names")],
    ids=["several", "none"],
)  # fmt: skip
def test_what_no_start_could_choose_is_no_success(names, code, words, tmp_path):
    golden = unpack("iris-onnx", tmp_path / "iris").files
    for name in names:
        data = (golden.root / golden.path).read_bytes() if name.endswith(".onnx") else b"hello"
        (tmp_path / "models").mkdir(exist_ok=True)
        (tmp_path / "models" / name).write_bytes(data)
    done = run("inspect", str(tmp_path / "models"), "--files")
    assert (done.returncode, words in done.stdout) == (code, True), done.stdout


def test_the_trust_settings_may_be_variables(tmp_path):
    environ = {"RUNTIME_ALLOW_GLOBAL": "builtins.print", "RUNTIME_TRUST": "restricted"}
    report = inspect(f"oci:{KITS / 'evil-pickle'}:v1", tmp_path, **environ)
    assert (report["trust"], verdict(report, "evil.pkl")) == ("restricted", ("sklearn", None))


def test_people_read_the_verdict_beside_the_file(tmp_path):
    shown = run("inspect", f"oci:{KITS / 'evil-pickle'}:v1", "--files", "--cache-dir", str(tmp_path)).stdout
    assert "files (under --trust restricted)" in shown
    assert "65 B  evil.pkl  sklearn: REFUSED, a pickle that wants builtins.print" in shown


def third_party(tmp_path, code):
    """The environment with an adapter of somebody's, and a kit for which that is asked."""
    site, info = tmp_path / "site", tmp_path / "site" / "deadly-1.0.dist-info"
    info.mkdir(parents=True)
    (site / "deadly.py").write_text(code)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: deadly\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[modelkit_runtime.adapters]\ndeadly = deadly:ADAPTER\n")
    made_kit(tmp_path / "kit", {"model": b"of no known kind"})
    return {"PYTHONPATH": os.pathsep.join([str(site), str(Path.cwd())])}


def test_who_looks_at_the_files_may_be_lost(tmp_path):
    """An adapter that ends the process which imports it: the report says so."""
    environ = third_party(tmp_path, "import os\nos.abort()\n")
    report = inspect(f"oci:{tmp_path / 'kit'}:v1", tmp_path, **environ)
    assert "SIGABRT" in report["adapter"]["reason"]
    assert "SIGABRT" in verdict(report, "model")[1]


DAEMON = """
import os, threading
told, tell = os.pipe()
if os.fork() == 0:
    os.setsid()
    if os.fork():
        os._exit(0)
    os.write(2, b"daemon %d\\n" % os.getpid())
    os.write(tell, b".")
    os.closerange(3, 1000)  # the look is over when nobody holds its channel
    threading.Event().wait()
os.read(told, 1)
os.abort()
"""


def test_what_a_look_leaves_behind_is_ended(tmp_path):
    environ = third_party(tmp_path, DAEMON)
    done = run("inspect", f"oci:{tmp_path / 'kit'}:v1", "--files", "--cache-dir", str(tmp_path / "cache"), **environ)
    assert done.returncode == 79
    daemon = int(re.search(r"daemon (\d+)", done.stderr)[1])
    assert not psutil.pid_exists(daemon)


def test_a_look_that_never_ends_can_be_stopped(tmp_path):
    environ = third_party(tmp_path, "import os, threading\nos.write(2, b'here\\n')\nthreading.Event().wait()\n")
    command = [sys.executable, "-m", "runtime", "inspect", f"oci:{tmp_path / 'kit'}:v1", "--files"]
    process = subprocess.Popen(
        [*command, "--cache-dir", str(tmp_path / "cache")],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={**os.environ, **environ},
    )
    assert any(b"here" in line for line in process.stderr)
    (child,) = psutil.Process(process.pid).children()
    process.terminate()
    assert process.communicate(timeout=PATIENCE_SECONDS)[0] == b""
    assert process.returncode == 128 + signal.SIGTERM
    assert not child.is_running()


@pytest.fixture(scope="module")
def kit(tmp_path_factory):
    """A kit with one file, fetched."""
    folder = tmp_path_factory.mktemp("kit")
    settings = Settings.read(["inspect", f"oci:{KITS / 'corrupt-onnx'}:v1", "--files", "--cache-dir", str(folder)], {})
    return pull(Reference.parse(settings.kit), settings.pull_options, Progress(Log(2, style="json", level="error")))


MISBEHAVED = {
    "flood": "no verdict",
    "endless line": "no verdict",
    "half": "no verdict",
    "no JSON": "no verdict",
    "no object": "no verdict",
    "nested": "no verdict",
    "hang": "took longer than 1 s",
    "deaf": "broke off its report",
    "grandchild": "took longer than 1 s",
    "another file": "no verdict",
    "file twice": "no verdict",
    "choice twice": "no verdict",
    "another adapter": "no verdict",
    "wrong types": "no verdict",
    "path of no text": "no verdict",
}
ENDED = Verdict(None, None, "not known: the process that looked at it ended (exit code 0)")
ONNX = Verdict(None, "onnx", "by the file m.onnx")
REPORTED = {
    "descriptors": (ONNX, Verdict("m.onnx", "onnx", None)),
    "nothing": (ENDED, ENDED),
    "loud": (ONNX, Verdict("m.onnx", "onnx", one_line(LOUD, 2000))),
}


def attacked(kit, attack):
    """What comes of a look by a process that does `attack`; nothing of it may be left."""
    settings = Settings.read(["inspect", kit.reference.name, "--adapter", attack], {})
    before, children = open_descriptors(), set(psutil.Process().children())
    try:
        return examine(
            kit, settings, lambda: False, log=Log(2, style="json"), module="tests.e2e.misbehaving", seconds=1
        )
    finally:
        assert open_descriptors() <= before
        assert set(psutil.Process().children()) <= children


@pytest.mark.parametrize(("attack", "line"), MISBEHAVED.items())
def test_a_process_that_misbehaves_costs_a_line(attack, line, kit):
    with pytest.raises(NotExamined, match=line):
        attacked(kit, attack)


@pytest.mark.parametrize(("attack", "verdicts"), REPORTED.items())
def test_what_a_process_did_not_say_is_not_known(attack, verdicts, kit):
    assert attacked(kit, attack) == (verdicts[0], {"m.onnx": verdicts[1]})


def test_every_attack_has_its_outcome():
    assert MISBEHAVED.keys() | REPORTED.keys() == ATTACKS.keys()
