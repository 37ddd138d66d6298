"""Forms, as `curl -F` and web pages send them: files as if they were the body, images as rows, parts as inputs."""

from __future__ import annotations

from typing import Any

import httpx
import numpy as np
import pytest

from adapters.base import Model, TensorSpec
from runtime.errors import InvalidInput
from runtime.serving.protocol.plain.multipart import parts_of
from tests.serving.asking import call
from tests.serving.protocol.models import people, texts
from tests.serving.protocol.plain.test_json import ANSWER, ROW
from tests.serving.protocol.plain.test_npy import file_of as npy_of
from tests.serving.support import Served, app_of, echo, model


def form(served: Served | Model, files: Any) -> Any:
    answer: httpx.Response = call(served if isinstance(served, Served) else app_of(served, warm=False), "POST",
                                  "/predict", files=files)  # fmt: skip
    return answer.json() if answer.status_code == 200 else (answer.status_code, answer.json()["error"])


CSV = b"5.0,3.5,1.5,0.25\n"
NPY = npy_of(np.array([ROW], np.float32))


@pytest.mark.parametrize(
    ("file", "answer"),
    [
        (("rows.csv", CSV, "text/csv"), [ANSWER]),
        (("rows.csv", CSV, "application/octet-stream"), [ANSWER]),  # as curl sends it
        (("ROWS.CSV", CSV), [ANSWER]),
        (("rows.csv", CSV, "application/vnd.ms-excel"), [ANSWER]),  # as browsers on Windows do
        (("rows.csv", NPY, "application/vnd.ms-excel"), [ANSWER]),
        (("x.npy", NPY, "application/octet-stream"), [ANSWER]),
        (("no suffix", NPY), [ANSWER]),
        (("rows.json", b'{"X": [5.0, 3.5, 1.5, 0.25]}', "application/octet-stream"), ANSWER),
    ],
)
def test_one_file_is_read_as_the_body_would_be(file: Any, answer: Any):
    assert form(model(), {"file": file}) == answer


def test_a_text_file_and_a_typed_in_text():
    assert form(texts(), {"file": ("mail.txt", b"a: b", "text/plain")}) == {"y": "a: b", "length": 4}
    assert form(texts(), {"text": (None, b"a: b")}) == {"y": "a: b", "length": 4}
    assert form(texts(), [("text", (None, b"a")), ("text", (None, b""))]) == [
        {"y": "a", "length": 1},
        {"y": "", "length": 0},
    ]
    assert form(texts(), {"text": (None, b"\xff")}) == (400, "input 'text' is not UTF-8")


def test_typed_in_values_are_inputs_by_name():
    person = {"age": (None, "1"), "count": (None, "2"), "name": (None, "x"), "flag": (None, "true")}
    assert form(people(), person) == {"y": "1.0|2|x|True"}
    twice = [part for part in person.items() for _ in range(2)]
    assert form(people(), twice) == [{"y": "1.0|2|x|True"}] * 2
    for changes, said in (
        ({"age": (None, "old")}, "input 'age', element 0: FP64 wants a number or null, got 'old'"),
        ({"agee": (None, "1")}, "unknown input 'agee'"),
        ({"age": ("age.csv", "1")}, "a form with several parts has images, or values typed in; got 'age.csv'"),
    ):
        status, error = form(people(), {**person, **changes})
        assert (status, said in error) == (400, True), error
    assert "missing input 'flag'" in form(people(), list(person.items())[:3])[1]
    assert "different numbers of rows" in form(people(), [*person.items(), ("age", (None, "3"))])[1]


