import json
import subprocess

import pytest

from runtime.worker.curl import curl_line


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
        pytest.param({"inputs": [tensor(list(range(900)))]}, id="long and all different"),
        pytest.param({"inputs": [tensor([False] * 5000, "BOOL")], "id": "ä$`\\"}, id="booleans"),
    ],
)
def test_what_is_pasted_sends_the_request(request_):
    line = curl_line("m", request_)
    assert sent(line) == request_
    assert "{address}/v2/models/m/infer" in line


def test_a_long_tensor_makes_no_long_line():
    assert len(curl_line("m", {"inputs": [tensor([0] * 150_528)]})) < 300
