"""Long typed contents: the same values and refusals as short ones, without a protobuf message of them."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest

from adapters.base import TensorSpec
from adapters.values import DTYPES
from runtime.errors import InvalidInput, TooLarge
from runtime.serving.protocol.grpc.codec import GRPC
from runtime.serving.protocol.grpc.contents import FIELDS, Contents
from runtime.serving.protocol.grpc.typed import LONG
from runtime.serving.protocol.grpc.wire import field
from tests.clients.scripts.mutate import Mutator
from tests.clients.test_mutations import Seed, everything, everything_request
from tests.serving.protocol.grpc.test_codec import Answer, Infer, decoded, served, tensor
from tests.serving.support import echo, model

COUNT = 60_000
"""Elements of which every datatype is long."""


def typed(datatype, values, shape=None, **more):
    contents = {"contents": {FIELDS[datatype]: values}}
    return Infer(inputs=[tensor("x", datatype, [len(values)] if shape is None else shape, **contents)], **more)


def values_of(datatype, count=COUNT):
    if datatype == "BYTES":
        return [b"%d" % number for number in range(count)]
    if datatype in ("BOOL", "FP32", "FP64"):
        return np.arange(count).astype(DTYPES[datatype])
    limits = np.iinfo(DTYPES[datatype])
    return np.linspace(float(limits.min), float(limits.max) / 1.001, count).astype(DTYPES[datatype])


@pytest.mark.parametrize("datatype", FIELDS)
def test_what_is_sent_is_read_and_answered(datatype):
    values, one = values_of(datatype), served(echo(datatype))
    body = typed(datatype, values, id="i").SerializeToString()
    assert len(body) > LONG
    for whole in (body, memoryview(bytearray(body))):
        request = GRPC.decode({}, whole, one)
        seen = request.inputs["x"]
        assert (seen.dtype, seen.tolist(), seen.flags.writeable) == (DTYPES[datatype], list(values), True)
    answer = Answer.FromString(GRPC.encode(one, request, {"y": seen}).body)
    assert list(getattr(answer.outputs[0].contents, FIELDS[datatype])) == list(values)


def test_contents_that_come_in_parts_are_one():
    halves = [Contents(int64_contents=range(first, first + COUNT)).SerializeToString() for first in (0, COUNT)]
    head = Infer.InferInputTensor(name="x", datatype="INT64", shape=[2 * COUNT]).SerializeToString()
    merged = field(5, b"".join((head, *(field(5, half) for half in halves))))
    seen = GRPC.decode({}, merged, served(echo("INT64"))).inputs["x"]
    assert seen.tolist() == list(range(2 * COUNT))


def test_numbers_in_fields_of_their_own_are_read_where_they_are_not_too_many():
    single = b"\x0d" + bytes(4)  # fp32_contents is field 6
    single = single.replace(b"\x0d", b"\x35")
    head = Infer.InferInputTensor(name="x", datatype="FP32", shape=[10_000]).SerializeToString()
    body = field(5, head + field(5, single * 10_000))
    assert GRPC.decode({}, body, served(echo("FP32"))).inputs["x"].tolist() == [0.0] * 10_000


FP32 = np.arange(COUNT, dtype=np.float32)


@pytest.mark.parametrize(
    ("request_", "loaded", "said"),
    [
        (typed("FP32", FP32, [COUNT + 1]), "FP32", f"shape [{COUNT + 1}] wants {COUNT + 1} elements, got {COUNT}"),
        (typed("INT64", range(COUNT), [3]), "INT64", f"shape [3] wants 3 elements, got {COUNT}"),
        (typed("FP32", FP32, [COUNT, 2]), "FP32", f"expected shape [-1] (-1: any), got [{COUNT}, 2]"),
        (typed("INT64", [*range(COUNT), 2**60 + 1]), "FP64", f"element {COUNT}: expected datatype FP64, got INT64, and"),
        (typed("BYTES", [b"a"] * COUNT, [1]), "BYTES", "too many fields in the message: at most 16384"),
        (typed("BYTES", [b"a"] * COUNT, [COUNT + 1]), "BYTES", f"wants {COUNT + 1} elements, got {COUNT}"),
        (typed("BYTES", [b"a"] * COUNT), "FP32", "expected datatype FP32, got BYTES"),
        (Infer(inputs=[tensor("x", "INT8", [COUNT], contents={"int_contents": [*range(100)] * 600 + [-129]})]),
         "INT8", f"shape [{COUNT}] wants {COUNT} elements, got {COUNT + 1}"),
        (Infer(inputs=[tensor("x", "INT8", [COUNT + 1], contents={"int_contents": [1] * COUNT + [-129]})]),
         "INT8", f"element {COUNT}: -129 is out of range for INT8"),
        (Infer(inputs=[tensor("x", "UINT16", [COUNT], contents={"uint_contents": [65_536] * COUNT})]),
         "UINT16", "element 0: 65536 is out of range for UINT16"),
        (Infer(inputs=[tensor("x", "INT64", [COUNT], contents={"fp32_contents": FP32})]),
         "INT64", "INT64 is sent in int64_contents, got fp32_contents"),
        (Infer(inputs=[tensor("x", "FP16", [COUNT], contents={"fp32_contents": FP32})]),
         "FP16", "FP16 has no typed contents"),
        (typed("FP32", FP32, raw_input_contents=[bytes(4 * COUNT)]), "FP32", "must not be mixed"),
        (Infer(inputs=[tensor("x", "FP32", [1], parameters={f"p{n}": {"bool_param": True} for n in range(2000)})]),
         "FP32", "too many fields in the message: at most 1024"),
    ],
    ids=lambda value: value[:40] if isinstance(value, str) else "",
)  # fmt: skip
def test_what_is_refused(request_, loaded, said):
    with pytest.raises(InvalidInput) as refused:
        decoded(request_, echo(loaded))
    assert said in str(refused.value)


@pytest.mark.parametrize("contents", [field(6, bytes(COUNT + 1)), field(6, b"")[:1] + b"\xff" * 11, b"\x35" * LONG])
def test_what_is_no_message_of_contents_is_refused(contents):
    head = Infer.InferInputTensor(name="x", datatype="FP32", shape=[COUNT // 4]).SerializeToString()
    with pytest.raises(InvalidInput, match="not a valid"):
        GRPC.decode({}, field(5, head + field(5, contents)), served(echo("FP32")))


def test_memory_is_bounded_before_it_is_spent():
    many = [b""] * 100_000
    with pytest.raises(TooLarge, match="its 100000 texts would take 6000000 bytes, at most 1000000"):
        decoded(typed("BYTES", many), echo("BYTES"), json_bytes=1_000_000)
    shape = Infer(inputs=[tensor("x", "FP32", [1] * 2**20)])
    with pytest.raises(TooLarge, match=r"beside its tensors it has .* bytes of names, shapes and parameters, at most"):
        decoded(shape, echo("FP32"))


def test_inputs_of_a_long_message_are_each_read_in_their_own_form():
    inputs = (TensorSpec("a", "FP32", (-1,)), TensorSpec("b", "BYTES", (-1,)))
    one = model(inputs=inputs)
    given = [tensor("a", "FP32", [COUNT], contents={"fp32_contents": FP32}), tensor("b", "BYTES", [0])]
    seen = decoded(Infer(inputs=given), one).inputs
    assert (seen["a"].tolist(), seen["b"].tolist()) == (FP32.tolist(), [])


@pytest.mark.parametrize(("datatype", "times"), [("FP32", 2.1), ("INT64", 6)])
def test_no_number_becomes_an_object(datatype, times):
    """As objects they would take eight times the message and more; a list of them is made without a pause for the event loop."""
    body, one = (
        typed(datatype, np.full(500_000, 2**20).astype(DTYPES[datatype])).SerializeToString(),
        served(echo(datatype)),
    )
    GRPC.decode({}, body, one)
    tracemalloc.start()
    GRPC.decode({}, body, one)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < times * len(body)


@pytest.mark.parametrize("fresh", [True, False])
def test_a_long_raw_answer_is_written_from_where_it_is_where_nobody_changes_it(fresh):
    one = served(echo("FP32", fresh_outputs=fresh))
    sent = Infer(inputs=[tensor("x", "FP32", [COUNT])], raw_input_contents=[FP32.tobytes()], id="i")
    request = GRPC.decode({}, sent.SerializeToString(), one)
    answer = GRPC.encode(one, request, {"y": FP32})
    assert bool(answer.tail) == fresh
    whole = Answer.FromString(b"".join((answer.body, *answer.tail)))
    assert (whole.id, list(whole.raw_output_contents)) == ("i", [FP32.tobytes()])


def test_a_wrong_message_is_none_whether_protobuf_reads_it_or_we_do(monkeypatch):
    """Contents that are cut out, which long ones are, against whole messages: the same arrays, or a refusal both times."""
    one, mutator, accepted = served(everything()), Mutator(7), 0
    for form in Seed.of(everything_request()).messages * 500:
        body = mutator.bytes(form)
        seen = []
        for long in (LONG, -1):
            monkeypatch.setattr("runtime.serving.protocol.grpc.decode.LONG", long)
            try:
                arrays = GRPC.decode({}, body, one).inputs
            except InvalidInput:
                seen.append(None)
            else:
                seen.append({name: (array.dtype, repr(array.tolist())) for name, array in arrays.items()})
        assert seen[0] == seen[1], body
        accepted += seen[0] is not None
    assert 20 < accepted < 900
