"""Long typed contents: the same values and refusals as short ones, without a protobuf message of them."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest

from adapters.base import TensorSpec
from adapters.values import DTYPES
from runtime.errors import InvalidInput, TooLarge
from runtime.serving.protocol.grpc.codec import GRPC
from runtime.serving.protocol.grpc.contents import FIELDS, NUMBERS, Contents
from runtime.serving.protocol.grpc.typed import LONG
from runtime.serving.protocol.grpc.wire import field, varint
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


KINDS = {"FP32": b"\x35", "FP64": b"\x39"}
"""What is before a number in a field of its own, where it is not a varint."""


def single(datatype, count=COUNT):
    """A message of contents in which each number is in a field of its own, as some clients send them."""
    values = values_of(datatype, count)
    if datatype in KINDS:
        return b"".join(KINDS[datatype] + value.tobytes() for value in values)
    tag = bytes([NUMBERS[FIELDS[datatype]] << 3])
    return b"".join(tag + varint(int(value) % 2**64) for value in values)


def sent(datatype, count, contents):
    head = Infer.InferInputTensor(name="x", datatype=datatype, shape=[count]).SerializeToString()
    return field(5, head + field(5, contents))


@pytest.mark.parametrize("datatype", [datatype for datatype in FIELDS if datatype != "BYTES"])
def test_numbers_in_fields_of_their_own_are_read(datatype):
    seen = GRPC.decode({}, sent(datatype, COUNT, single(datatype)), served(echo(datatype))).inputs["x"]
    assert (seen.dtype, seen.tolist()) == (DTYPES[datatype], values_of(datatype).tolist())


@pytest.mark.parametrize("datatype", ["FP32", "INT64"])
def test_numbers_in_fields_of_their_own_may_be_among_others_where_they_are_not_too_many(datatype):
    one, alone = served(echo(datatype)), single(datatype, 8000)
    mixed = alone + typed(datatype, values_of(datatype)).inputs[0].contents.SerializeToString() + b"\x50\1\x15abcd"
    seen = GRPC.decode({}, sent(datatype, COUNT + 8000, mixed), one).inputs["x"]
    assert seen.tolist() == [*values_of(datatype, 8000).tolist(), *values_of(datatype).tolist()]
    other = single("FP64" if datatype == "FP32" else "INT8", 8000)
    for contents, said in (
        (other * 5, "is sent in"),
        (alone + other, "is sent in"),
        (single(datatype) + b"\x50\1", "too many fields in the message: at most 16384"),
        (single(datatype) + b"\xff", "too many fields in the message: at most 16384"),
    ):
        with pytest.raises(InvalidInput, match=said):
            GRPC.decode({}, sent(datatype, COUNT, contents), one)


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
        (Infer(inputs=[tensor("x", "BYTES", [10**9], contents={"fp32_contents": FP32})]),
         "BYTES", "BYTES is sent in bytes_contents, got fp32_contents"),
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


@pytest.mark.parametrize(
    "contents",
    [field(6, bytes(COUNT + 1)), field(6, b"")[:1] + b"\xff" * 11, b"\x35" * LONG, b"\2\0" + field(6, bytes(COUNT))],
)
def test_what_is_no_message_of_contents_is_refused(contents):
    head = Infer.InferInputTensor(name="x", datatype="FP32", shape=[COUNT // 4]).SerializeToString()
    with pytest.raises(InvalidInput, match="not a valid"):
        GRPC.decode({}, field(5, head + field(5, contents)), served(echo("FP32")))


def peak_of(body, one):
    """What decoding takes at most, and the refusal if there is one."""
    refused = None
    tracemalloc.start()
    try:
        GRPC.decode({}, body, one)
    except (InvalidInput, TooLarge) as error:
        refused = error
    finally:
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    return peak, str(refused)


@pytest.mark.parametrize(
    ("datatype", "count", "contents", "said"),
    [
        ("BYTES", 2_000_000, b"\x42\0", "its 2000000 texts would take 120000000 bytes, at most 67108864"),
        ("BYTES", 10**9, b"\x42\0", "wants 1000000000 elements, got 4000000 bytes, and each has at least 2"),
        ("BYTES", 2_000_000, b"\x50\1\x42\0", "its 2000000 texts would take 120000000 bytes, at most 67108864"),
        ("INT32", 4, b"\x10\1", "wants 4 elements, got 2000000"),
        ("INT32", 4, field(2, b"\1" * 4_000_000) + b"\x10\1", "wants 4 elements, got 4000001"),
        ("FP32", 4, b"\x35abcd", "wants 4 elements, got 800000"),
    ],
)
def test_what_is_counted_is_no_object_before(datatype, count, contents, said):
    body = sent(datatype, count, contents * max(1, 4_000_000 // len(contents)))
    peak, refused = peak_of(body, served(echo(datatype)))
    assert said in refused
    assert peak < 1.5 * len(body) + 2_000_000


@pytest.mark.parametrize(("datatype", "each"), [("BYTES", 80), ("FP32", 8)])
def test_nothing_is_made_beside_what_is_read(datatype, each):
    """A view of a text would take 184 bytes, and a number that is an object 32."""
    count = 200_000
    contents = field(8, b"a" * 20) * count if datatype == "BYTES" else single(datatype, count)
    body, one = sent(datatype, count, contents), served(echo(datatype))
    GRPC.decode({}, body, one)
    peak, refused = peak_of(body, one)
    assert refused == "None"
    assert peak < len(body) + count * each


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
