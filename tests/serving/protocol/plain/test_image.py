"""Images: each pixel where the kit says, and refusals in words for whatever is not plainly a picture."""

from __future__ import annotations

import base64
import io
import json
import struct
import zlib
from typing import Any

import numpy as np
import pytest

from adapters.base import TensorSpec
from runtime.errors import InvalidKitfile
from runtime.worker.declared import Declared
from tests.serving.protocol.plain.test_json import post
from tests.serving.support import Served, app_of, echo, model

Image = pytest.importorskip("PIL.Image")

RED, GREEN, BLUE, WHITE = (255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 255)
FOUR = np.array([[RED, GREEN], [BLUE, WHITE]], np.uint8)
"""Rows of pixels; every corner another colour, so that a turn shows."""


def declared(**image: Any) -> Any:
    said = {"name": "x", "datatype": "FP32", "shape": [-1], "image": {"layout": "NCHW", "mode": "RGB", **image}}
    return Declared.parse({"serving": {"inputs": [said]}}).images


def taking(datatype: str = "FP32", shape: tuple[int, ...] = (-1, 3, 2, 2), **image: Any) -> Served:
    return app_of(echo(datatype, shape), warm=False, images=declared(**image))


def file_of(pixels: Any, kind: str = "PNG", **options: Any) -> bytes:
    image = pixels if isinstance(pixels, Image.Image) else Image.fromarray(np.asarray(pixels, np.uint8))
    written = io.BytesIO()
    image.save(written, kind, **options)
    return written.getvalue()


def sent(served: Served, file: bytes, kind: str = "image/png") -> Any:
    return post(served, file, **{"Content-Type": kind})


def pixels(served: Served, file: bytes, kind: str = "image/png") -> Any:
    answer = sent(served, file, kind)
    assert isinstance(answer, dict), answer
    return np.array(answer["y"])


@pytest.mark.parametrize(("kind", "options"), [("PNG", {}), ("WEBP", {"lossless": True})])
@pytest.mark.parametrize("said", ["image/png", "image/jpg", "application/octet-stream"])
def test_every_pixel_of_a_lossless_file_is_what_it_was(kind: str, options: dict[str, Any], said: str):
    assert (pixels(taking(), file_of(FOUR, kind, **options), said) == FOUR.transpose(2, 0, 1)).all()


def test_a_jpeg_is_read_as_pillow_reads_it():
    file = file_of(np.arange(192, dtype=np.uint8).reshape(8, 8, 3), "JPEG", quality=95)
    right = np.asarray(Image.open(io.BytesIO(file))).transpose(2, 0, 1)
    assert (pixels(taking(shape=(-1, 3, 8, 8)), file, "image/jpeg") == right).all()


def test_layouts_modes_and_ranks():
    file = file_of(FOUR)
    assert (pixels(taking(shape=(-1, 2, 2, 3), layout="NHWC"), file) == FOUR).all()
    assert (pixels(taking(mode="BGR"), file) == FOUR[..., ::-1].transpose(2, 0, 1)).all()
    answer = sent(taking("UINT8", (3, 2, 2)), file)  # a model without a batch axis: its first axis counts as rows
    assert [row["y"] for row in answer] == FOUR.transpose(2, 0, 1).tolist()
    grey = np.array([[0, 100], [200, 255]], np.uint8)
    assert (pixels(taking("INT64", (-1, 1, 2, 2), mode="L"), file_of(grey)) == [grey]).all()
    assert (pixels(taking(), file_of(grey)) == np.stack([grey] * 3)).all()
    assert pixels(taking(shape=(-1, 1, -1, -1), mode="L"), file_of(FOUR)).shape == (1, 2, 2)


def test_numbers_are_scaled_once_in_doubles_and_rounded_once():
    mean, std = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]
    answer = pixels(taking(scale=1 / 255, mean=mean, std=std), file_of(FOUR))
    right = ((FOUR * (1 / 255) - mean) / std).astype(np.float32).transpose(2, 0, 1)
    assert (answer.astype(np.float32) == right).all()


