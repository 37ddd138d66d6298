"""PNG, JPEG and WebP → an input that the kit says is a picture. No other format is tried, and sizes come first.

https://www.w3.org/TR/png-3/, https://www.w3.org/Graphics/JPEG/itu-t81.pdf, https://www.rfc-editor.org/rfc/rfc9649
"""

import io
from collections.abc import Sequence
from typing import Any, Final

import numpy as np

from adapters.base import TensorSpec
from adapters.values import DTYPES, Array
from runtime.errors import InputAtFault, InvalidInput, TooLarge
from runtime.link.limits import Limits
from runtime.serving.image_inputs import Picture
from runtime.serving.protocol.json_elements import count_of
from runtime.serving.wording import quoted

MOST_PIXELS: Final = 2**25
"""Of all images in a request, as they are in their files: decoding takes up to 20 bytes for each, for a moment."""
_TOO_MANY: Final = f"the images of a request may have {MOST_PIXELS} pixels together; send smaller ones, or fewer"
_FORMATS: Final = ("PNG", "JPEG", "WEBP")
_MODES: Final = ("1", "L", "LA", "P", "PA", "RGB", "RGBA")
_PNG_DEPTH_AT: Final = 24
_BITS: Final = 8
_OPAQUE: Final = 255


def is_image(body: bytes) -> bool:
    """True if `body` begins as a file of one of the formats does."""
    return body.startswith((b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff")) or (body[:4] == b"RIFF" and body[8:12] == b"WEBP")


def blank(picture: Picture) -> bytes:
    """Returns a black PNG that passes: what stands in examples."""
    from PIL import Image

    written = io.BytesIO()
    Image.new("L", (max(1, picture.width), max(1, picture.height))).save(written, "PNG")
    return written.getvalue()


def read_images(files: Sequence[bytes], spec: TensorSpec, picture: Picture, limits: Limits) -> Array:
    """Returns the images as the input `spec`, a row each. Raises InputAtFault, InvalidInput, TooLarge."""
    batched = len(spec.shape) > len("CHW")
    if len(files) > 1 and not batched:
        raise InputAtFault(f"input {quoted(spec.name)} is one image, got {len(files)}")
    left, rows = MOST_PIXELS, np.empty(0)
    for row, file in enumerate(files):
        image = _opened(file, left)
        left -= image.width * image.height
        pixels = _pixels(image, picture)
        if not row:
            rows = _room(len(files), pixels.shape, spec, picture, limits)
        into = rows[row] if picture.channels_first else rows[row].transpose(2, 0, 1)
        if into.shape[1:] != pixels.shape[:2]:
            raise InputAtFault("the images have different sizes, and this model takes them as they are")
        for channel, elements in enumerate(picture.elements):
            into[channel] = elements[pixels[..., channel]]
    return rows if batched else rows[0]


def _room(count: int, pixels: tuple[int, ...], spec: TensorSpec, picture: Picture, limits: Limits) -> Array:
    """Returns the tensor of `count` images of one size, still empty."""
    height, width, channels = pixels
    sizes = [channels, height, width] if picture.channels_first else [height, width, channels]
    elements = count_of(spec, [count, *sizes][-len(spec.shape) :], limits)
    if elements * DTYPES[spec.datatype].itemsize > limits.in_flight_bytes:
        raise TooLarge(f"{count} images of {width} x {height} pixels take too much memory as a tensor; send fewer")
    return np.empty([count, *sizes], DTYPES[spec.datatype])


def _opened(file: bytes, most_pixels: int) -> Any:
    """Returns an image of which nothing is decoded yet, checked by what its head says."""
    from PIL import Image

    try:
        image = Image.open(io.BytesIO(file), formats=_FORMATS)
    except Image.DecompressionBombError:
        raise TooLarge(_TOO_MANY) from None
    except Exception as error:
        raise InvalidInput("the image is no PNG, JPEG or WebP, or is broken") from error
    if image.width * image.height > most_pixels:
        raise TooLarge(f"the image has {image.width} x {image.height} pixels; {_TOO_MANY}")
    if getattr(image, "is_animated", False) and image.format != "MPO":  # a JPEG with further photos behind it
        raise InvalidInput("the image is animated; send one frame of it")
    if image.mode not in _MODES or (image.format == "PNG" and file[_PNG_DEPTH_AT] > _BITS):
        raise InvalidInput("the image is CMYK, or has more than 8 bits a channel; send RGB or greyscale of 8 bits")
    return image


def _pixels(image: Any, picture: Picture) -> Array:
    """Returns the pixels of an image, `[height, width, channels]`, upright and of the size that the model takes."""
    from PIL import ImageOps

    try:
        ImageOps.exif_transpose(image, in_place=True)
    except Exception as error:
        raise InvalidInput("the image is cut off or broken") from error
    if image.has_transparency_data and _alpha(image).getextrema()[0] < _OPAQUE:
        raise InvalidInput("the image is transparent in places, and nothing says what is behind it; send it opaque")
    mode = "L" if picture.mode == "L" else "RGB"
    plain = image if image.mode == mode else image.convert(mode)
    pixels = np.atleast_3d(np.asarray(_sized(plain, picture)))
    return pixels[..., ::-1] if picture.mode == "BGR" else pixels


def _alpha(image: Any) -> Any:
    return (image if "A" in image.getbands() else image.convert("RGBA")).getchannel("A")


def _sized(image: Any, picture: Picture) -> Any:
    from PIL import Image

    width, height = (
        has if wanted < 0 else wanted for has, wanted in zip(image.size, (picture.width, picture.height), strict=True)
    )
    if image.size == (width, height):
        return image
    if picture.resize is None:
        seen = f"the image has {image.width} x {image.height} pixels"
        raise InputAtFault(f"{seen}, this model takes {width} x {height}, and its kit does not say how to resize")
    if picture.resize == "stretch":
        return image.resize((width, height), Image.Resampling.BILINEAR)
    ratios = width / image.width, height / image.height
    if picture.resize == "fill":
        cut = [(has - min(has, to / max(ratios))) / 2 for has, to in zip(image.size, (width, height), strict=True)]
        box = (*cut, image.width - cut[0], image.height - cut[1])
        return image.resize((width, height), Image.Resampling.BILINEAR, box=box)
    inner = [max(1, round(has * min(ratios))) for has in image.size]
    whole = Image.new(image.mode, (width, height))
    whole.paste(image.resize(inner, Image.Resampling.BILINEAR), ((width - inner[0]) // 2, (height - inner[1]) // 2))
    return whole
