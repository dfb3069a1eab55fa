"""What a client sends in a stream."""

from misgiving.runtime.nouns import Frame
from misgiving.runtime.wire.frames import fill_frame
from misgiving.v1 import detector_pb2 as wire

StreamRequest = wire.StreamInferRequest


def opening(live: bool) -> StreamRequest:
    """The first message: whether frames may be dropped, or are answered in order."""
    mode = wire.STREAM_MODE_LIVE if live else wire.STREAM_MODE_IN_ORDER
    return StreamRequest(open=wire.StreamOpen(mode=mode))


def frame_request(frame: Frame) -> StreamRequest:
    """Any later message."""
    request = StreamRequest()
    fill_frame(request.frame, frame)
    return request