WIDE = np.array([[RED, RED, WHITE, WHITE, GREEN, GREEN, BLUE, BLUE]] * 4, np.uint8)


@pytest.mark.parametrize(
    ("resize", "right"),
    [
        ("stretch", np.asarray(Image.fromarray(WIDE).resize((4, 4), Image.Resampling.BILINEAR))),
        ("fill", WIDE[:, 2:6]),
        ("fit", np.pad(np.asarray(Image.fromarray(WIDE).resize((4, 2), Image.Resampling.BILINEAR)), ((1, 1), (0, 0), (0, 0)))),
    ],
)  # fmt: skip
def test_another_size_is_made_to_fit_as_the_kit_says(resize: str, right: Any):
    served = taking(shape=(-1, -1, -1, 3), layout="NHWC", size=4, resize=resize)
    assert (pixels(served, file_of(WIDE)) == right).all()


def test_without_resize_another_size_is_refused_and_a_free_one_taken():
    status, said = sent(taking(size=2), file_of(WIDE))
    assert (status, said.partition(";")[0]) == (
        400, "the image has 8 x 4 pixels, this model takes 2 x 2, and its kit does not say how to resize")  # fmt: skip
    assert said.endswith("a body that passes: a file with an image, Content-Type: image/png, image/jpeg or image/webp")
    free = taking(shape=(-1, -1, -1, 3), layout="NHWC")
    assert (pixels(free, file_of(WIDE)) == WIDE).all()
    assert pixels(taking(size=[4, 8], shape=(-1, 3, -1, -1)), file_of(WIDE)).shape == (3, 4, 8)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_photo_stands_as_viewers_show_it(orientation: int):
    turned = {1: FOUR, 2: FOUR[:, ::-1], 3: FOUR[::-1, ::-1], 4: FOUR[::-1], 5: FOUR.transpose(1, 0, 2),
              6: np.rot90(FOUR, -1), 7: np.rot90(FOUR, 2).transpose(1, 0, 2), 8: np.rot90(FOUR)}  # fmt: skip
    exif = Image.Exif()
    exif[0x0112] = orientation
    assert (pixels(taking(), file_of(FOUR, exif=exif)) == turned[orientation].transpose(2, 0, 1)).all()


def test_a_photo_with_others_behind_it_is_the_first_one():
    other = Image.fromarray(255 - WIDE)
    file = file_of(WIDE, "MPO", save_all=True, append_images=[other], quality=100)
    answer = pixels(taking(shape=(-1, 3, 4, 8)), file, "image/jpeg")
    assert np.abs(answer - WIDE.transpose(2, 0, 1)).mean() < 40  # its colours are sampled by twos


def chunk(name: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


def bomb(width: int, height: int) -> bytes:
    """A short file that says it has that many pixels."""
    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(bytes(1000))) + chunk(b"IEND", b"")
    )


def webp_bomb() -> bytes:
    frame = file_of(FOUR, "WEBP", lossless=True)[12:]
    canvas = b"VP8X" + struct.pack("<I", 10) + bytes(4) + b"\xfe\x3f\x00\xfe\x3f\x00"
    return b"RIFF" + struct.pack("<I", 4 + len(canvas + frame)) + b"WEBP" + canvas + frame


def frames(kind: str) -> bytes:
    other = [Image.fromarray(FOUR[::-1])]
    return file_of(FOUR, kind, save_all=True, append_images=other, duration=100)


