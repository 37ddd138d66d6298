"""An adapter of a program of ours: BYTES as they came, which no framework of the golden kits gives back."""

from adapters.base import Adapter, Model, TensorSpec


def load(files, options):
    return Model(
        platform="echo",
        inputs=(TensorSpec("x", "BYTES", (-1,)),),
        outputs=(TensorSpec("y", "BYTES", (-1,)),),
        predict=lambda arrays, wanted: {"y": arrays["x"]},
        threadsafe=True,
        batch=True,
    )


ADAPTER = Adapter("echo", ("echo",), (".echo",), lambda head: False, load)
