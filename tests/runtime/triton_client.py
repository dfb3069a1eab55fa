"""Triton's own client against a server of ours, in an environment of its own: its protobuf is
older than ours. ``.ci/run`` makes it, .venv-clients. Prints as JSON what came.

Arguments: the server's address, and a PNG.
"""

import json
import queue
import sys
from pathlib import Path
from typing import Any

import numpy as np
import tritonclient.grpc as triton

MODEL = "bright-spots"


def tensor(name: str, values: Any, datatype: str) -> triton.InferInput:
    made = triton.InferInput(name, list(values.shape), datatype)
    made.set_data_from_numpy(values)
    return made


def arrays(result: triton.InferResult) -> dict[str, Any]:
    outputs = result.get_response().outputs
    return {one.name: result.as_numpy(one.name).tolist() for one in outputs}


def streamed(client: triton.InferenceServerClient, *inputs: triton.InferInput) -> list[Any]:
    """Three frames through one stream, the second of them bad."""
    replies: queue.Queue[Any] = queue.Queue()
    client.start_stream(lambda result, error: replies.put((result, error)))
    client.async_stream_infer(MODEL, inputs, request_id="0")
    client.async_stream_infer("resnet", inputs, request_id="1")
    client.async_stream_infer(MODEL, inputs, request_id="2")
    said = [replies.get(timeout=60) for _ in range(3)]
    client.stop_stream()
    return [error.message() if error else arrays(result) for result, error in said]


def main(address: str, png: Path) -> None:
    client = triton.InferenceServerClient(address)
    regions = tensor("regions", np.array([[0, 0, 42, 56], [5, 6, 20, 30]], np.float32), "FP32")
    pixels = tensor("image", np.zeros((48, 64, 3), np.uint8), "UINT8")
    encoded = tensor("image", np.array([png.read_bytes()], np.object_), "BYTES")
    parameters = {"stream_id": "front", "capture_time_unix_nano": 1}
    black = client.infer(MODEL, [pixels], request_id="7", parameters=parameters)
    said = {
        "ready": [client.is_server_live(), client.is_server_ready(), client.is_model_ready(MODEL)],
        "server": client.get_server_metadata(as_json=True)["name"],
        "outputs": [one.name for one in client.get_model_metadata(MODEL).outputs],
        "black": arrays(black),
        "id": black.get_response().id,
        "spots": arrays(client.infer(MODEL, [encoded, regions])),
        "stream": streamed(client, encoded, regions),
    }
    json.dump(said, sys.stdout)


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