SEEN_THROUGH = np.dstack([FOUR, np.array([[255, 255], [255, 254]], np.uint8)])
PALETTE = Image.fromarray(FOUR).convert("P")
REFUSED = {
    "other": (b"GIF89a" + bytes(50), 400, "the image is no PNG, JPEG or WebP, or is broken"),
    "gif": (file_of(FOUR, "GIF"), 400, "the image is no PNG"),
    "empty": (b"", 400, "the image is no PNG"),
    "head": (file_of(FOUR)[:20], 400, "the image is no PNG"),
    "cut": (file_of(np.random.default_rng(0).integers(0, 255, (9, 9, 3)))[:-40], 400, "the image is cut off or broken"),
    "cut jpeg": (file_of(np.zeros((64, 64, 3)), "JPEG")[:-30], 400, "the image is cut off or broken"),
    "cut webp": (file_of(FOUR, "WEBP")[:-10], 400, "the image is "),
    "pixels": (bomb(8000, 8000), 413, "the image has 8000 x 8000 pixels; the images of a request may have 33554432"),
    "more": (bomb(60_000, 60_000), 413, "the images of a request may have 33554432 pixels together"),
    "webp": (webp_bomb(), 4, "the image"),
    "apng": (frames("PNG"), 400, "the image is animated; send one frame of it"),
    "webp frames": (frames("WEBP"), 400, "the image is animated"),
    "alpha": (file_of(SEEN_THROUGH), 400, "the image is transparent in places"),
    "grey alpha": (file_of(Image.fromarray(SEEN_THROUGH).convert("LA")), 400, "the image is transparent in places"),
    "one colour": (file_of(PALETTE, transparency=PALETTE.getpixel((1, 1))), 400, "the image is transparent in places"),
    "cmyk": (file_of(Image.fromarray(FOUR).convert("CMYK"), "JPEG"), 400, "the image is CMYK, or has more than 8 bits"),
    "deep": (file_of(Image.fromarray(np.zeros((2, 2), np.uint16))), 400, "the image is CMYK, or has more than 8 bits"),
    "deep rgb": (file_of(FOUR).replace(*[b"\x00\x00\x00\x02" * 2 + bits for bits in (b"\x08", b"\x10")]), 400, "the image is "),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_no_plain_picture_is_refused_in_words(name: str):
    file, wanted, text = REFUSED[name]
    status, said = sent(taking(), file)
    assert str(status).startswith(str(wanted)), said
    assert text in said


def test_opaque_alpha_palettes_and_black_and_white_lose_nothing():
    opaque = np.dstack([FOUR, np.full((2, 2), 255, np.uint8)])
    palette = Image.fromarray(FOUR).convert("P", palette=Image.Palette.ADAPTIVE)
    for file in (file_of(opaque), file_of(palette)):
        assert (pixels(taking(), file) == FOUR.transpose(2, 0, 1)).all()
    bits = Image.fromarray(np.array([[0, 255], [255, 0]], np.uint8)).convert("1")
    assert pixels(taking(), file_of(bits))[0].tolist() == [[0, 255], [255, 0]]


def test_a_model_that_takes_no_image_says_why():
    status, said = sent(app_of(echo("FP32", (-1, 2, 2, 3)), warm=False), file_of(FOUR))
    assert (status, said.partition(":")[0]) == (400, "input 'x' of this model takes no image")
    assert "serving.inputs[].image" in said
    two = model(inputs=(TensorSpec("a", "FP32", (-1,)), TensorSpec("b", "FP32", (-1,))))
    assert "one image is for models with one input" in sent(app_of(two, warm=False), file_of(FOUR))[1]


WHERE = "Kitfile: model.parameters.serving.inputs"


@pytest.mark.parametrize(
    ("image", "said"),
    [
        ({"mode": "CMYK"}, "[0].image.mode must be one of RGB, BGR, L, got 'CMYK'"),
        ({"layout": "CHW"}, "[0].image.layout must be one of NCHW, NHWC, got 'CHW'"),
        ({"size": [1, 2, 3]}, "[0].image.size must be one number, or [HEIGHT, WIDTH], got [1, 2, 3]"),
        ({"size": 0}, "[0].image.size[0] must be a whole number of at least 1, got 0"),
        ({"resize": "crop"}, "[0].image.resize must be one of fit, fill, stretch, got 'crop'"),
        ({"std": [1, 0, 1]}, "[0].image.std[1] must be a number other than 0, got 0"),
        ({"scale": "1/255"}, "[0].image.scale must be a number other than 0, got '1/255'"),
        ({"color": "RGB"}, "[0].image has an unknown key 'color'"),
        ({"size": 3}, ": 'x': image.size is [3, 3], the shape says [2, 2]"),
        ({"mode": "L"}, ": 'x': image is L in NCHW with 1 channels, the input is FP32 [-1, 3, 2, 2]"),
        ({"mean": [1, 2]}, ": 'x': image.mean has 2 numbers for 3 channels"),
        ({"scale": 1e300}, ": 'x': image.scale, mean and std make values that FP32 cannot hold"),
    ],
)
def test_what_a_kit_says_has_to_fit_its_model(image: dict[str, Any], said: str):
    with pytest.raises(InvalidKitfile) as refusal:
        taking(**image)
    assert str(refusal.value).startswith(WHERE + said)


def test_what_a_kit_says_has_to_fit_its_datatype_and_names():
    with pytest.raises(InvalidKitfile, match="values that UINT8 cannot hold"):
        taking("UINT8", mean=1)
    with pytest.raises(InvalidKitfile, match=r"image\.resize needs a size"):
        taking(shape=(-1, 3, -1, -1), resize="fit")
    with pytest.raises(InvalidKitfile, match="image of the input 'x'; the model has 'X'"):
        app_of(model(), images=declared())


def test_an_image_of_another_format_without_a_type_gets_an_example():
    status, said = sent(taking(), file_of(FOUR, "GIF"), "application/octet-stream")
    assert (status, "needs its Content-Type" in said, "a file with an image" in said) == (400, True, True)


def test_short_images_do_not_hold_the_loop():
    served = taking()
    assert served.app  # a thread decodes: see the time that it waited for one
    sent(served, file_of(FOUR))
    assert "queued" in served.lines.events("request.answered")[0]


def test_images_may_stand_in_json_too():
    files = [file_of(FOUR), file_of(255 - FOUR)]
    coded = [{"b64": base64.b64encode(file).decode()} for file in files]
    right = [{"y": pixels.transpose(2, 0, 1).tolist()} for pixels in (FOUR, 255 - FOUR)]
    for body, answer in ((coded, right), (coded[0], right[0]), ({"x": coded[0]}, right[0]), ({"x": coded}, right),
                         ([{"x": one} for one in coded], right)):  # fmt: skip
        served = taking()
        assert post(served, body, **{"Content-Type": "application/json"}) == answer
        assert "queued" in served.lines.events("request.answered")[0]
    predictions = {"predictions": [row["y"] for row in right]}
    for path in ("/predict", "/v1/models/iris:predict"):
        assert post(taking(), {"instances": coded}, path) == predictions
        assert post(taking(), {"inputs": coded}, path) == predictions
        assert post(taking(), {"inputs": {"x": coded}}, path) == predictions
    assert post(taking(shape=(3, 2, 2)), {"x": coded[0]})[0]["y"] == right[0]["y"][0]
    assert post(taking(), {"x": {"b64": "a"}})[1].startswith("input 'x': b64 'a' is not base64")
    assert post(taking(), {"x": {"b64": 1}})[1].startswith("input 'x': b64 1 is not base64")
    assert post(taking(), [*coded, 1])[0] == 400
    status, said = post(taking(), {"instances": [1]}, "/v1/models/iris:predict")
    example = json.loads(said.partition("; a body that passes: ")[2])
    assert (status, post(taking(), example, "/v1/models/iris:predict")) == (
        400,
        {"predictions": [np.zeros((3, 2, 2)).tolist()]},
    )
