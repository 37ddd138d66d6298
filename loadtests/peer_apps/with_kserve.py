"""KServe's way to serve a model of one's own."""

from __future__ import annotations

from typing import Any

from kserve import InferOutput, InferRequest, InferResponse, ModelServer
from kserve import Model as KServeModel

from loadtests.peer_apps.model import DATATYPES, NAMES, session


class Model(KServeModel):  # type: ignore[misc]  # it has no types here
    """The model in MODEL."""

    def load(self) -> bool:
        self.ready = True
        return True

    async def predict(self, payload: InferRequest, *_: Any, **__: Any) -> InferResponse:
        outputs = []
        for name, array in zip(NAMES, session.run(NAMES, {x.name: x.as_numpy() for x in payload.inputs}), strict=True):
            outputs.append(InferOutput(name, list(array.shape), DATATYPES[array.dtype.char]))
            outputs[-1].set_data_from_numpy(array, binary_data=False)
        return InferResponse(payload.id or "", self.name, outputs)


if __name__ == "__main__":
    model = Model("m")
    model.load()
    ModelServer(workers=1).start([model])