def test_images_are_rows_or_inputs_by_name():
    image = pytest.importorskip("tests.serving.protocol.plain.test_image")
    files = [image.file_of(pixels, kind) for pixels, kind in ((image.FOUR, "PNG"), (255 - image.FOUR, "PNG"))]
    rows = form(image.taking(), [("file", ("a.png", file, "image/png")) for file in files])
    assert [row["y"] for row in rows] == [
        pixels.transpose(2, 0, 1).tolist() for pixels in (image.FOUR, 255 - image.FOUR)
    ]
    assert form(image.taking(), {"file": files[0]})["y"] == rows[0]["y"]
    other = ("file", ("b.png", image.file_of(image.WIDE), "image/png"))
    free = image.taking(shape=(-1, 3, -1, -1))
    assert "the images have different sizes" in form(free, [("file", ("a.png", files[0])), other])[1]
    single = image.taking(shape=(3, 2, 2))
    assert "input 'x' is one image, got 2" in form(single, [("file", ("a.png", file)) for file in files])[1]

    def bright(arrays: dict[str, Any], _: Any) -> dict[str, Any]:
        return {"y": arrays["x"].max(axis=(1, 2, 3)) > arrays["limit"]}

    inputs = TensorSpec("x", "FP32", (-1, 3, 2, 2)), TensorSpec("limit", "FP64", (-1,))
    both = model(bright, inputs=inputs, outputs=(TensorSpec("y", "BOOL", (-1,)),), labels=None)
    served = app_of(both, warm=False, images=image.declared())
    assert form(served, {"x": ("a.png", files[0]), "limit": (None, "254.5")}) == {"y": True}
    assert form(served, {"x": ("a.png", files[0]), "limit": (None, "255")}) == {"y": False}


def test_memory_is_bounded_before_images_are_decoded():
    image = pytest.importorskip("tests.serving.protocol.plain.test_image")
    served = image.taking("FP64", (-1, 3, -1, -1), size=1024, resize="fit")
    status, said = form(served, [("file", (str(index), image.file_of(image.FOUR))) for index in range(11)])
    assert (status, said) == (413, "11 images of 1024 x 1024 pixels take too much memory as a tensor; send fewer")
    files = [
        ("file", (name, file))
        for name, file in (("a.png", image.file_of(image.FOUR)), ("b.png", image.bomb(8192, 4096)))
    ]
    status, said = form(served, files)  # alone, either has few enough pixels
    assert (status, said.partition(";")[0]) == (413, "the image has 8192 x 4096 pixels")


TYPE = b'multipart/form-data; boundary="a b"'
DISPOSITION = b'Content-Disposition: form-data; name="x"; filename="a \\"quoted\\" name"'


def test_a_boundary_may_be_quoted_and_text_may_surround_the_parts():
    body = (
        b"preamble\r\n--a b \r\n"
        + DISPOSITION
        + b"\r\ncontent-type: text/csv\r\n\r\n1\r\n--a\r\n\r\n--a b--\r\nepilogue"
    )
    assert parts_of(TYPE, body) == [("x", 'a "quoted" name', b"text/csv", b"1\r\n--a\r\n")]


@pytest.mark.parametrize(
    ("content_type", "body", "said"),
    [
        (b"multipart/form-data", b"", "needs a boundary"),
        (b"multipart/form-data; boundary=", b"", "needs a boundary"),
        (TYPE, b"", "the form is cut off: its closing boundary is missing"),
        (TYPE, b"--a b\r\n" + DISPOSITION + b"\r\n\r\n1", "the form is cut off"),
        (TYPE, b"--a b--", "the form is empty"),
        (TYPE, b"--a b\r\n\r\n1\r\n--a b--", "no head"),
        (TYPE, b"--a b\r\n" + DISPOSITION + b"\r\n--a b--", "no head"),
        (TYPE, b"--a b\r\nX: " + b"x" * 4096 + b"\r\n\r\n\r\n--a b--", "more than 4096 bytes"),
        (TYPE, b"--a b\r\nX: y\r\n\r\n1\r\n--a b--", "a part of the form has no name"),
        (TYPE, b"--a b\r\nContent-Transfer-Encoding: base64\r\n\r\nMQ==\r\n--a b--", "has a transfer encoding"),
        (TYPE, b"--a b\r\n" * 1002 + b"--a b--", "the form has too many parts: at most 1000"),
    ],
)
def test_what_is_no_form_is_refused(content_type: bytes, body: bytes, said: str):
    with pytest.raises(InvalidInput) as refusal:
        parts_of(content_type, body)
    assert said in str(refusal.value)


def test_an_image_of_another_format_is_told_the_right_ones():
    image = pytest.importorskip("tests.serving.protocol.plain.test_image")
    gif = ("a.gif", image.file_of(image.FOUR, "GIF"), "image/gif")
    assert form(image.taking(), {"file": gif}) == (400, "the image is no PNG, JPEG or WebP, or is broken")


def test_a_form_in_a_form_is_refused():
    served = app_of(echo("FP32"), warm=False)
    assert form(served, {"file": ("x", b"--y--", "multipart/form-data; boundary=y")}) == (
        400, "a part of the form is a form itself; send files")  # fmt: skip
