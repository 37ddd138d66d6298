"""MLServer's way to serve a model of one's own."""

from __future__ import annotations

from mlserver import MLModel
from mlserver.codecs import NumpyCodec
from mlserver.types import InferenceRequest, InferenceResponse

from loadtests.peer_apps.model import NAMES, session


class Model(MLModel):  # type: ignore[misc]  # it has no types here
    """The model in MODEL."""

    async def load(self) -> bool:
        return True

    async def predict(self, payload: InferenceRequest) -> InferenceResponse:
        inputs = {x.name: NumpyCodec.decode_input(x) for x in payload.inputs}
        outputs = zip(NAMES, session.run(NAMES, inputs), strict=True)
        return InferenceResponse(
            model_name=self.name, outputs=[NumpyCodec.encode_output(name, array) for name, array in outputs]
        )
