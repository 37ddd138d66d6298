"""tritonclient.grpc.aio."""

from triton_grpc import inputs_of, outputs_of
from tritonclient.grpc.aio import InferenceServerClient
from tritonclient.utils import InferenceServerException


async def infer(at):
    async with InferenceServerClient(at.grpc) as client:
        return {"outputs": outputs_of(await client.infer(at.model, inputs_of(at.request)))}


async def compressed(at):
    async with InferenceServerClient(at.grpc) as client:
        return {name: {"outputs": outputs_of(await client.infer(at.model, inputs_of(at.request), compression_algorithm=name))}
                for name in ("gzip", "deflate")}  # fmt: skip


async def stream(at):
    async def requests():
        for _ in range(2):
            yield {"model_name": at.model, "inputs": inputs_of(at.request)}

    async with InferenceServerClient(at.grpc) as client:
        seen = []
        async for result, error in client.stream_infer(inputs_iterator=requests()):
            assert error is None, error
            seen.append({"outputs": outputs_of(result)})
    return {"first": seen[0], "second": seen[1]}


async def pages(at):
    async with InferenceServerClient(at.grpc) as client:
        try:
            await client.get_model_metadata("nobody")
        except InferenceServerException as error:
            unknown = error.status()
        return {
            "live": await client.is_server_live(),
            "ready": await client.is_server_ready(),
            "model_ready": await client.is_model_ready(at.model),
            "model": (await client.get_model_metadata(at.model)).name,
            "unknown": unknown,
        }


async def index(at):
    async with InferenceServerClient(at.grpc) as client:
        return {"index": [each.name for each in (await client.get_model_repository_index()).models]}


async def management(at):
    async with InferenceServerClient(at.grpc) as client:
        return {
            "statistics": (await client.get_inference_statistics(at.model)).model_stats[0].name,
            "config": (await client.get_model_config(at.model)).config.name,
        }
