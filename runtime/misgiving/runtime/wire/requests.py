"""What a client sends: a frame by itself, or those of a stream."""

from misgiving.runtime.nouns import Frame
from misgiving.runtime.wire.frames import fill_frame
from misgiving.runtime.wire.sharing import Slot
from misgiving.v1 import detector_pb2 as wire

StreamRequest = wire.StreamInferRequest


def opening(live: bool) -> StreamRequest:
    """The first message: whether frames may be dropped, or are answered in order."""
    mode = wire.STREAM_MODE_LIVE if live else wire.STREAM_MODE_IN_ORDER
    return StreamRequest(open=wire.StreamOpen(mode=mode))


def frame_request(frame: Frame, slot: Slot | None = None) -> StreamRequest:
    """Any later message; the pixels travel where they are in no slot of shared memory."""
    request = StreamRequest()
    fill_frame(request.frame, frame, slot)
    return request


def infer_request(frame: Frame, slot: Slot | None = None) -> wire.InferRequest:
    """A frame by itself."""
    request = wire.InferRequest()
    fill_frame(request.frame, frame, slot)
    return request
