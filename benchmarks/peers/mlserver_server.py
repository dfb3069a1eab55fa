"""MLServer: the peer of ``peers.py`` over the Open Inference Protocol's gRPC.

A picture is one element of BYTES: of UINT8 tensors MLServer makes a list of numbers, at 1080p six
million. It runs in the server's process, as another would only share its core, and does not batch:
MLServer's batches wait for more.
Run: python mlserver_server.py BUNDLE PORT
"""

import asyncio
import sys
from pathlib import Path

import numpy as np
from mlserver import MLModel, MLServer, ModelSettings, Settings
from mlserver.codecs import NumpyCodec
from mlserver.settings import ModelParameters
from mlserver.types import InferenceRequest, InferenceResponse
from work import Array, Work, decoded


class Pose(MLModel):
    async def load(self) -> bool:
        self._work = Work(Path(self.settings.parameters.uri))
        return True

    async def predict(self, payload: InferenceRequest) -> InferenceResponse:
        given = {each.name: each.data for each in payload.inputs}
        keypoints, losses = self._work.answer([_image(given)], [given["region"]])
        outputs = {"keypoints": keypoints, "predicted_loss": losses}
        encoded = [NumpyCodec.encode_output(name, array) for name, array in outputs.items()]
        return InferenceResponse(model_name=self.name, outputs=encoded)


def _image(given: dict[str, list]) -> Array:
    (data,) = given["image"]
    if "shape" in given:
        return np.frombuffer(data, np.uint8).reshape(*given["shape"])
    return decoded(data)


async def main(bundle: str, port: int) -> None:
    settings = Settings(
        debug=False,
        host="127.0.0.1",
        grpc_port=port,
        grpc_max_message_length=64 << 20,
        http_port=port + 1,
        metrics_port=port + 2,
        parallel_workers=0,
    )
    model = ModelSettings(name="pose", implementation=Pose, parameters=ModelParameters(uri=bundle))
    await MLServer(settings).start([model])


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], int(sys.argv[2])))
