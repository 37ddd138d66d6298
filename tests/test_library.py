"""`runtime.load` and `runtime.app`: a kit in somebody else's process, under somebody else's server."""

from __future__ import annotations

import asyncio
import io
import json
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from starlette.applications import Starlette
from starlette.routing import Mount

import runtime
from adapters.base import LoadFailed, Refused
from runtime.errors import InputAtFault, InvalidInput, InvalidReference, InvalidSetting, NotFound
from runtime.library import Options, _StandardLog
from runtime.serving.inference import rehearse
from runtime.serving.protocol.plain.codec import PLAIN
from runtime.serving.protocol.v1 import V1
from runtime.serving.protocol.v2.codec import V2_JSON
from runtime.serving.served import Served
from tests.adapters.kits import unpack
from tests.descriptors import open_descriptors
from tests.installed import Installed, environ
from tests.lying_registry import Gate, LyingRegistry, stalled
from tests.places import KITS, ROOT

IRIS = f"oci:{KITS / 'iris-onnx'}:v1"
FLOWER = [[5.1, 3.5, 1.4, 0.2]]
BODY = {"inputs": [{"name": "X", "datatype": "FP32", "shape": [1, 4], "data": FLOWER[0]}]}


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("cache")
    folder.chmod(0o700)
    return folder


def talk_to(application: Starlette, exchange: Callable[[httpx.AsyncClient], Awaitable[None]]) -> None:
    """Runs `exchange` with a client of the application, in this process and without a lifespan of its own."""

    async def whole() -> None:
        async with httpx.AsyncClient(transport=httpx.ASGITransport(application), base_url="http://test") as client:
            await asyncio.wait_for(exchange(client), 60)

    asyncio.run(whole())


@pytest.mark.parametrize("flower", [FLOWER, np.array(FLOWER, np.float32)], ids=["lists", "array"])
def test_a_loaded_kit_predicts_in_this_process(cache: Path, flower: Any) -> None:
    served = runtime.load(IRIS, cache_dir=cache)
    outputs = served.predict({"X": flower})
    assert outputs["label"].tolist() == [0]
    assert served.provenance.digest is not None
    with pytest.raises(InvalidInput, match="expected shape"):
        served.predict({"X": [[1.0, 2.0]]})


def its_examples_pass(served: Served) -> None:
    """What errors of V1 and `/predict` show is answered."""
    for codec, wrong in ((V1, b'{"instances": []}'), (PLAIN, b"{}")):
        with pytest.raises(InputAtFault) as error:
            rehearse(served, codec, wrong)
        shown = error.value.advice.partition("a body that passes: ")[2].encode()
        assert rehearse(served, codec, shown).status == 200


def model_of_groups(path: Path) -> None:
    """Writes a model that takes rows in groups of four."""
    shape = numpy_helper.from_array(np.array([-1, 4, 3], np.int64), "shape")
    x, y = (
        helper.make_tensor_value_info(name, TensorProto.FLOAT, ("n", *more))
        for name, more in (("x", (3,)), ("y", (4, 3)))
    )
    graph = helper.make_graph([helper.make_node("Reshape", ["x", "shape"], ["y"])], "g", [x], [y], [shape])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)


def test_the_example_of_a_model_that_takes_its_rows_in_groups_has_a_group(
    cache: Path, tmp_path: Path, written: io.StringIO
) -> None:
    model_of_groups(tmp_path / "m.onnx")
    served = runtime.load(tmp_path / "m.onnx", cache_dir=cache)
    assert served.example == {"inputs": [{"name": "x", "datatype": "FP32", "shape": [4, 3], "data": [0] * 12}]}
    assert "model.not_warmed_up" not in written.getvalue()
    with pytest.raises(InputAtFault) as error:
        rehearse(served, V2_JSON, b'{"inputs": []}')
    assert V2_JSON.decode({}, error.value.advice.partition("a body that passes: ")[2].encode(), served).rows == 4
    its_examples_pass(served)


def test_the_examples_of_a_kit_whose_sample_is_a_group_have_all_of_its_rows(cache: Path, tmp_path: Path) -> None:
    model_of_groups(tmp_path / "m.onnx")
    asked = {"name": "x", "datatype": "FP32", "shape": [4, 3], "data": list(range(12))}
    answered = {"name": "y", "datatype": "FP32", "shape": [1, 4, 3], "data": list(range(12))}
    sample = {"request": {"inputs": [asked]}, "response": {"outputs": [answered]}}
    (tmp_path / "samples.json").write_text(json.dumps({"samples": [sample]}))
    model = {
        "path": "m.onnx",
        "parts": [{"path": "samples.json"}],
        "parameters": {"serving": {"samples": "samples.json"}},
    }
    kitfile = {"manifestVersion": "1.0.0", "package": {"name": "m"}, "model": model}
    (tmp_path / "Kitfile").write_text(json.dumps(kitfile))
    served = runtime.load(tmp_path, cache_dir=cache)
    assert not served.takes_one_row
    its_examples_pass(served)


