"""What is tried with each client, on which kit, and what has to come of it; docs/clients.md is written from it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple


class Client(NamedTuple):
    """A client, and the call of it that its own documentation shows first."""

    environment: str
    """One of `environments.NAMES`; empty: a program of this machine."""
    package: str
    """As requirements pin it, or the program."""
    call: str


CLIENTS = {
    "tritonclient.http": Client("triton", "tritonclient", "InferenceServerClient(url).infer(model, inputs)"),
    "tritonclient.http.aio": Client("triton", "tritonclient", "await client.infer(model, inputs)"),
    "tritonclient.grpc": Client("triton", "tritonclient", "InferenceServerClient(url).infer(model, inputs)"),
    "tritonclient.grpc.aio": Client("triton", "tritonclient", "await client.infer(model, inputs)"),
    "grpc.health.v1": Client("triton", "grpcio-health-checking", 'HealthStub(channel).Check(service="")'),
    "gRPC reflection": Client("triton", "grpcio-reflection", "ProtoReflectionDescriptorDatabase(channel)"),
    "kserve REST v2": Client("kserve", "kserve", "await InferenceRESTClient(config).infer(url, request, model_name=model)"),
    "kserve REST v1": Client("kserve", "kserve", 'await client.infer(url, {"instances": rows}, model_name=model)'),
    "kserve gRPC": Client("kserve", "kserve", "await InferenceGRPCClient(url).infer(request)"),
    "mlserver codecs": Client("mlserver", "mlserver", "requests.post(url, json=PandasCodec.encode_request(frame).dict())"),
    "mlserver infer": Client("mlserver", "mlserver", "mlserver infer -u URL -m MODEL -i IN -o OUT"),
    "requests": Client("triton", "requests", "requests.post(url, json=body)"),
    "httpx": Client("triton", "httpx", "httpx.post(url, json=body)"),
    "aiohttp": Client("triton", "aiohttp", "await session.post(url, json=body)"),
    "curl": Client("", "curl", "curl URL -d BODY"),
    "fetch of node": Client("", "node", "await fetch(url, {method: \"POST\", body})"),
    "fetch of a page": Client("", "chromium", "await fetch(url, {method: \"POST\", headers, body})"),
}  # fmt: skip

SCRIPTS = {
    "tritonclient.http": "triton_http",
    "tritonclient.http.aio": "triton_http_aio",
    "tritonclient.grpc": "triton_grpc",
    "grpc.health.v1": "triton_grpc",
    "gRPC reflection": "triton_grpc",
    "tritonclient.grpc.aio": "triton_grpc_aio",
    "kserve REST v2": "kserve_sdk",
    "kserve REST v1": "kserve_sdk",
    "kserve gRPC": "kserve_sdk",
    "mlserver codecs": "mlserver_codecs",
    "mlserver infer": "mlserver_codecs",
    "requests": "plain_python",
    "httpx": "plain_python",
    "aiohttp": "plain_python",
}
"""The module of scripts/ that holds a client's functions; other clients are programs, which test_clients.py runs."""

RIGHT = "right"
"""As a wanted value: the outputs are those of the kit's golden answer."""


class Case(NamedTuple):
    """One call of a client."""

    client: str
    tried: str
    function: str
    want: Mapping[str, Any]
    kit: str = "iris-onnx"
    row: int = 0
    """Of the table in section 13 of the protocol's reference (`ROWS`); 0: none."""
    golden: int = 0
    """Which of the kit's golden cases."""

    @property
    def id(self) -> str:
        """As pytest names it."""
        row = f"row{self.row:02}-" if self.row else ""
        return f"{row}{self.client.replace(' ', '-')}-{self.function}-{self.kit}"


