"""MediaPipe's BlazePose in a process and an environment of its own: the peer of its page.

``against_others.py`` starts it with the file descriptor of a pipe. It sends its version, then takes
one RGB picture after the other, with the confidence from which on a person is taken for one, and
says where the 33 landmarks are and what the answer took. It ends when the pipe is closed.
"""

import sys
import time
from multiprocessing.connection import Connection

import mediapipe
import numpy as np


def main(pipe: Connection) -> None:
    """Answer pictures until there are no more."""
    names = [landmark.name.lower() for landmark in mediapipe.solutions.pose.PoseLandmark]
    pipe.send((mediapipe.__version__, names))
    poses = {}
    while True:
        try:
            confidence, shape, pixels = pipe.recv()
        except EOFError:
            return
        if confidence not in poses:
            poses[confidence] = _pose(confidence)
        image = np.frombuffer(pixels, np.uint8).reshape(shape)
        wall, cpu = time.perf_counter(), time.process_time()
        found = poses[confidence].process(image).pose_landmarks
        taken = time.perf_counter() - wall, time.process_time() - cpu
        pipe.send((_rows(found, shape), taken))


def _pose(confidence: float) -> mediapipe.solutions.pose.Pose:
    """Complexity 1 is the only one whose weights are in the wheel: others would be downloaded."""
    return mediapipe.solutions.pose.Pose(
        static_image_mode=True,
        model_complexity=1,
        min_detection_confidence=confidence,
        min_tracking_confidence=confidence,
    )


def _rows(found: object, shape: tuple[int, ...]) -> list[tuple[float, float, float]] | None:
    """x and y in px of the picture, and the visibility; None where nobody is found."""
    if found is None:
        return None
    height, width = shape[:2]
    return [(one.x * width, one.y * height, one.visibility) for one in found.landmark]


if __name__ == "__main__":
    main(Connection(int(sys.argv[1])))
