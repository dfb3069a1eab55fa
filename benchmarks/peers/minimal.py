"""The least that a grpc.aio server can do for the same replies: the peer of ``serving.py``.

The same protos, decoding, cutting, engine and reply, by the same functions, and nothing else: no
batches, no closer looks, no bounded queue, no live mode, no collecting, no draining. Prints its
port, and runs until it is killed.
Run: python minimal.py BUNDLE [PORT]
"""

import asyncio
import sys
import time
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import cv2
import grpc

from misgiving.runtime import images
from misgiving.runtime.bundles.bundle import Bundle
from misgiving.runtime.engines.onnx import OnnxEngine
from misgiving.runtime.geometry import Region, cut, input_to_image, window_of
from misgiving.v1 import detector_pb2 as wire
from misgiving.v1 import detector_pb2_grpc
from misgiving.v1 import pose_pb2 as pose


class Minimal(detector_pb2_grpc.FailureDetectorServicer):
    """Answers one region of a frame at a time."""

    def __init__(self, bundle: Bundle) -> None:
        self._manifest, self._digest = bundle.manifest, bundle.digest
        self._threshold = bundle.threshold(None)
        self._engine = OnnxEngine(bundle.read(bundle.model.name), "cpu", threads=1)
        self._threads = ThreadPoolExecutor(1)

    async def Infer(self, request: wire.InferRequest, context: Any) -> wire.InferResponse:
        response = wire.InferResponse()
        await self._in_thread(request.frame, response.result)
        return response

    async def StreamInfer(
        self, request_iterator: Any, context: Any
    ) -> AsyncIterator[wire.StreamInferResponse]:
        count = 0
        async for request in request_iterator:
            if request.WhichOneof("message") == "frame":
                response = wire.StreamInferResponse()
                await self._in_thread(request.frame, response.result)
                count += 1
                yield response
        yield wire.StreamInferResponse(summary=wire.StreamSummary(received=count, answered=count))

    async def _in_thread(self, frame: pose.Frame, result: wire.FrameResult) -> None:
        loop = asyncio.get_running_loop()
        await loop.run_in_executor(self._threads, self._answer, frame, result)

    def _answer(self, frame: pose.Frame, result: wire.FrameResult) -> None:
        rule, calibration = self._manifest.crop, self._manifest.calibration
        if frame.image.WhichOneof("data") == "raw":
            raw = frame.image.raw
            image = images.from_raw(raw.pixels, raw.height_px, raw.width_px)
        else:
            image = images.decode(frame.image.encoded)
        (r,) = frame.regions
        region = Region(r.x_px, r.y_px, r.width_px, r.height_px)
        window = window_of(region, *image.shape[:2], rule)
        started = time.monotonic_ns()
        said = self._engine.infer(cut(image, window, rule.height, rule.width)[None])
        result.inference_nano = time.monotonic_ns() - started
        result.frame_id, result.bundle_digest = frame.frame_id, self._digest
        person = result.persons.add()
        person.region.CopyFrom(r)
        points = input_to_image(said.keypoints[0, :, :2], window, rule.height, rule.width)
        for (x, y), c in zip(points.tolist(), said.keypoints[0, :, 2].tolist(), strict=True):
            person.keypoints.add(x_px=x, y_px=y, confidence=c)
        person.predicted_loss = score = float(said.predicted_loss[0])
        person.failure_probability = calibration.probability(score) or 0.0
        person.keypoint_loss.extend(said.keypoint_loss[0].tolist())
        person.signals.extend(said.signals[0].tolist())
        person.flag.raised, person.flag.threshold = score >= self._threshold, self._threshold


async def _serve(bundle: Path, port: int) -> None:
    server = grpc.aio.server(options=[("grpc.max_receive_message_length", 64 << 20)])
    minimal = Minimal(Bundle.load(bundle))
    detector_pb2_grpc.add_FailureDetectorServicer_to_server(minimal, server)
    port = server.add_insecure_port(f"127.0.0.1:{port}")
    await server.start()
    print(f"minimal on 127.0.0.1:{port} ", file=sys.stderr, flush=True)
    await server.wait_for_termination()


if __name__ == "__main__":
    cv2.setNumThreads(1)
    asyncio.run(_serve(Path(sys.argv[1]), int([*sys.argv, 0][2])))
