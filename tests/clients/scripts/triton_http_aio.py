"""tritonclient.http.aio."""

from tensors import flat
from triton_http import inputs_of, outputs_of
from tritonclient.http import InferRequestedOutput
from tritonclient.http.aio import InferenceServerClient
from tritonclient.utils import InferenceServerException


async def infer(at, *, binary, **options):
    async with InferenceServerClient(at.address) as client:
        if not binary:
            options["outputs"] = [InferRequestedOutput(name, binary_data=False) for name in at.outputs]
        result = await client.infer(at.model, inputs_of(at.request, binary=binary), **options)
        return {"outputs": outputs_of(at.request, result), "binary": "data" not in result.get_response()["outputs"][0]}


async def as_json(at):
    return await infer(at, binary=False)


async def as_binary(at):
    return await infer(at, binary=True)


async def compressed(at):
    options = [(way, name) for way in ("request", "response") for name in ("gzip", "deflate")]
    return {f"{way}-{name}": await infer(at, binary=True, **{f"{way}_compression_algorithm": name})
            for way, name in options}  # fmt: skip


async def pages(at):
    async with InferenceServerClient(at.address) as client:
        try:
            await client.get_model_metadata("nobody")
        except InferenceServerException as error:
            refused = error.message()
        return {
            "live": await client.is_server_live(),
            "ready": await client.is_server_ready(),
            "model_ready": await client.is_model_ready(at.model),
            "server": sorted(await client.get_server_metadata()),
            "model": (await client.get_model_metadata(at.model))["name"],
            "refused": refused,
        }


async def management(at):
    async with InferenceServerClient(at.address) as client:
        return {
            "index": [each["name"] for each in await client.get_model_repository_index()],
            "statistics": (await client.get_inference_statistics(at.model))["model_stats"][0]["name"],
            "config": (await client.get_model_config(at.model))["name"],
            "log": type(await client.get_log_settings()).__name__,
            "trace": type(await client.get_trace_settings()).__name__,
        }


async def classification(at):
    wanted = [InferRequestedOutput("probabilities", class_count=1)]
    async with InferenceServerClient(at.address) as client:
        result = await client.infer(at.model, inputs_of(at.request, binary=True), outputs=wanted)
    return {"first": [text.split(":")[1] for text in flat(result.as_numpy("probabilities"))]}
