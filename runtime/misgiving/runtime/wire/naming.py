"""What people call a message."""

from misgiving.v1.pose_pb2 import Frame


def frame_name(frame: Frame) -> str:
    """What logs call a frame: its id, which is unique within its stream."""
    return f"{frame.stream_id}/{frame.frame_id}" if frame.stream_id else frame.frame_id
