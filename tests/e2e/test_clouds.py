"""What docs/clouds.md says: a real server with the variables of each platform, and the requests of its contract."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from loadtests.ports import free_port
from tests.e2e.server import PATIENCE_SECONDS, Server
from tests.places import KITS, ROOT

CSV = "5.1,3.5,1.4,0.2\n6.9,3.2,5.7,2.3\n"
TRACE = "0af7651916cd43dd8448eb211c80319c"

pytestmark = pytest.mark.slow


@contextmanager
def platform(cache: Path, port_variable: str, *options: str, **environ: str) -> Iterator[tuple[Server, httpx.Client]]:
    """A server whose port the platform's variable names, and a client of that port."""
    port = free_port()
    environ[port_variable] = str(port)
    kit = f"oci:{KITS / 'iris-onnx'}:v1"
    with (
        Server(kit, "--drain-delay", "0", *options, cache=cache, port=None, **environ) as server,
        httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=PATIENCE_SECONDS) as client,
    ):
        server.ready().close()
        assert server.event("server.ready")["address"].endswith(f":{port}")
        yield server, client
        assert server.stop() == 0


def labels(rows: list[dict[str, object]]) -> list[object]:
    return [row["label"] for row in rows]


def test_sagemaker(tmp_path: Path) -> None:
    with platform(tmp_path, "SAGEMAKER_BIND_TO_PORT") as (server, client):
        assert client.get("/ping").status_code == 200
        attributes = {"X-Amzn-SageMaker-Custom-Attributes": "trace=7"}
        rows = client.post("/invocations", content=CSV, headers={"Content-Type": "text/csv", **attributes})
        assert labels(rows.json()) == [0, 2]
        asked = {"Content-Type": "text/csv", "Accept": "text/csv"}
        lines = client.post("/invocations", content=CSV, headers=asked).text.split()
        assert [line.partition(",")[0] for line in lines] == ["label", "0", "2"]
        assert client.post("/invocations", json={"instances": [[5.1, 3.5, 1.4, 0.2]]}).json()["predictions"]
        assert server.event("request.answered")["custom_attributes"] == "trace=7"


def test_sagemakers_port_is_said_to_be_understood() -> None:
    assert 'com.amazonaws.sagemaker.capabilities.accept-bind-to-port="true"' in (ROOT / "Dockerfile").read_text()
    assert '\nENTRYPOINT ["runtime"]\n' in (ROOT / "Dockerfile").read_text()  # and SageMaker's argument is `serve`


def test_vertex_ai(tmp_path: Path) -> None:
    health, predict = "/v1/endpoints/12/deployedModels/34", "/v1/endpoints/12/deployedModels/34:predict"
    routes = {"AIP_HEALTH_ROUTE": health, "AIP_PREDICT_ROUTE": predict}
    with platform(tmp_path, "AIP_HTTP_PORT", **routes) as (_, client):
        assert client.get(health).status_code == 200
        answer = client.post(
            predict, json={"instances": [[5.1, 3.5, 1.4, 0.2], [6.9, 3.2, 5.7, 2.3]], "parameters": {"k": 1}}
        )
        assert (answer.status_code, list(answer.json())) == (200, ["predictions"])
        assert labels(answer.json()["predictions"]) == [0, 2]
        refused = client.post(predict, json={"instances": [[5.1]]})
        assert refused.status_code == 400
        example = refused.json()["error"].partition("; a body that passes: ")[2]
        assert labels(client.post(predict, content=example).json()["predictions"]) == [0]  # a sample of the kit's


def test_azure_ml_and_knative_behind_a_gateway_with_a_page_of_another_origin(tmp_path: Path) -> None:
    page = (ROOT / "docs" / "clouds.md").read_text()
    routes = dict(re.findall(r"(\w+)_route: \{port: 8080, path: (\S+)\}", page))
    assert set(routes) == {"liveness", "readiness", "scoring"}
    origin = "https://app.example.com"
    options = ("--root-path", "/models/iris", "--cors-origin", origin)
    with platform(tmp_path, "PORT", *options) as (server, client):
        assert [client.get(routes[name]).status_code for name in ("liveness", "readiness")] == [200, 200]
        headers = {"Origin": origin, "X-Request-Id": "mine-7", "traceparent": f"00-{TRACE}-b7ad6b7169203331-01"}
        for path in (routes["scoring"], "/predict", "/models/iris/predict"):
            answer = client.post(path, json=[[5.1, 3.5, 1.4, 0.2]], headers=headers)
            assert labels(answer.json()) == [0]
            assert answer.headers["access-control-allow-origin"] == origin
            assert answer.headers["x-request-id"] == "mine-7"
            assert answer.headers["traceresponse"].startswith(f"00-{TRACE}-")
        asked = {"Origin": origin, "Access-Control-Request-Method": "POST"}
        assert client.options("/models/iris/predict", headers=asked).status_code == 200
        event = server.event("request.answered", count=2)
        assert (event["id"], event["trace"]) == ("mine-7", TRACE)
