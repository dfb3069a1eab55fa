"""Open Inference Protocol v2 on the server's port: what tritonclient speaks.

Each call becomes one of our own service, so that limits, flags and counts are the same for both.
"""

from collections import deque
from collections.abc import AsyncIterator
from importlib import metadata
from typing import TYPE_CHECKING, Any

import grpc
from grpc_health.v1 import health_pb2

from misgiving.runtime.net.status import refuse, status_of
from misgiving.runtime.nouns import Answer, Frame, ModelInfo, StreamSummary
from misgiving.runtime.serving.pipeline import Pipeline
from misgiving.runtime.wire.frames import MAX_NAME, fill_frame
from misgiving.runtime.wire.open_inference import check_model, to_frame, to_metadata, to_response
from misgiving.runtime.wire.requests import StreamRequest, frame_request, opening
from misgiving.runtime.wire.results import to_answer, to_reply
from misgiving.v1 import detector_pb2 as ours
from misgiving.v1 import open_inference_pb2 as wire
from misgiving.v1 import open_inference_pb2_grpc as service

if TYPE_CHECKING:
    from misgiving.runtime.serving.server import Servicer

OPEN_SERVICE = "inference.GRPCInferenceService"


def add_open_inference(server: grpc.aio.Server, servicer: "Servicer", health: Any) -> None:
    """Answer the protocol too.

    Args:
        server: not started yet.
        servicer: answers each call.
        health: says whether the server is ready.
    """
    service.add_GRPCInferenceServiceServicer_to_server(OpenInference(servicer, health), server)


class OpenInference(service.GRPCInferenceServiceServicer):
    """The protocol's service; one model, the bundle's, in one version."""

    def __init__(self, servicer: "Servicer", health: Any) -> None:
        self._ours = servicer
        self._health = health

    async def ServerLive(self, request: Any, context: Any) -> wire.ServerLiveResponse:
        return wire.ServerLiveResponse(live=True)

    async def ServerReady(self, request: Any, context: Any) -> wire.ServerReadyResponse:
        return wire.ServerReadyResponse(ready=await self._ready(context))

    async def ModelReady(
        self, request: wire.ModelReadyRequest, context: Any
    ) -> wire.ModelReadyResponse:
        if self._ours.pipeline is not None:
            await self._asked(request, context)
        return wire.ModelReadyResponse(ready=await self._ready(context))

    async def ServerMetadata(self, request: Any, context: Any) -> wire.ServerMetadataResponse:
        version = metadata.version("misgiving")
        return wire.ServerMetadataResponse(name="misgiving", version=version)

    async def ModelMetadata(
        self, request: wire.ModelMetadataRequest, context: Any
    ) -> wire.ModelMetadataResponse:
        return to_metadata(await self._asked(request, context))

    async def ModelInfer(
        self, request: wire.ModelInferRequest, context: Any
    ) -> wire.ModelInferResponse:
        info = (await self._loaded(context)).info
        asked = ours.InferRequest()
        try:
            fill_frame(asked.frame, to_frame(request, info))
        except Exception as error:
            await refuse(context, error)
        answer = to_answer((await self._ours.Infer(asked, context)).result)
        return to_response(answer, request, self._of(answer, info))

    async def ModelStreamInfer(
        self, request_iterator: Any, context: Any
    ) -> AsyncIterator[wire.ModelStreamInferResponse]:
        pipeline = await self._loaded(context)
        asked: deque[tuple[wire.ModelInferRequest, ModelInfo, str]] = deque()

        async def frames() -> AsyncIterator[StreamRequest]:
            yield opening(live=False)
            async for request in request_iterator:
                frame, why = _read(request, info := pipeline.info)
                asked.append((request, info, why))
                yield frame_request(frame)

        async for response in self._ours.StreamInfer(frames(), context):
            reply = to_reply(response)
            if isinstance(reply, StreamSummary):
                return
            request, info, why = asked.popleft()  # nothing is dropped, and all comes in order
            if isinstance(reply, Answer):
                said = to_response(reply, request, self._of(reply, info))
                yield wire.ModelStreamInferResponse(infer_response=said)
            else:
                failed = wire.ModelStreamInferResponse(error_message=why or reply.message)
                failed.infer_response.id = request.id[:MAX_NAME]
                yield failed

    def _of(self, answer: Answer, before: ModelInfo) -> ModelInfo:
        """What answered; another bundle may have come since the call was read."""
        now = self._ours.info()
        return now if now and now.bundle_digest == answer.bundle_digest else before

    async def _asked(self, request: Any, context: Any) -> ModelInfo:
        """What is loaded, where it is the model that is asked for."""
        info = (await self._loaded(context)).info
        try:
            check_model(request.name, request.version, info)
        except Exception as error:
            await refuse(context, error)
        return info

    async def _loaded(self, context: Any) -> Pipeline:
        """What answers; UNAVAILABLE while nothing does."""
        await self._ours.GetModel(ours.GetModelRequest(), context)
        assert self._ours.pipeline is not None
        return self._ours.pipeline

    async def _ready(self, context: Any) -> bool:
        said = await self._health.Check(health_pb2.HealthCheckRequest(), context)
        return bool(said.status == health_pb2.HealthCheckResponse.SERVING)


def _read(request: wire.ModelInferRequest, info: ModelInfo) -> tuple[Frame, str]:
    """A stream's frame, and why it is none: an empty one then takes its turn."""
    try:
        return to_frame(request, info), ""
    except Exception as error:
        return Frame(b"", frame_id=request.id), status_of(error)[1]
