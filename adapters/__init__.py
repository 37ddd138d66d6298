"""Adapters: from the verified files of a kit to a `Model`, a folder for each framework or family of them.

Importing this package imports no framework and no numpy. A further framework is a folder with an `ADAPTER`, listed in
`choose.ADAPTERS`, or a package of its own: docs/writing-an-adapter.md.

May import: adapters.boosted, adapters.huggingface.adapter, adapters.mlflow.adapter, adapters.onnx, adapters.pickles,
adapters.pytorch, adapters.sklearn.
Imported by: adapters.boosted, adapters.huggingface, adapters.mlflow, adapters.onnx, adapters.pickles, adapters.pytorch,
adapters.sklearn, runtime, runtime.commands, runtime.link, runtime.rows, runtime.serving, runtime.serving.engine,
runtime.serving.protocol, runtime.serving.protocol.grpc, runtime.serving.protocol.plain, runtime.serving.protocol.v2,
runtime.supervisor, runtime.worker.
"""

from adapters.choose import ADAPTERS, check, choose, guess, load, names

__all__ = ["ADAPTERS", "check", "choose", "guess", "load", "names"]
