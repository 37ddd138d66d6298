"""Mutated bodies of V1 and of every plain form: a mistake of a client is never a 5xx, and the next request is answered.

20,000 for each of the two protocols in CI; with `--long` two million.
"""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import Iterator

import numpy as np
import pytest

from adapters.base import Model
from runtime.serving.inference import Endpoint, infer
from runtime.serving.protocol.codec import Codec
from runtime.serving.protocol.plain.codec import PLAIN
from runtime.serving.protocol.v1 import V1
from runtime.serving.statuses import Response
from tests.campaign import Campaign
from tests.extras import MISSING
from tests.serving.protocol.models import people, texts
from tests.serving.protocol.plain.test_npy import file_of
from tests.serving.support import Served, app_of, model

ROWS = [[5.0, 3.5, 1.5, 0.25]] * 2
PERSON = {"age": 1.5, "count": 2, "name": "x", "flag": True}
FORMS: list[tuple[Codec, Model, bytes, bytes]] = [
    (V1, model(), b"application/json", json.dumps({"instances": ROWS}).encode()),
    (V1, people(), b"application/json", json.dumps({"instances": [PERSON, {**PERSON, "name": {"b64": "eA=="}}]}).encode()),
    (V1, people(), b"application/json", json.dumps({"inputs": {k: [v] for k, v in PERSON.items()}}).encode()),
    (PLAIN, model(), b"application/json", json.dumps(ROWS).encode()),
    (PLAIN, people(), b"application/json", json.dumps(PERSON).encode()),
    (PLAIN, people(), b"application/json", json.dumps({k: [v, v] for k, v in PERSON.items()}).encode()),
    (PLAIN, people(), b"text/csv", b"name,age,count,flag\n\"a, b\",1.5,2,true\nx,,3,0\n"),
    (PLAIN, model(), b"text/csv", b"5.0,3.5,1.5,.25\n1,2,3,4\n"),
    (PLAIN, model(), b"application/x-npy", file_of(np.array(ROWS, np.float32))),
    (PLAIN, texts(), b"application/x-npy", file_of(["ab", "c"])),
    (PLAIN, people(), b"application/jsonl", b"%b\n%b\n" % ((json.dumps(PERSON).encode(),) * 2)),
    (PLAIN, texts(), b"application/json", b'"a text"'),
    (PLAIN, texts(), b"text/plain", "a text, \u00e9".encode()),
]  # fmt: skip
FORM = b'multipart/form-data; boundary="xx"'
PART = b'--xx\r\nContent-Disposition: form-data; name="%b"%b\r\n\r\n%b\r\n'


def form_of(**parts: bytes) -> bytes:
    return b"".join(PART % (name.encode(), b"", value) for name, value in parts.items()) + b"--xx--\r\n"


def further() -> Iterator[tuple[Codec, Model | Served, bytes, bytes]]:
    yield PLAIN, people(), FORM, form_of(age=b"1.5", count=b"2", name=b"x", flag=b"true")
    yield PLAIN, model(), FORM, PART % (b"file", b'; filename="a.csv"', b"5.0,3.5,1.5,.25") + b"--xx--\r\n"
    if "PIL" not in MISSING:
        from tests.serving.protocol.plain import test_image as images

        for form, options in (("PNG", {}), ("JPEG", {}), ("WEBP", {"lossless": True})):
            served = images.taking(shape=(-1, 3, -1, -1), size=4, resize="fit")
            yield PLAIN, served, f"image/{form.lower()}".encode(), images.file_of(images.WIDE, form, **options)
    if "pyarrow" not in MISSING:
        from tests.serving.protocol.plain import test_arrow as arrow

        yield PLAIN, people(), arrow.KIND.encode(), arrow.stream_of(arrow.pa.table(arrow.PERSON))


ALL_FORMS = [*FORMS, *further()]
TOKENS = [b"[", b"]", b"{", b"}", b'"', b",", b":", b"null", b"1e999", b"-1", b"NaN", b'{"b64":"AA"}', b"\n", b"\x00", b"\xff",
          b"9" * 30, b"true", b"'", b"(", b"'O'", b"\xed\xa0\x80", b"[" * 70, b'"age"', b"instances"]  # fmt: skip


def mutated(body: bytes, chance: random.Random) -> bytes:
    for _ in range(chance.randint(1, 4)):
        at, to = sorted(chance.choices(range(len(body) + 1), k=2))
        match chance.randrange(4):
            case 0:
                body = body[:at] + chance.choice(TOKENS) + body[at:]
            case 1:
                body = body[:at] + chance.choice(TOKENS) + body[to:]
            case 2:
                body = body[:at] + body[to:]
            case _:
                body = body[:to] + body[at:]
    return body


def weight(kind: bytes) -> int:
    """How often the mutations of a form are its: those that are decoded in a thread take longer."""
    return 4 if kind.startswith((b"application/json", b"application/x-npy", b"text/")) else 1


@pytest.mark.slow
@pytest.mark.parametrize(
    ("codec", "of", "kind", "body"),
    ALL_FORMS,
    ids=lambda value: value.decode()[:16] if type(value) is bytes and value.isascii() else "",
)
def test_no_mistake_of_a_client_is_a_5xx(
    codec: Codec, of: Model | Served, kind: bytes, body: bytes, campaign: Campaign
) -> None:
    total = campaign(4_000, 20_000, 2_000_000)
    bodies = -(-total * weight(kind) // sum(weight(form[2]) for form in ALL_FORMS if form[0] is codec))
    served = of if isinstance(of, Served) else app_of(of, warm=False)
    endpoint, head, chance = Endpoint.of(served.model, (codec,)), {b"content-type": kind}, random.Random(9)

    async def ask(asked: bytes, accept: bytes = b"*/*") -> Response:
        answer = infer(endpoint, {**head, b"accept": accept}, asked)
        return answer if isinstance(answer, Response) else await answer

    async def run() -> None:
        right = await ask(body)
        for number in range(bodies):
            answer = await ask(bad := mutated(body, chance), chance.choice((b"*/*", b"text/csv")))
            assert answer.status in ((200, 400, 413) if kind.startswith(b"image/") else (200, 400)), (
                answer,
                bad,
                served.lines.events("request.refused")[-1:],
            )
            if number % 500 == 0:
                again = await ask(body)
                assert (again.status, again.body) == (200, right.body)

    asyncio.run(run())
    served.model.engine.close()