@pytest.mark.slow
def test_a_kit_that_is_refused_by_a_server_is_refused_by_a_library(cache: Path) -> None:
    with pytest.raises(Refused, match=r"builtins\.print"):
        runtime.load(f"oci:{KITS / 'evil-pickle'}:v1", cache_dir=cache)


@pytest.mark.parametrize(
    ("reference", "options", "error", "text"),
    [
        pytest.param("oci:/nowhere:v1", {}, NotFound, "/nowhere", id="no layout"),
        pytest.param("a b", {}, InvalidReference, "a b", id="no reference"),
        pytest.param(IRIS, {"trust": "blind"}, InvalidSetting, "--trust is 'blind'", id="no trust level"),
        pytest.param(IRIS, {"threads": -1}, InvalidSetting, "--threads is '-1'", id="no number of threads"),
        pytest.param(IRIS, {"port": 80}, TypeError, "unknown option port; there are model_name", id="no such option"),
    ],
)
def test_what_is_wrong_is_one_line(
    cache: Path, reference: str, options: Any, error: type[Exception], text: str
) -> None:
    with pytest.raises(error, match=text) as raised:
        runtime.load(reference, **{"cache_dir": cache, **options})
    assert "\n" not in str(raised.value)


def test_options_that_are_given_win_over_variables(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RUNTIME_MODEL_NAME", "of-the-environment")
    monkeypatch.setenv("RUNTIME_TRUST", "data")
    served = runtime.load(IRIS, cache_dir=cache, trust="restricted")
    assert (served.name, served.provenance.trust) == ("of-the-environment", "restricted")


def test_events_go_to_the_logger_of_the_library(cache: Path, written: io.StringIO) -> None:
    runtime.load(IRIS, cache_dir=cache)
    assert "\nkit.resolved reference=" in "\n" + written.getvalue()


def test_no_text_of_a_kit_steers_the_terminal_that_the_logger_writes_to(written: io.StringIO) -> None:
    _StandardLog().warning("model.odd", reason="\x1b[2J\nforged", layer="two\twords \x9b")
    assert written.getvalue() == 'model.odd reason=\\x1b[2J\\x0aforged layer="two\\twords \\x9b"\n'


def test_mounted_with_its_lifespan_it_is_ready_when_the_application_is(cache: Path) -> None:
    kit = runtime.app(IRIS, cache_dir=cache)
    application = Starlette(routes=[Mount("/iris", kit)], lifespan=kit.lifespan)

    async def exchange(client: httpx.AsyncClient) -> None:
        async with application.router.lifespan_context(application):
            assert (await client.get("/iris/v2/health/ready")).status_code == 200
            answer = await client.post("/iris/v2/models/iris-onnx/infer", json=BODY)
            assert answer.json()["outputs"][0]["data"] == [0]
            metrics = (await client.get("/iris/metrics")).text
            assert "runtime_kit_info{" in metrics
            assert re.search(r"^runtime_verified_bytes_total [1-9]", metrics, re.MULTILINE)

    talk_to(application, exchange)


@pytest.mark.slow
@pytest.mark.parametrize("batching", ["auto", "off"])
def test_an_application_tries_whether_requests_may_be_joined(cache: Path, batching: str) -> None:
    kit = runtime.app(IRIS, cache_dir=cache, batching=batching)
    application = Starlette(routes=[Mount("/iris", kit)], lifespan=kit.lifespan)

    async def exchange(client: httpx.AsyncClient) -> None:
        async with application.router.lifespan_context(application):
            facts = {"batching": "being tried"}
            while facts.get("batching") == "being tried":
                facts = (await client.get("/iris/v2/models/iris-onnx")).json()["properties"]
                await asyncio.sleep(0.005)
            assert ("batching" in facts) is (batching == "auto")

    talk_to(application, exchange)


def test_mounted_without_a_lifespan_the_first_request_has_it_loaded(
    lying: Callable[..., LyingRegistry], tmp_path: Path
) -> None:
    registry, gate = lying("iris-onnx"), Gate()
    registry.lie("/blobs/", stalled(100, gate), times=1)
    kit = runtime.app(f"{registry.host}/kits/iris-onnx:v1", cache_dir=tmp_path)
    application = Starlette(routes=[Mount("/iris", kit)])

    async def exchange(client: httpx.AsyncClient) -> None:
        first = await client.post("/iris/v2/models/iris-onnx/infer", json=BODY)
        assert (first.status_code, first.headers["retry-after"]) == (503, "1")
        gate.open.set()
        while (await client.get("/iris/v2/health/ready")).status_code != 200:  # noqa: ASYNC110 - what a load balancer does
            await asyncio.sleep(0.01)
        assert (await client.post("/iris/v2/models/iris-onnx/infer", json=BODY)).status_code == 200

    talk_to(application, exchange)


def test_mounted_without_a_lifespan_a_kit_that_cannot_be_had_stays_unready(written: io.StringIO) -> None:
    application = Starlette(routes=[Mount("/iris", runtime.app("oci:/nowhere:v1"))])

    async def exchange(client: httpx.AsyncClient) -> None:
        while (answer := await client.get("/iris/v2/health/ready")).json()["reason"] != "failed":  # noqa: ASYNC110 - what a load balancer does
            await asyncio.sleep(0.01)
        assert answer.status_code == 503

    talk_to(application, exchange)
    assert "/nowhere" in written.getvalue()


def test_labels_for_another_number_of_classes_are_named(cache: Path, tmp_path: Path, written: io.StringIO) -> None:
    unpack("iris-onnx", tmp_path)
    model = "{path: model/iris.onnx, parameters: {serving: {labels: [setosa, versicolor]}}}"
    (tmp_path / "Kitfile").write_text(f"manifestVersion: 1.0.0\nmodel: {model}\n")
    runtime.load(tmp_path)
    assert "serving.labels names 2 classes; model/iris.onnx has 3" in written.getvalue()


def test_a_test_client_is_told_that_a_kit_cannot_be_loaded(cache: Path, tmp_path: Path, written: io.StringIO) -> None:
    from starlette.testclient import TestClient

    (tmp_path / "m.onnx").write_bytes(b"nothing")
    with pytest.raises(LoadFailed, match="not a whole ONNX model"), TestClient(runtime.app(tmp_path / "m.onnx")):
        pass
    assert "runtime.failed" in written.getvalue()


def test_an_application_may_start_again_after_its_end(cache: Path) -> None:
    kit = runtime.app(IRIS, cache_dir=cache)
    application = Starlette(routes=[Mount("/iris", kit)], lifespan=kit.lifespan)
    many = {"inputs": [{"name": "X", "datatype": "FP32", "shape": [5000, 4], "data": FLOWER[0] * 5000}]}

    async def exchange(client: httpx.AsyncClient) -> None:
        for _ in range(2):
            async with application.router.lifespan_context(application):
                assert (await client.get("/iris/v2/health/ready")).status_code == 200
                assert (await client.post("/iris/v2/models/iris-onnx/infer", json=many)).status_code == 200
            assert (await client.get("/iris/v2/health/ready")).json()["reason"] == "draining"

    talk_to(application, exchange)


def test_a_kit_that_comes_later_is_loaded_by_a_later_request(cache: Path, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr("runtime.library._PAUSE_SECONDS", 0.0)
    application = Starlette(routes=[Mount("/iris", runtime.app(f"oci:{tmp_path / 'iris'}:v1", cache_dir=cache))])

    async def exchange(client: httpx.AsyncClient) -> None:
        while (await client.get("/iris/v2/health/ready")).json()["reason"] != "failed":  # noqa: ASYNC110 - as above
            await asyncio.sleep(0.01)
        (tmp_path / "iris").symlink_to(KITS / "iris-onnx")
        while (await client.get("/iris/v2/health/ready")).status_code != 200:  # noqa: ASYNC110 - as above
            await asyncio.sleep(0.01)

    talk_to(application, exchange)


@pytest.mark.slow
def test_the_end_of_a_start_ends_its_pull(cache: Path, lying) -> None:
    registry = lying("iris-onnx")
    registry.lie("blobs/", stalled(100))
    kit = runtime.app(f"{registry.host}/kits/iris-onnx:v1", cache_dir=cache / "other")

    async def start() -> None:
        async with asyncio.timeout(0.5), kit.lifespan():
            raise AssertionError("nothing can be loaded")

    others = threading.enumerate()
    with pytest.raises(TimeoutError):
        asyncio.run(start())
    for thread in threading.enumerate():
        if thread.name == "load" and thread not in others:
            thread.join(30)
            assert not thread.is_alive()


@pytest.mark.slow
def test_loaded_kits_leave_no_file_descriptors_behind(cache: Path) -> None:
    runtime.load(IRIS, cache_dir=cache)
    before = open_descriptors()
    for _ in range(3):
        runtime.load(IRIS, cache_dir=cache)
    assert len(open_descriptors()) <= len(before)


def test_variables_that_are_no_options_of_the_library_are_not_read(cache: Path, monkeypatch) -> None:
    monkeypatch.setenv("PORT", "http")
    monkeypatch.setenv("RUNTIME_LOG_LEVEL", "loud")
    assert runtime.load(Path(IRIS), cache_dir=cache).name == "iris-onnx"


SERVERS = [
    pytest.param(["uvicorn", "--port", "0"], id="uvicorn"),
    pytest.param(["hypercorn", "--bind", "127.0.0.1:0"], id="hypercorn"),
]


def start(server: list[str], folder: Path, reference: str, cache: Path) -> subprocess.Popen[str]:
    """A server as anybody would start it, serving what `kit.py` in `folder` names `app`."""
    (folder / "kit.py").write_text(f"import runtime\n\napp = runtime.app({reference!r}, cache_dir={str(cache)!r})\n")
    command = [sys.executable, "-m", *server, "kit:app"]
    environ = {"PATH": "/usr/bin:/bin", "PYTHONPATH": f"{folder}:{ROOT}", "HOME": str(folder)}
    return subprocess.Popen(
        command, env=environ, cwd=folder, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True
    )


@pytest.mark.slow
@pytest.mark.parametrize("server", SERVERS)
def test_a_bare_server_serves_a_kit(tmp_path: Path, cache: Path, server: list[str]) -> None:
    with start(server, tmp_path, IRIS, cache) as process:
        assert process.stderr is not None
        try:
            url = next(word for line in process.stderr for word in line.split() if word.startswith("http://"))
            with httpx.Client(base_url=url) as client:
                assert client.get("/v2/health/ready").status_code == 200
                answer = client.post("/v2/models/iris-onnx/infer", json=BODY)
                assert answer.json()["outputs"][0]["data"] == [0]
                assert answer.headers["modelkit-digest"].startswith("sha256:")
        finally:
            process.send_signal(signal.SIGTERM)
        rest = process.stderr.read()
        assert process.wait(30) in (0, -signal.SIGTERM)
        assert "Traceback" not in rest


@pytest.mark.slow
@pytest.mark.parametrize("server", SERVERS)
def test_a_bare_server_says_in_one_line_why_there_is_no_kit(tmp_path: Path, cache: Path, server: list[str]) -> None:
    with start(server, tmp_path, "oci:/nowhere:v1", cache) as process:
        _, said = process.communicate(timeout=60)
    assert "runtime: there is no folder '/nowhere' with an OCI layout" in said


@pytest.mark.slow
def test_the_page_about_the_library_shows_what_works(installed: Installed, tmp_path: Path) -> None:
    """Each program of the page, as the runtime is installed without extras, and `uvicorn kit:app` as the page says."""
    programs = re.findall(r"```python\n(.*?)```", (ROOT / "docs" / "library.md").read_text(), re.DOTALL)
    assert len(programs) == 3
    (tmp_path / "examples").symlink_to(ROOT / "examples")
    variables = environ(installed.bin(), tmp_path)
    for program in programs:
        subprocess.run(["python3", "-c", program], env=variables, cwd=tmp_path, check=True, timeout=60)
    (tmp_path / "kit.py").write_text(programs[1])
    with subprocess.Popen(
        ["python3", "-m", "uvicorn", "kit:app", "--port", "0"],
        env=variables,
        cwd=tmp_path,
        stderr=subprocess.PIPE,
        text=True,
    ) as server:
        (address,) = next(found for line in server.stderr if (found := re.findall(r"running on (http://\S+)", line)))
        assert httpx.get(f"{address}/v2/health/ready").status_code == 200
        server.terminate()


def test_the_page_about_the_library_names_every_option() -> None:
    text = (ROOT / "docs" / "library.md").read_text()
    listed = re.search(r"Keyword arguments are.*?`log_inputs`", text, re.DOTALL)
    assert listed
    assert re.findall(r"`(\w{4,})`", listed[0]) == list(Options.__annotations__)
