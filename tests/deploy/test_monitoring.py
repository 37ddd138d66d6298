"""Prometheus for real: it scrapes a running server, its alerts are tested, each dashboard expression gives data."""

from __future__ import annotations

import contextlib
import json
import re
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import promql_parser
import pytest
import yaml

from loadtests.ports import free_port
from tests.e2e.server import Server
from tests.places import ROOT

MONITORING = ROOT / "deploy/monitoring"
REQUEST = {"inputs": [{"name": "X", "datatype": "FP32", "shape": [1, 4], "data": [5.1, 3.5, 1.4, 0.2]}]}
PATIENCE_SECONDS = 60.0

pytestmark = pytest.mark.slow


def promtool(*arguments: str | Path, stdin: str | None = None) -> None:
    done = subprocess.run(
        ["promtool", *arguments], input=stdin, capture_output=True, text=True, check=False, timeout=60
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_configuration_and_the_rules_are_correct() -> None:
    promtool("check", "config", MONITORING / "prometheus.yaml")


def test_the_alerts_fire_when_they_should_and_only_then() -> None:
    promtool("test", "rules", MONITORING / "rules_test.yaml")


def test_every_alert_has_a_test() -> None:
    rules = yaml.safe_load((MONITORING / "rules.yaml").read_text())
    alerts = {rule["alert"] for group in rules["groups"] for rule in group["rules"]}
    cases = yaml.safe_load((MONITORING / "rules_test.yaml").read_text())["tests"]
    assert alerts == {test["alertname"] for case in cases for test in case["alert_rule_test"] if test["exp_alerts"]}


def test_the_events_that_alerts_speak_of_are_logged_by_the_runtime() -> None:
    named = set(re.findall(r"([a-z]+\.[a-z_]+) in the log", (MONITORING / "rules.yaml").read_text()))
    sources = "".join(path.read_text() for path in (ROOT / "runtime").rglob("*.py"))
    assert len(named) > 1
    assert [event for event in named if f'"{event}"' not in sources] == []


@pytest.fixture(scope="module")
def prometheus(tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    """A Prometheus that has scraped a server twice, with predictions in between. It is asked about the second time."""
    folder = tmp_path_factory.mktemp("prometheus")
    with Server(f"oci:{ROOT}/examples/iris-onnx:v1", cache=folder / "cache") as server, server.ready() as client:
        predict(client)
        with running_prometheus(folder, client.base_url.netloc.decode()) as asked:
            scraped(asked, requests=10)
            predict(client)
            asked.params = {"time": scraped(asked, requests=20)}  # a later scrape may fail: it has only a second
            yield asked


def predict(client: httpx.Client) -> None:
    for _ in range(10):
        client.post("/v2/models/iris-onnx/infer", json=REQUEST).raise_for_status()


@contextlib.contextmanager
def running_prometheus(folder: Path, target: str) -> Iterator[httpx.Client]:
    address = f"127.0.0.1:{free_port()}"
    configuration = yaml.safe_load((MONITORING / "prometheus.yaml").read_text())
    configuration["global"] |= {"scrape_interval": "1s", "evaluation_interval": "1s"}
    configuration["rule_files"] = [str(MONITORING / "rules.yaml")]
    configuration["scrape_configs"][0]["static_configs"] = [{"targets": [target]}]
    (folder / "prometheus.yml").write_text(yaml.safe_dump(configuration))
    options = [
        f"--config.file={folder}/prometheus.yml",
        f"--storage.tsdb.path={folder}/data",
        f"--web.listen-address={address}",
    ]
    with (folder / "log").open("w") as log:
        process = subprocess.Popen(["prometheus", *options], stdout=log, stderr=log)
    try:
        with httpx.Client(base_url=f"http://{address}/api/v1", timeout=PATIENCE_SECONDS) as client:
            yield client
    finally:
        process.kill()
        process.wait()


def values(prometheus: httpx.Client, expression: str) -> list[Any]:
    answer = prometheus.get("/query", params={"query": expression}).raise_for_status().json()
    return list(answer["data"]["result"])


def scraped(prometheus: httpx.Client, requests: int) -> str:
    """Waits for a scrape that counts so many requests; returns its time."""
    counted = 'runtime_request_duration_seconds_count{outcome="ok"}'
    expression = f"max(timestamp({counted})) and sum({counted}) >= {requests}"
    return str(asked_until(bool, lambda: values(prometheus, expression))[0]["value"][1])


def asked_until(right: Callable[[list[Any]], bool], ask: Callable[[], list[Any]]) -> list[Any]:
    """Asks until the answer is right: Prometheus tells nobody when it has scraped or evaluated."""
    deadline, answer = time.monotonic() + PATIENCE_SECONDS, None
    while time.monotonic() < deadline:
        with contextlib.suppress(httpx.TransportError, httpx.HTTPStatusError):  # it is still starting
            if right(answer := ask()):
                return answer
        time.sleep(0.1)
    raise AssertionError(f"the last answer was {answer}")


def test_prometheus_scrapes_the_server(prometheus: httpx.Client) -> None:
    assert [result["value"][1] for result in values(prometheus, "up")] == ["1"]
    (kit,) = values(prometheus, "runtime_kit_info")
    assert kit["metric"]["model"] == "iris-onnx"
    assert kit["metric"]["digest"].startswith("sha256:")


def test_a_healthy_server_raises_no_alert(prometheus: httpx.Client) -> None:
    """A rule that was evaluated before the first scrape, or after one that failed, is pending until the next time."""

    def raised() -> list[tuple[str, str, str]]:
        groups = prometheus.get("/rules").raise_for_status().json()["data"]["groups"]
        rules = [rule for group in groups for rule in group["rules"]]
        assert len(rules) == 13
        states = [(rule["name"], rule["state"], rule["health"]) for rule in rules]
        return [state for state in states if state[1:] != ("inactive", "ok")]

    asked_until(lambda alerts: alerts == [], raised)


def test_every_alert_is_of_series_values_and_labels_that_a_server_has(prometheus: httpx.Client) -> None:
    for rule in yaml.safe_load((MONITORING / "rules.yaml").read_text())["groups"][0]["rules"]:
        expression, texts = rule["expr"], " ".join(rule["annotations"].values())
        series = [
            result["metric"]
            for name in re.findall(r"\b(?:up\b|(?:runtime|process)_\w+)", expression)
            for result in values(prometheus, name) or pytest.fail(f"{rule['alert']}: there is no {name}")
        ]
        grouped = re.search(r"by \((.*?)\)", expression)
        labels = set(grouped[1].split(", ")) if grouped else set(series[0])
        assert set(re.findall(r"\$labels\.(\w+)", texts)) <= labels <= {name for metric in series for name in metric}, (
            rule
        )
        for label, wanted in re.findall(r'(\w+)=~?"([\w|]+)"', expression):
            known = {metric[label] for metric in series} | (
                {"true", "receipt", "false"} if label == "verified" else set()
            )
            assert set(wanted.split("|")) <= known, rule


def expressions() -> list[tuple[str, str]]:
    dashboard = json.loads((MONITORING / "dashboard.json").read_text())
    return [(panel["title"], target["expr"]) for panel in dashboard["panels"] for target in panel["targets"]]


def filled_in(expression: str) -> str:
    return re.sub(r"\$(model|instance)\b", ".*", expression.replace("$__rate_interval", "1m"))


def queries() -> list[str]:
    """Those that the page about metrics shows, each with its meaning behind it."""
    page = (ROOT / "docs/metrics.md").read_text()
    return [line.partition("  ")[0] for line in re.findall(r"^    (\S.*)$", page, re.MULTILINE)]


@pytest.mark.parametrize(
    "expression",
    [
        *(pytest.param(expr, id=f"{title} {n}") for n, (title, expr) in enumerate(expressions())),
        *(pytest.param(query, id=f"metrics.md {n}") for n, query in enumerate(queries())),
    ],
)
def test_every_expression_of_the_dashboard_and_the_page_gives_data(prometheus: httpx.Client, expression: str) -> None:
    promql_parser.parse(filled_in(expression))
    assert values(prometheus, filled_in(expression)) != []
