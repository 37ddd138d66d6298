"""MLServer's content types over gRPC: what they mean over HTTP."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest

from adapters.values import DTYPES
from runtime.errors import InvalidInput
from runtime.serving.protocol.grpc.codec import GRPC
from runtime.serving.protocol.grpc.contents import FIELDS
from runtime.serving.protocol.grpc.typed import LONG
from runtime.serving.protocol.tensor_bytes import bytes_from
from runtime.serving.protocol.v2.codec import V2_JSON
from tests.serving.protocol.grpc.test_codec import ALL, Answer, Infer
from tests.serving.protocol.test_content_types import column
from tests.serving.protocol.v2.tensors import objects
from tests.serving.support import app_of, echo

MATRIX = echo("FP32", (-1, 2), properties={"columns": '["b", "a"]'})
LONG_TEXTS = ["YWJj"] * LONG
REQUESTS: list[tuple[Any, list[dict[str, Any]], dict[str, Any]]] = [
    (echo("BYTES"), [column("x", "BYTES", ["YQ==", "no base64!"], content_type="base64")], {}),
    (echo("BYTES"), [column("x", "BYTES", LONG_TEXTS, content_type="base64")], {}),
    (echo("BYTES"), [column("x", "BYTES", ["2026-11-27"], content_type="datetime")], {}),
    (echo("FP64"), [column("x", "BYTES", ["1.5", "2"], content_type="pd_json")], {}),
    (MATRIX, [column("a", "INT64", [1, 3]), column("b", "FP64", [2.0, 4.0])], {"parameters": {"content_type": "pd"}}),
    (echo("INT64"), [column("x", "INT64", [7])], {"parameters": {"content_type": "np"}}),
    (echo("BYTES"), [column("x", "BYTES", ["a"])], {"parameters": {"content_type": "str"}}),
    *((echo("BYTES"), [column("x", "BYTES", ["2026-11-27"])],
       {"outputs": [{"name": "y", "parameters": {"content_type": kind}}]})
      for kind in ("str", "base64", "datetime", "pd_json")),
    (echo("INT64"), [column("x", "INT64", [7])], {"outputs": [{"name": "y", "parameters": {"content_type": "pd_json"}}]}),
]  # fmt: skip


def over_grpc(given: dict[str, Any], *, raw: bool) -> Any:
    message = Infer(model_name="iris", parameters=as_map(given.get("parameters", {})))
    for tensor in given["inputs"]:
        values = [text.encode() if isinstance(text, str) else text for text in tensor["data"]]
        sent = message.inputs.add(name=tensor["name"], datatype=tensor["datatype"], shape=tensor["shape"],
                                  parameters=as_map(tensor.get("parameters", {})))  # fmt: skip
        if raw:
            is_text = tensor["datatype"] == "BYTES"
            array = objects(values) if is_text else np.array(values, DTYPES[tensor["datatype"]])
            message.raw_input_contents.append(bytes(bytes_from("x", array)))
        else:
            getattr(sent.contents, FIELDS[tensor["datatype"]]).extend(values)
    for output in given.get("outputs", ()):
        message.outputs.add(name=output["name"], parameters=as_map(output["parameters"]))
    return message


def as_map(parameters: dict[str, str]) -> dict[str, Any]:
    return {name: {"string_param": text} for name, text in parameters.items()}


def kinds_of(parameters: Any) -> dict[str, str]:
    return {name: value.string_param for name, value in parameters.items()}


@pytest.mark.parametrize("raw", [True, False], ids=["raw", "typed"])
@pytest.mark.parametrize(("loaded", "inputs", "members"), REQUESTS)
def test_they_mean_what_they_do_over_http(loaded: Any, inputs: Any, members: Any, raw: bool):
    served, given = app_of(loaded, codecs=ALL, warm=False).model, {"inputs": inputs, **members}
    asked = V2_JSON.decode({}, json.dumps(given).encode(), served)
    want = json.loads(V2_JSON.encode(served, asked, served.engine.predict(asked)).body)
    request = GRPC.decode({}, over_grpc(given, raw=raw).SerializeToString(), served)
    assert {name: array.tolist() for name, array in request.inputs.items()} == {
        name: array.tolist() for name, array in asked.inputs.items()
    }
    got = Answer.FromString(GRPC.encode(served, request, served.engine.predict(request)).body)
    (wanted,), (output,) = want["outputs"], got.outputs
    assert kinds_of(got.parameters) == want.get("parameters", {})
    assert (output.datatype, list(output.shape)) == (wanted["datatype"], wanted["shape"])
    assert kinds_of(output.parameters) == wanted.get("parameters", {})
    if not raw and wanted["datatype"] == "BYTES":
        assert [text.decode() for text in output.contents.bytes_contents] == wanted["data"]


def test_what_is_refused_is_refused_in_the_same_words():
    served = app_of(echo("BYTES"), codecs=ALL, warm=False).model
    given = {"inputs": [column("x", "BYTES", ["today"], content_type="datetime")]}
    for raw in (True, False):
        with pytest.raises(InvalidInput, match="element 0: content type datetime wants ISO 8601, got 'today'"):
            GRPC.decode({}, over_grpc(given, raw=raw).SerializeToString(), served)
