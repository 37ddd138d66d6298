"""requests, httpx and aiohttp, as somebody calls them who has a URL and no SDK."""

import gzip
import json
import zlib

import aiohttp
import httpx
import numpy as np
import requests
from tensors import array


def url(at):
    return f"{at.url}/v2/models/{at.model}/infer"


def outputs_of(answer):
    return {"outputs": {output["name"]: output["data"] for output in answer["outputs"]}}


def by_requests(at):
    return outputs_of(requests.post(url(at), json=at.request, timeout=60).json())


def by_httpx(at):
    return outputs_of(httpx.post(url(at), json=at.request, timeout=60).json())


async def by_aiohttp(at):
    async with aiohttp.ClientSession() as session, session.post(url(at), json=at.request) as response:
        return outputs_of(await response.json())


def session(at):
    """Ten requests on one connection."""
    with requests.Session() as kept:
        answers = [kept.post(url(at), json=at.request, timeout=60) for _ in range(10)]
    return {**outputs_of(answers[-1].json()), "statuses": sorted({answer.status_code for answer in answers})}


async def at_once(at):
    """Twenty requests at once."""
    async with httpx.AsyncClient(timeout=60) as client:
        import asyncio

        answers = await asyncio.gather(*(client.post(url(at), json=at.request) for _ in range(20)))
    return {**outputs_of(answers[-1].json()), "statuses": sorted({answer.status_code for answer in answers})}


def packed(at):
    """gzip, zlib and raw deflate."""
    body, raw = json.dumps(at.request).encode(), zlib.compressobj(wbits=-15)
    bodies = {"gzip": ("gzip", gzip.compress(body)), "zlib": ("deflate", zlib.compress(body)),
              "raw": ("deflate", raw.compress(body) + raw.flush())}  # fmt: skip
    seen = {}
    for name, (encoding, data) in bodies.items():
        headers = {"content-type": "application/json", "content-encoding": encoding}
        seen[name] = outputs_of(requests.post(url(at), data=data, headers=headers, timeout=60).json())
    return seen


def raw_bytes(at):
    """No JSON at all: the header says 0, and the body is the one input's data."""
    rows = array(at.request["inputs"][0])[:1]
    headers = {"inference-header-content-length": "0", "content-type": "application/octet-stream"}
    response = requests.post(url(at), data=rows.tobytes(), headers=headers, timeout=60)
    assert response.status_code == 200, response.text
    length = int(response.headers["inference-header-content-length"])
    described = json.loads(response.content[:length])["outputs"]
    label = next(place for place, output in enumerate(described) if output["name"] == "label")
    before = sum(output["parameters"]["binary_data_size"] for output in described[:label])
    return {"label": int(np.frombuffer(response.content, "<i8", 1, length + before)[0])}


def plain_instances(at):
    """POST /predict with the rows."""
    rows = array(at.request["inputs"][0]).tolist()
    response = requests.post(f"{at.url}/predict", json=rows, timeout=60)
    return {"status": response.status_code, "labels": [row["label"] for row in response.json()]}


def open_api(at):
    """The description names the path that the others here call."""
    described = requests.get(f"{at.url}/openapi.json", timeout=60).json()
    return {"openapi": described["openapi"][:3], "infer": f"/v2/models/{at.model}/infer" in described["paths"]}
