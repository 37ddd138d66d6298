"""What a kit says about an input that is a picture: how pixels become the elements of its tensor (docs/predict.md)."""

import warnings
from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import Any, Final, NamedTuple

import numpy as np

from adapters.base import TensorSpec
from adapters.imports import framework
from adapters.values import DTYPES, Array
from runtime.errors import InvalidKitfile
from runtime.serving.wording import listed, quoted

CHANNELS: Final = {"RGB": 3, "BGR": 3, "L": 1}
LAYOUTS: Final = ("NCHW", "NHWC")
RESIZES: Final = ("fit", "fill", "stretch")

AS_IT_IS: Final[Mapping[str, Any]] = MappingProxyType(
    {"layout": "NHWC", "mode": "RGB", "size": None, "resize": None, "scale": (1,), "mean": (0,), "std": (1,)}
)
"""What is said of a picture that the model takes as its pixels are, of any size."""


class Picture(NamedTuple):
    """`model.parameters.serving.inputs[].image`, fitted to the input's datatype and shape."""

    height: int
    """-1: that of the picture."""
    width: int
    channels_first: bool
    mode: str
    resize: str | None
    """None: a picture of another size is refused."""
    elements: Array
    """The element that each of 256 values of a pixel becomes, by channel: `[channels, 256]`."""

    @classmethod
    def of(cls, spec: TensorSpec, given: Mapping[str, Any]) -> "Picture":
        """Returns what an input's `image` says, of checked values. Raises InvalidKitfile if it does not fit the input.

        `value * scale`, less `mean`, divided by `std`, in doubles, is rounded once, to the input's datatype.
        """
        first, channels = given["layout"] == "NCHW", CHANNELS[given["mode"]]
        axes = spec.shape[-3:]
        if spec.datatype == "BYTES" or len(spec.shape) not in (3, 4) or axes[0 if first else 2] not in (channels, -1):
            wanted = f"{given['layout'][-len(spec.shape) :]} with {channels} channels"
            raise _wrong(spec, f"image is {given['mode']} in {wanted}, the input is {spec.datatype} {list(spec.shape)}")
        shaped = axes[1:] if first else axes[:2]
        height, width = (size if said < 0 else said for size, said in zip(given["size"] or shaped, shaped, strict=True))
        if given["size"] and (height, width) != given["size"]:
            raise _wrong(spec, f"image.size is {list(given['size'])}, the shape says {[height, width]}")
        if given["resize"] and -1 in (height, width):
            raise _wrong(spec, "image.resize needs a size")
        scale, mean, std = (_by_channel(spec, name, given[name], channels) for name in ("scale", "mean", "std"))
        exact = (np.arange(256) * scale - mean) / std
        with np.errstate(over="ignore", invalid="ignore"):
            elements = exact.astype(DTYPES[spec.datatype])
        is_float = elements.dtype.kind == "f"
        if not (np.isfinite(elements).all() if is_float else (elements == exact).all()):
            raise _wrong(spec, f"image.scale, mean and std make values that {spec.datatype} cannot hold")
        return cls(height, width, first, given["mode"], given["resize"], elements)


NO_PICTURES: Final[Mapping[str, Picture]] = MappingProxyType({})


def pictures(inputs: Iterable[TensorSpec], said: Mapping[str, Mapping[str, Any]]) -> dict[str, Picture]:
    """Returns what a kit has `said` about the pictures among a model's inputs.
    Raises InvalidKitfile if that does not fit, MissingFramework without the package that reads pictures."""
    specs = {spec.name: spec for spec in inputs}
    if unknown := said.keys() - specs.keys():
        raise InvalidKitfile(f"Kitfile: image of the input {quoted(min(unknown))}; the model has {listed(specs)}")
    if said:
        _import_pillow()
    return {name: Picture.of(specs[name], given) for name, given in said.items()}


def _import_pillow() -> None:
    """Imports what reads images, before the first one comes. Raises MissingFramework."""
    for name in ("Image", "ImageOps", "PngImagePlugin", "JpegImagePlugin", "WebPImagePlugin"):
        framework(f"PIL.{name}", "images")
    warnings.filterwarnings("ignore", module=r"PIL\.")  # what is odd in a client's file is no news for the operator


def _by_channel(spec: TensorSpec, name: str, given: tuple[float, ...], channels: int) -> Array:
    if len(given) not in (1, channels):
        raise _wrong(spec, f"image.{name} has {len(given)} numbers for {channels} channels")
    return np.array(given, np.float64).reshape(-1, 1) * np.ones((channels, 1))


def _wrong(spec: TensorSpec, said: str) -> InvalidKitfile:
    return InvalidKitfile(f"Kitfile: model.parameters.serving.inputs: {quoted(spec.name)}: {said}")