ROWS = (
    "tritonclient.http live, ready, metadata",
    "tritonclient.http infer, JSON inputs",
    "tritonclient.http infer, binary inputs (the default)",
    "tritonclient.http BYTES that are not UTF-8, binary",
    "tritonclient.http gzip and deflate requests",
    "tritonclient.http repository index",
    'tritonclient.http model_version="1"',
    "tritonclient.http any error of the framework (404, 405)",
    "tritonclient.http.aio, JSON inputs",
    "tritonclient.http.aio, binary inputs",
    "tritonclient.grpc infer (FP32, FP16, BYTES, gzip)",
    "tritonclient.grpc 12 MB tensor",
    "tritonclient.grpc stream",
    "grpc.health.v1",
    "kserve REST v2 live, ready",
    "kserve REST v2 infer, binary",
    "kserve REST v1",
    "kserve gRPC (contents and raw)",
)

OUT = {"outputs": RIGHT}
BINARY = {"outputs": RIGHT, "binary": True}
JSON = {"outputs": RIGHT, "binary": False}
TWO_WAYS = {"gzip": OUT, "deflate": OUT}
NOT_TEXT = ["fffe00", "", b"plain".hex()]
KNOWN = {"statistics": "iris-onnx", "config": "iris-onnx"}
UP = {"live": True, "ready": True, "model_ready": True}

