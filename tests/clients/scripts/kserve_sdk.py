"""KServe's InferenceRESTClient and InferenceGRPCClient."""

import grpc
import httpx
from kserve import InferenceGRPCClient, InferenceRESTClient, InferInput, InferRequest, RESTConfig
from tensors import array, flat


def request_of(at, *, binary, **options):
    made = []
    for tensor in at.request["inputs"]:
        made.append(InferInput(tensor["name"], tensor["shape"], tensor["datatype"]))
        made[-1].set_data_from_numpy(array(tensor), binary_data=binary)
    return InferRequest(model_name=at.model, infer_inputs=made, **options)


def outputs_of(answer):
    return {output.name: flat(output.as_numpy()) for output in answer.outputs}


def v1():
    return InferenceRESTClient(RESTConfig(protocol="v1"))


def v2():
    return InferenceRESTClient(RESTConfig(protocol="v2"))


async def refused(call, *arguments):
    """The status of an error, whose message has to come through."""
    try:
        await call(*arguments)
    except httpx.HTTPStatusError as error:
        return error.response.status_code if not str(error).startswith(",") else str(error)
    raise AssertionError("not refused")


async def v2_pages(at):
    client = v2()
    return {
        "live": await client.is_server_live(at.url),
        "ready": await client.is_server_ready(at.url),
        "model_ready": await client.is_model_ready(at.url, at.model),
    }


async def v2_errors(at):
    client, wrong = v2(), {"inputs": [{"name": "X", "shape": [1, 3], "datatype": "FP32", "data": [1, 2, 3]}]}
    return {
        "unknown": await refused(client.infer, at.url, wrong, "nobody"),
        "shape": await refused(client.infer, at.url, wrong, at.model),
    }


async def v2_json(at):
    answer = await v2().infer(at.url, request_of(at, binary=False), model_name=at.model)
    return {"outputs": outputs_of(answer)}


async def v2_dict(at):
    answer = await v2().infer(at.url, at.request, model_name=at.model)
    return {"outputs": outputs_of(answer)}


async def v2_binary(at):
    answer = await v2().infer(at.url, request_of(at, binary=True), model_name=at.model)
    wanted = request_of(at, binary=True, parameters={"binary_data_output": True})
    return {
        "default": {"outputs": outputs_of(answer)},
        "binary": {"outputs": outputs_of(await v2().infer(at.url, wanted, model_name=at.model))},
    }


async def v1_predict(at):
    client, rows = v1(), array(at.request["inputs"][0]).tolist()
    answer = await client.infer(at.url, {"instances": rows}, model_name=at.model)
    columns = {name: [] for name in at.outputs}
    for row in answer["predictions"]:
        for name, value in row.items():
            columns[name] += value if isinstance(value, list) else [value]
    return {"outputs": columns, "ready": await client.is_model_ready(at.url, at.model)}


async def v1_objects(at):
    columns = at.request["inputs"]
    rows = [dict(zip((each["name"] for each in columns), values, strict=True))
            for values in zip(*(each["data"] for each in columns), strict=True)]  # fmt: skip
    answer = await v1().infer(at.url, {"instances": rows}, model_name=at.model)
    return {"predictions": answer["predictions"]}


async def v1_errors(at):
    client = v1()
    return {
        "explain": await refused(client.explain, at.url, at.model, {"instances": [[1, 2, 3, 4]]}),
        "unknown": await refused(client.infer, at.url, {"instances": [[1]]}, "nobody"),
        "no_key": await refused(client.infer, at.url, {"rows": [[1, 2, 3, 4]]}, at.model),
        "live": await client.is_server_live(at.url),
    }


async def grpc_infer(at):
    async with InferenceGRPCClient(url=at.grpc) as client:
        seen = {
            "contents": {"outputs": outputs_of(await client.infer(request_of(at, binary=False)))},
            "raw": {"outputs": outputs_of(await client.infer(request_of(at, binary=True)))},
            "live": await client.is_server_live(),
            "ready": await client.is_server_ready(),
            "model_ready": await client.is_model_ready(at.model),
        }
        try:
            await client.is_model_ready("nobody")
        except grpc.RpcError as error:
            seen["unknown"] = error.code().name
    return seen


async def grpc_raw(at):
    async with InferenceGRPCClient(url=at.grpc) as client:
        return {"outputs": outputs_of(await client.infer(request_of(at, binary=True)))}
