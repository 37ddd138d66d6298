import json
import subprocess

import pytest

from runtime.link.curl import curl_line, shown
from runtime.link.messages import LONGEST_TEXT

ADDRESS = "http://127.0.0.1:8080"


def sent(line: str) -> object:
    """What the line would send, with `curl` replaced by a function that shows its body."""
    function = 'curl() { if [ "$4" = "@-" ]; then cat; else printf %s "$4"; fi; }'
    shell = subprocess.run(["bash", "-c", f"{function}; {line}"], capture_output=True, text=True, check=True)
    return json.loads(shell.stdout)


def tensor(data, datatype="FP32"):
    return {"name": "it's", "shape": [len(data)], "datatype": datatype, "data": data}


@pytest.mark.parametrize(
    "request_",
    [
        pytest.param({"inputs": [tensor([0, 0])]}, id="short"),
        pytest.param({"inputs": [tensor([0] * 5000), tensor([""] * 3000, "BYTES")]}, id="long and the same"),
        pytest.param({"inputs": [tensor(list(range(300))), tensor([None] * 5000)]}, id="partly the same"),
        pytest.param({"inputs": [tensor([False] * 5000, "BOOL")], "id": "ä$`\\"}, id="booleans"),
        pytest.param({"inputs": [tensor([0, 0])], "id": '"repeated"'}, id="the word of the short form"),
        pytest.param({"inputs": [tensor([[[0, 1]], [[2, 3]]])]}, id="nested"),
    ],
)
def test_what_is_pasted_sends_the_request(request_):
    line = curl_line(ADDRESS, "m", shown(request_))
    assert sent(line) == request_
    assert f"{ADDRESS}/v2/models/m/infer" in line


def test_a_long_tensor_makes_no_long_line():
    assert len(curl_line(ADDRESS, "m", shown({"inputs": [tensor([0] * 150_528)]}))) < 300


def test_of_a_request_that_stays_long_only_the_address_is_shown():
    request = {"inputs": [tensor([number / 7 for number in range(500_000)])]}
    assert shown(request) == ""
    assert curl_line(ADDRESS, "m", shown(request)) == f"curl -s {ADDRESS}/v2/models/m"


@pytest.mark.parametrize(
    "example",
    [
        "null", "[]", "{}", '{"inputs": 1}', '{"inputs": [1]}', '{"inputs": [{}]}', "[" * 2000, "$(touch x)", "\x00",
        '{"inputs": [{"data": {"repeated": 1, "times": "x"}}]}', '{"inputs": [{"data": {"repeated": 1}}]}',
        '{"inputs": [{"data": {"repeated": 1, "times": 1e999}}]}',
    ],
    ids=lambda example: repr(example[:40]),
)  # fmt: skip
def test_an_example_that_is_none_shows_the_address(example):
    assert curl_line(ADDRESS, "m", example) == f"curl -s {ADDRESS}/v2/models/m"


@pytest.mark.parametrize(
    "text", ["'; touch pwned; '", "$(touch pwned)", "`touch pwned`", "\n touch pwned \n", '") or exec("']
)
@pytest.mark.parametrize("repeated", [False, True])
def test_no_word_of_a_worker_reaches_the_shell(text, repeated, tmp_path):
    data = {"repeated": text, "times": 2} if repeated else [text, text]
    example = json.dumps({"inputs": [{"name": text, "data": data}], text: text})
    line = curl_line(ADDRESS, "m", example)
    function = 'curl() { if [ "$4" = "@-" ]; then cat; else printf %s "$4"; fi; }'
    shell = subprocess.run(["bash", "-c", f"{function}; {line}"], capture_output=True, text=True, cwd=tmp_path)
    assert json.loads(shell.stdout) == {"inputs": [{"name": text, "data": [text, text]}], text: text}
    assert list(tmp_path.iterdir()) == []


def test_an_example_fits_its_message():
    assert len(shown({"inputs": [tensor(["x"] * 1490)], "id": "y" * 1400})) <= LONGEST_TEXT
