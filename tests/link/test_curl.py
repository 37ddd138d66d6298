import json
import subprocess

import pytest

from runtime.link.curl import curl_line, shown
from runtime.link.messages import LONGEST_TEXT

ADDRESS = "http://127.0.0.1:8080"


FETCHED = f"curl -s {ADDRESS}/v2/models/m/example | curl -s {ADDRESS}/v2/models/m/infer -d @-"


def sent(line: str) -> object:
    """What the line would send, with `curl` replaced by a function that shows its body."""
    shell = subprocess.run(
        ["bash", "-c", f'curl() {{ printf %s "$4"; }}; {line}'], capture_output=True, text=True, check=True
    )
    return json.loads(shell.stdout)


def tensor(data, datatype="FP32"):
    return {"name": "it's", "shape": [len(data)], "datatype": datatype, "data": data}


@pytest.mark.parametrize(
    "request_",
    [
        pytest.param({"inputs": [tensor([0, 0])]}, id="short"),
        pytest.param({"inputs": [tensor([5.1, None, 1e-7])]}, id="as a person wrote them"),
        pytest.param({"inputs": [tensor([False] * 5, "BOOL")], "id": "ä$`\\"}, id="booleans"),
        pytest.param({"inputs": [tensor([[[0, 1]], [[2, 3]]])]}, id="nested"),
    ],
)
def test_what_is_pasted_sends_the_request(request_):
    line = curl_line(ADDRESS, "m", shown(request_))
    assert sent(line) == request_
    assert f"{ADDRESS}/v2/models/m/infer" in line


def test_a_long_request_is_fetched_from_the_server():
    request = {"inputs": [tensor([number / 7 for number in range(500_000)])]}
    assert shown(request) == ""
    assert curl_line(ADDRESS, "m", shown(request)) == FETCHED


@pytest.mark.parametrize(
    "example",
    ["null", "[]", "{}", '{"inputs": 1}', "[" * 2000, "$(touch x)", "\x00", json.dumps({"inputs": ["x" * 400]})],
    ids=lambda example: repr(example[:40]),
)
def test_an_example_that_is_none_is_fetched_from_the_server(example):
    assert curl_line(ADDRESS, "m", example) == FETCHED


@pytest.mark.parametrize(
    "text", ["'; touch pwned; '", "$(touch pwned)", "`touch pwned`", "\n touch pwned \n", '") or exec("']
)
def test_no_word_of_a_worker_reaches_the_shell(text, tmp_path):
    request = {"inputs": [{"name": text, "data": [text, text]}], text: text}
    line = curl_line(ADDRESS, "m", json.dumps(request))
    shell = subprocess.run(
        ["bash", "-c", f'curl() {{ printf %s "$4"; }}; {line}'], capture_output=True, text=True, cwd=tmp_path
    )
    assert json.loads(shell.stdout) == request
    assert list(tmp_path.iterdir()) == []


def test_an_example_fits_its_message():
    assert len(shown({"inputs": [tensor(["x"] * 1490)], "id": "y" * 1400})) <= LONGEST_TEXT
