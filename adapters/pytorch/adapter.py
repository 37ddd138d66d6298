"""The PyTorch adapter: exported programs (.pt2), TorchScript, and weights with the kit's own code."""

from typing import Final

from adapters.base import Adapter, Model, ModelFiles, Options
from adapters.imports import framework, installed
from adapters.pickles.head import TORCH_MAGIC

MEMBERS: Final = (
    b"data", b".data/", b"archive_format", b"constants", b"code/", b".format_version", b"version", b"byteorder",
)  # fmt: skip
"""The first member of an archive of torch: https://docs.pytorch.org/docs/stable/export/pt2_archive.html"""


def load(files: ModelFiles, options: Options) -> Model:
    """Returns the model in `files.path`. Raises LoadFailed, Refused, MissingFramework."""
    framework("torch", "pytorch")
    from adapters.pytorch import file

    return file.load_model(files, options)


def sniff(head: bytes) -> bool:
    """True if `head` begins an archive of torch, a file of torch.save before 1.6, or a safetensors file."""
    if head.startswith(TORCH_MAGIC):
        return True
    if head.startswith(b"PK\x03\x04"):
        name = head[30 : 30 + int.from_bytes(head[26:28], "little")]
        return name.partition(b"/")[2].startswith(MEMBERS)
    return head[8:9] == b"{" and 2 <= int.from_bytes(head[:8], "little") <= 1 << 24 and b'"' in head[8:64]


ADAPTER = Adapter(
    name="pytorch",
    frameworks=("pytorch", "torch", "torchscript", "safetensors", "torch-export", "pytorch-lightning"),
    suffixes=(".pt2", ".pt", ".pth", ".ptl", ".safetensors", ".torchscript"),
    sniff=sniff,
    load=load,
    prepare=lambda: framework("torch", "pytorch"),
    check=installed("torch", "pytorch"),
)