CASES = (
    Case("tritonclient.http", "health and metadata", "pages", {**UP, "other_ready": False, "model": "iris-onnx",
         "server": ["extensions", "name", "version"],
         "inputs": [{"name": "X", "datatype": "FP32", "shape": [-1, 4]}]}, row=1),
    Case("tritonclient.http", "JSON", "as_json", JSON, row=2),
    Case("tritonclient.http", "JSON, all datatypes", "as_json", JSON, kit="dtypes"),
    Case("tritonclient.http", "binary, its default", "as_binary", BINARY, row=3),
    Case("tritonclient.http", "binary, all datatypes", "as_binary", BINARY, kit="dtypes"),
    Case("tritonclient.http", "JSON in, binary out", "json_in_binary_out", BINARY, kit="dtypes"),
    Case("tritonclient.http", "binary in, JSON out", "binary_in_json_out", JSON, kit="dtypes"),
    Case("tritonclient.http", "a form for each output", "one_of_each", {"outputs": RIGHT, "forms": [True, False]}),
    Case("tritonclient.http", "bytes that are not UTF-8", "bytes_that_are_no_text", {"hex": NOT_TEXT}, kit="echo", row=4),
    Case("tritonclient.http", "no elements", "no_elements", {"shape": [0]}, kit="echo"),
    Case("tritonclient.http", "gzip and deflate requests", "compressed_json", {"gzip": JSON, "deflate": JSON}, row=5),
    Case("tritonclient.http", "the same, binary", "compressed_binary", {"gzip": BINARY, "deflate": BINARY}, kit="dtypes"),
    Case("tritonclient.http", "gzip and deflate answers", "compressed_answers", TWO_WAYS, kit="dtypes"),
    Case("tritonclient.http", "repository index", "index", {"models": [["iris-onnx", "READY", ""]]}, row=6),
    Case("tritonclient.http", "versions", "version", {"outputs": RIGHT, "ready": True, "model": "iris-onnx", "other": 1},
         row=7),
    Case("tritonclient.http", "errors", "errors", dict.fromkeys(("unknown", "shape", "method", "path"), 1), row=8),
    Case("tritonclient.http", "statistics", "statistics", {"model": "iris-onnx", "rows": 3, "runs": 1, "success": 1,
         "models": 1}),
    Case("tritonclient.http", "configuration", "config", {"name": "iris-onnx", "shape": [-1, 4], "type": "TYPE_FP32"}),
    Case("tritonclient.http", "logging settings", "log_settings", {"info": True, "refused": 1}),
    Case("tritonclient.http", "trace settings", "trace_settings", {"kind": "dict"}),
    Case("tritonclient.http", "classification", "classification", {"shape": [3, 2], "first": ["0", "1", "2"]}),

    Case("tritonclient.http.aio", "health and metadata", "pages", {**UP, "model": "iris-onnx"}),
    Case("tritonclient.http.aio", "JSON", "as_json", JSON, row=9),
    Case("tritonclient.http.aio", "JSON, all datatypes", "as_json", JSON, kit="dtypes"),
    Case("tritonclient.http.aio", "binary, its default", "as_binary", BINARY, row=10),
    Case("tritonclient.http.aio", "binary, all datatypes", "as_binary", BINARY, kit="dtypes"),
    Case("tritonclient.http.aio", "compression", "compressed",
         {f"{way}-{name}": BINARY for way in ("request", "response") for name in ("gzip", "deflate")}),
    Case("tritonclient.http.aio", "index, statistics, configuration, settings", "management",
         {**KNOWN, "index": ["iris-onnx"], "log": "dict", "trace": "dict"}),
    Case("tritonclient.http.aio", "classification", "classification", {"first": ["0", "1", "2"]}),

    Case("tritonclient.grpc", "health and metadata", "pages", {**UP, "model": "iris-onnx", "datatypes": ["FP32"],
         "server": ["name", "version"], "unknown": "StatusCode.NOT_FOUND", "unknown_ready": "StatusCode.NOT_FOUND"}),
    Case("tritonclient.grpc", "tensors", "infer", OUT),
    Case("tritonclient.grpc", "all datatypes", "infer", OUT, kit="dtypes"),
    Case("tritonclient.grpc", "all datatypes, gzip and deflate", "compressed", TWO_WAYS, kit="dtypes",
         row=11),
    Case("tritonclient.grpc", "bytes that are not UTF-8", "bytes_that_are_no_text", {"hex": NOT_TEXT[:2]}, kit="echo"),
    Case("tritonclient.grpc", "a tensor of 12 MB", "twelve_megabytes", {"rows": 786432, "first": [0, 1, 2], "kinds": 3}, row=12),
    Case("tritonclient.grpc", "a stream, with a wrong request in it", "stream",
         {"first": OUT, "second": "refused", "third": OUT}, row=13),
    Case("tritonclient.grpc", "repository index", "index", {"index": ["iris-onnx"]}),
    Case("tritonclient.grpc", "statistics, configuration", "management", KNOWN),
    Case("tritonclient.grpc", "settings", "settings", {"log": "dict", "trace": "dict"}),
    Case("tritonclient.grpc", "classification", "classification", {"first": ["0", "1", "2"]}),
    Case("tritonclient.grpc", "deadlines", "deadline", {"outputs": RIGHT, "late": "StatusCode.DEADLINE_EXCEEDED",
         "too_late": "StatusCode.DEADLINE_EXCEEDED"}),
    Case("grpc.health.v1", "the server and its service", "health", {"states": ["SERVING"] * 2, "unknown": "NOT_FOUND"}, row=14),
    Case("gRPC reflection", "services and their files", "reflection", {"infer": True,
         "services": ["grpc.health.v1.Health", "inference.GRPCInferenceService"]}),
    Case("tritonclient.grpc.aio", "health and metadata", "pages", {**UP, "model": "iris-onnx",
         "unknown": "StatusCode.NOT_FOUND"}),
    Case("tritonclient.grpc.aio", "all datatypes", "infer", OUT, kit="dtypes"),
    Case("tritonclient.grpc.aio", "gzip and deflate", "compressed", TWO_WAYS),
    Case("tritonclient.grpc.aio", "a stream", "stream", {"first": OUT, "second": OUT}),
    Case("tritonclient.grpc.aio", "repository index", "index", {"index": ["iris-onnx"]}),
    Case("tritonclient.grpc.aio", "statistics, configuration", "management", KNOWN),

    Case("kserve REST v2", "health", "v2_pages", UP, row=15),
    Case("kserve REST v2", "errors", "v2_errors", {"unknown": 404, "shape": 400}),
    Case("kserve REST v2", "JSON", "v2_json", OUT),
    Case("kserve REST v2", "a dictionary", "v2_dict", OUT, kit="dtypes"),
    Case("kserve REST v2", "binary in, both forms out", "v2_binary", {"default": OUT, "binary": OUT},
         row=16),
    Case("kserve REST v2", "binary, all datatypes", "v2_binary", {"default": OUT, "binary": OUT}, kit="dtypes"),
    Case("kserve REST v1", "rows", "v1_predict", {"outputs": RIGHT, "ready": True}, row=17),
    Case("kserve REST v1", "rows as objects, for columns", "v1_objects",
         {"predictions": ["survived", "died", "survived"]}, kit="titanic-sklearn"),
    Case("kserve REST v1", "errors", "v1_errors", {"explain": 501, "unknown": 404, "no_key": 400, "live": True}),
    Case("kserve gRPC", "contents and raw", "grpc_infer", {"contents": OUT, "raw": OUT, **UP, "unknown": "NOT_FOUND"}, row=18),
    Case("kserve gRPC", "all datatypes", "grpc_raw", OUT, kit="dtypes"),

    Case("mlserver codecs", "np", "np_inputs", OUT),
    Case("mlserver codecs", "np, of the request", "np_request", OUT),
    Case("mlserver codecs", "pd", "pandas_frame", {"rows": 3, "predict": ["survived", "died", "survived"]},
         kit="titanic-sklearn"),
    Case("mlserver codecs", "pd, said in the answer", "pandas_kinds", {"content_type": "pd"}, kit="titanic-sklearn"),
    Case("mlserver codecs", "pd_json", "pandas_objects", {"kinds": ["pd_json", "str"],
         "predict": ["survived", "died", "survived"]}, kit="titanic-sklearn"),
    Case("mlserver codecs", "str, in and out", "string_output", {"texts": ["é", ""]}, kit="echo"),
    Case("mlserver codecs", "str, of the request", "string_request", {"texts": ["é", ""]}, kit="echo"),
    Case("mlserver codecs", "base64", "base64_input", {"texts": ["no base64 by itself!", ""]}, kit="echo"),
    Case("mlserver codecs", "datetime", "datetime_input", {"texts": ["2026-05-01T12:30:00", "1969-07-20T00:00:00"]},
         kit="echo"),
    Case("mlserver codecs", "answers as they are asked for", "answers_as_asked",
         {"str": ["2026-05-01"], "base64": ["2026-05-01"], "datetime": ["2026-05-01T00:00:00"], "pd_json": ["2026-05-01"]},
         kit="echo"),
    Case("mlserver infer", "a file of requests", "infer_json", {"outputs": RIGHT, "lines": 2}),
    Case("mlserver infer", "binary", "infer_binary", {"outputs": RIGHT, "lines": 2}),
    Case("mlserver infer", "in batches", "infer_in_batches", {"outputs": RIGHT, "lines": 2}),

    Case("requests", "JSON", "by_requests", OUT, kit="dtypes"),
    Case("requests", "many on one connection", "session", {"outputs": RIGHT, "statuses": [200]}),
    Case("requests", "gzip, zlib and raw deflate", "packed", {"gzip": OUT, "zlib": OUT, "raw": OUT}),
    Case("requests", "a tensor's bytes and no JSON", "raw_bytes", {"label": 0}),
    Case("requests", "a list of rows", "plain_instances", {"status": 200}),
    Case("requests", "OpenAPI", "open_api", {"openapi": "3.1", "infer": True}),
    Case("httpx", "JSON", "by_httpx", OUT, kit="dtypes"),
    Case("httpx", "twenty at once", "at_once", {"outputs": RIGHT, "statuses": [200]}),
    Case("aiohttp", "JSON", "by_aiohttp", OUT, kit="dtypes"),
    Case("curl", "JSON without a content type", "curl_json", OUT, kit="dtypes"),
    Case("curl", "a compressed answer", "curl_compressed", OUT),
    Case("curl", "KServe v1, with `%3A` too", "curl_v1", {"literal": 3, "quoted": 3}),
    Case("fetch of node", "with and without a content type", "node_fetch", {"plain": OUT, "typed": OUT}),
    Case("fetch of a page", "of an origin that is allowed", "page_allowed", OUT),
    Case("fetch of a page", "of any other origin: refused", "page_refused", {"refused": "TypeError"}),
)  # fmt: skip
