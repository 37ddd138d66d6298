"""The real clients against real servers: every case of cases.py, and with them every row of the reference's table."""

from __future__ import annotations

import math
from typing import Any

import pytest

from tests.clients import programs
from tests.clients.cases import CASES, CLIENTS, RIGHT, ROWS, SCRIPTS, Case
from tests.clients.drivers import Drivers
from tests.clients.servers import Servers
from tests.expected import cases

pytestmark = pytest.mark.slow
ECHO = {"request": {"inputs": []}, "outputs": [], "rtol": 0, "atol": 0}


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.id)
def test_a_client_gets_what_is_right(case: Case, servers: Servers, drivers: Drivers) -> None:
    golden = ECHO if case.kit == "echo" else cases(case.kit)[case.golden]
    address = servers.address(case.kit)
    if case.client in SCRIPTS:
        order = {
            "function": case.function,
            "url": address.url,
            "address": address.url.removeprefix("http://"),
            "grpc": address.grpc,
            "model": case.kit,
            "request": golden["request"],
            "outputs": [output["name"] for output in golden["outputs"]],
        }
        got = drivers.run(CLIENTS[case.client].environment, SCRIPTS[case.client], order)
    else:
        got = getattr(programs, case.function)(servers, case.kit, golden["request"])
    assert isinstance(got, dict)
    check(got, case.want, golden)


def check(got: dict[str, Any], want: Any, golden: dict[str, Any]) -> None:
    """Everything that is wanted is there; further facts are let be."""
    for name, value in want.items():
        if value == RIGHT:
            for output in golden["outputs"]:
                for seen, right in zip(got[name][output["name"]], output["data"], strict=True):
                    assert close(seen, right, golden), (output["name"], seen, right)
        elif isinstance(value, dict):
            check(got[name], value, golden)
        else:
            assert got[name] == value, name


def close(seen: Any, right: Any, golden: dict[str, Any]) -> bool:
    if isinstance(right, float):
        return math.isclose(seen, right, rel_tol=golden["rtol"], abs_tol=golden["atol"])
    return bool(seen == right)


def test_every_row_of_the_reference_has_its_case() -> None:
    assert sorted(case.row for case in CASES if case.row) == list(range(1, len(ROWS) + 1))


def test_every_client_has_a_case() -> None:
    assert {case.client for case in CASES} == set(CLIENTS)
    assert len({case.id for case in CASES}) == len(CASES)
