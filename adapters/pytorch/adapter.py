"""PyTorch: exported programs (.pt2), TorchScript, and weights together with the kit's own code."""

from __future__ import annotations

from adapters.base import Adapter, Model, ModelFiles, Options
from adapters.frameworks import framework
from adapters.pickles.file import TORCH_MAGIC


def prepare() -> None:
    """Imports PyTorch."""
    framework("torch", "pytorch")


def load(files: ModelFiles, options: Options) -> Model:
    """The model in `files.path`. Raises LoadFailed, Refused, MissingFramework."""
    prepare()
    from adapters.pytorch import file as torch_file

    return torch_file.load_model(files, options)


def sniff(head: bytes) -> bool:
    """Whether `head` begins an archive of torch's, an old torch.save file or a safetensors file."""
    if head.startswith(TORCH_MAGIC):
        return True
    if head.startswith(b"PK\x03\x04"):
        name = head[30 : 30 + int.from_bytes(head[26:28], "little")]
        inside = name.partition(b"/")[2]
        known = (
            b"data",
            b".data/",
            b"archive_format",
            b"constants",
            b"code/",
            b".format_version",
            b"version",
            b"byteorder",
        )
        return inside.startswith(known)
    return head[8:9] == b"{" and 2 <= int.from_bytes(head[:8], "little") <= 1 << 24 and b'"' in head[8:64]


ADAPTER = Adapter(
    name="pytorch",
    frameworks=("pytorch", "torch", "torchscript", "safetensors", "torch-export", "pytorch-lightning"),
    suffixes=(".pt2", ".pt", ".pth", ".ptl", ".safetensors", ".torchscript"),
    sniff=sniff,
    load=load,
    prepare=prepare,
)
