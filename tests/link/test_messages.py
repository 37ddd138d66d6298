import json

import pytest

from adapters.base import AdapterError, LoadFailed, Refused
from runtime.errors import Failure, InvalidKitfile, Usage
from runtime.link.gateway import Gateway
from runtime.link.limits import Limits
from runtime.link.messages import (
    LONGEST_TEXT,
    Examine,
    Failed,
    Learnt,
    Load,
    Order,
    Output,
    Prepare,
    Ready,
    Stop,
    Terms,
    Verdict,
    one_line,
    read,
    write,
)
from runtime.link.model_files import ModelFacts

FACTS = ModelFacts("model.onnx", "onnx", "", {"serving": {"samples": "s.json", "deep": [1.5, None]}}, ("p",), ())
READY = Ready("m", "onnx", "landlock-7", 2, 0.25, "{}")
FAILED = Failed("m", "LoadFailed", "it is corrupt")
MESSAGES = [
    Order("m", 1, True, Terms(None, "restricted", ("a.B",), "auto", False), "/caf\udce9", "json", "info", Limits(threads=2), Gateway("/x", ("*",), None, "/up")),
    Prepare("m", FACTS),
    Load("m", FACTS, "/kits/m", "host/m:v1", None, "sha256:0", "true", {".": "sha256:1"}, {}, "me.pub"),
    Stop("m", 7.0),
    READY,
    FAILED,
    Learnt("m", (Output("y", "FP32", (-1, 3)), Output("z", "BYTES", ())), True),
    Examine(FACTS, "/kits/m", Terms("onnx", "data", (), "auto", False)),
    Verdict(None, None, None),
]  # fmt: skip


@pytest.mark.parametrize("message", MESSAGES, ids=lambda message: type(message).__name__)
def test_what_is_written_is_read(message):
    assert read(write(message), Stop, type(message)) == message


@pytest.mark.parametrize("message", MESSAGES, ids=lambda message: type(message).__name__)
def test_a_message_that_is_not_expected_is_none(message):
    others = {type(other) for other in MESSAGES} - {type(message)}
    with pytest.raises(ValueError, match="not a message"):
        read(write(message), *others)


def changed(message, /, **fields):
    name, *values = json.loads(write(message))
    return json.dumps([name, *({**dict(zip(message._fields, values, strict=True)), **fields}.values())]).encode()


WRONG = [
    b"", b"null", b"3", b"[]", b"{}", b"[1,2,3]", b'["Ready"]', b'["Ready",null]', b'{"Ready":1}', b'[["Ready"]]', b'["Ready","m"]',
    b"[" * 100_000, b"\xff\xfe", b"1" * 5000, write(READY)[:-1], write(READY) + b"x",
    changed(READY, extra=1), changed(READY, model=None), changed(READY, adapter=["onnx"]),
    changed(READY, samples=1.0), changed(READY, samples=True), changed(READY, samples=-1), changed(READY, samples=10**30),
    changed(READY, load_seconds=float("nan")), changed(READY, load_seconds=float("inf")),
    changed(READY, load_seconds=-1.0), changed(READY, load_seconds=1e300), changed(READY, load_seconds="1"),
    changed(READY, load_seconds=10**400), write(READY).replace(b"0.25", b"1e999"),
    changed(READY, example="x" * (LONGEST_TEXT + 1)),
    changed(FAILED, cause="Usage"), changed(FAILED, cause="Cancelled"), changed(FAILED, cause="CrashLoop"),
    changed(FAILED, cause="__init__"), changed(FAILED, cause=71), changed(FAILED, message=None),
]  # fmt: skip


@pytest.mark.parametrize("data", WRONG, ids=lambda data: repr(data[:60]))
def test_what_a_worker_cannot_mean_is_refused(data):
    with pytest.raises(ValueError, match="not a message"):
        read(data, Ready, Failed)


@pytest.mark.parametrize(
    "data",
    [
        changed(MESSAGES[0], kits=["/kits"]),
        changed(MESSAGES[6], allow_globals="a.B"),
        changed(MESSAGES[6], allow_globals=["a.B", 1]),
        changed(MESSAGES[2], layers=[]),
        changed(MESSAGES[2], layers={".": 1}),
        changed(MESSAGES[2], tag=1),
        changed(MESSAGES[2], facts=["x"]),
    ],
    ids=lambda data: repr(data[:30]),
)
def test_fields_within_fields_are_checked(data):
    with pytest.raises(ValueError, match="not a message"):
        read(data, Order, Load)


def test_the_text_of_a_worker_is_one_line_that_steers_no_terminal():
    failed = read(changed(FAILED, message="line\nforged \x1b[31m\u202e\ud800" + "x" * 10_000), Failed)
    assert failed.message.startswith(r"line\nforged \x1b[31m\u202e\ud800xxx")
    assert (len(failed.message), failed.message[-1]) == (LONGEST_TEXT, "…")
    ready = read(write(Ready("m", "on\nnx", "\x07", 0, 0.0, "")), Ready)
    assert (ready.adapter, ready.sandbox) == (r"on\nnx", r"\x07")


@pytest.mark.parametrize(
    ("text", "longest", "line"), [("", 5, ""), ("äöü", 3, "äöü"), ("abcd", 3, "ab…"), ("\n\n", 3, "\\n…")]
)
def test_a_text_is_cut_after_it_is_escaped(text, longest, line):
    assert one_line(text, longest) == line


@pytest.mark.parametrize("text", ["\U0001f600" * 3000, '"' * 3000, "\x00" * 3000])
def test_the_longest_message_of_a_worker_fits_its_packet(text):
    assert len(write(Failed("m", "LoadFailed", text))) < 64 * 2**10
    assert len(write(Ready("m", text, text, 0, 0.0, text[:LONGEST_TEXT]))) < 64 * 2**10
    assert len(write(Verdict(text[:1000], text[:100], text))) < 64 * 2**10


class StaleFormat(LoadFailed):
    """A failure that an adapter defines for itself."""


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (LoadFailed("x"), LoadFailed),
        (StaleFormat("x"), LoadFailed),
        (Refused("x"), Refused),
        (InvalidKitfile("x"), InvalidKitfile),
        (Usage("x"), Failure),
        (AdapterError("x"), Failure),
        (ZeroDivisionError("x"), Failure),
    ],
)
def test_a_failure_travels_by_the_nearest_name_that_a_worker_may_say(error, kind):
    said = read(write(Failed.of("m", error, "why")), Failed).as_error()
    assert (type(said), str(said)) == (kind, "why")
