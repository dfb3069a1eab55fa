"""Triton by ``nvidia-pytriton``: the peer of ``peers.py`` over the Open Inference Protocol's gRPC.

Triton batches by itself, without waiting for more. Pictures of one shape share a batch. It loads
the libpython that the system's loader finds: the environment must be of the same Python.
Run: python pytriton_server.py BUNDLE PORT
"""

import sys
from pathlib import Path

import numpy as np
from pytriton.decorators import batch, group_by_keys
from pytriton.model_config import DynamicBatcher, ModelConfig, Tensor
from pytriton.triton import Triton, TritonConfig
from work import BATCH, Array, Work, decoded

INPUTS = [
    Tensor(name="pixels", dtype=np.uint8, shape=(-1, -1, 3), optional=True),
    Tensor(name="jpeg", dtype=bytes, shape=(1,), optional=True),
    Tensor(name="region", dtype=np.float32, shape=(4,)),
]
OUTPUTS = [
    Tensor(name="keypoints", dtype=np.float32, shape=(-1, 3)),
    Tensor(name="predicted_loss", dtype=np.float32, shape=(1,)),
]


def main(bundle: Path, port: int) -> None:
    work = Work(bundle)

    @group_by_keys
    @batch
    def infer(region: Array, pixels: Array = None, jpeg: Array = None) -> list[Array]:
        images = [decoded(data) for data in jpeg[:, 0]] if pixels is None else pixels
        keypoints, losses = work.answer(images, region)
        return [keypoints, losses[:, None]]

    config = TritonConfig(
        grpc_address="127.0.0.1", grpc_port=port, allow_http=False, allow_metrics=False
    )
    with Triton(config=config) as triton:
        batching = ModelConfig(max_batch_size=BATCH, batcher=DynamicBatcher())
        triton.bind("pose", infer, INPUTS, OUTPUTS, config=batching)
        triton.serve()


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
