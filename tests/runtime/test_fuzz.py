"""Bytes that nobody meant: each gets an answer or a clean status, and nobody sees a traceback.

Case n is made from the random numbers of seed n, so that it can be made again.
``pytest tests/runtime/test_fuzz.py --fuzz-cases 1000000 --timeout 0`` tries more than CI does.
"""

import logging
import random
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import grpc
import numpy as np
import pytest
from google.protobuf.message import Message

from misgiving.runtime.errors import MisgivingError
from misgiving.runtime.geometry import Region
from misgiving.runtime.images import decode, encode_jpeg, encode_png
from misgiving.runtime.persons.detector import Detector
from misgiving.runtime.settings.changing import check_change
from misgiving.runtime.settings.model import Settings, keys_of
from misgiving.runtime.settings.reading import Sources
from misgiving.runtime.verbs.exchanging import policy_of
from misgiving.runtime.verbs.serve import set_level
from misgiving.v1 import detector_pb2 as detector
from misgiving.v1 import open_inference_pb2 as triton
from misgiving.v1 import pose_pb2 as pose
from shared import tiny
from shared.collecting import eventually
from shared.fuzzing import VALUES, Try, damaged, rewritten
from shared.memory import lent
from shared.serving import Running, serving, wire_frame

NOISE = np.random.default_rng(0).integers(0, 256, (24, 32, 3), np.uint8)
PICTURES = [encode_jpeg(NOISE), encode_png(NOISE), encode_jpeg(NOISE // 128, 20)]
GOOD = wire_frame(tiny.spots([7] * 14), [Region(5, 6, 30, 40)], "id", 1, "front")
FLOATS = [0.0, -0.0, 1.0, -1.0, 20.0, 3e38, -3e38, 1e-40, float("nan"), float("inf")]
INTEGERS = [0, 1, 2, 3, 4, -1, 255, 256, 2**31, 2**32 - 1, 2**62, 2**63 - 1, -(2**63)]

TOKENS = [b""]
"""The last is that of the server's memory, once there is a server."""

KEYS: dict[str, list[str]] = {}
for name, _ in keys_of(Settings()):
    KEYS.setdefault(name.partition(".")[0], []).append(name.partition(".")[2])
KEYS["flags"].append(r'"a\nb"')


def picture(rng: random.Random) -> bytes:
    return damaged(rng, rng.choice(PICTURES)) if rng.random() < 0.9 else rng.choice(PICTURES)


def frame(rng: random.Random) -> pose.Frame:
    made = pose.Frame(capture_time_unix_nano=rng.choice(INTEGERS))
    match rng.randint(0, 4):
        case 4:
            shared = made.image.shared
            shared.token = rng.choice([TOKENS[-1]] * 4 + [b"", bytes(16), rng.randbytes(16)])
            shared.slot = rng.choice([0, 0, 1, 2, 2**32 - 1])
            shared.height_px, shared.width_px = rng.choices([0, 1, 2, 4, 2**16, 2**32 - 1], k=2)
        case 0:
            made.image.encoded = picture(rng)
        case 1:
            raw = made.image.raw
            raw.pixels = bytes(rng.choice([0, 12, 48]))
            raw.height_px, raw.width_px = rng.choices([0, 1, 2, 4, 2**16, 2**32 - 1], k=2)
        case _:
            made.image.CopyFrom(GOOD.image)
    for _ in range(rng.choice([0, 1, 1, 2, 65])):
        x, y, width, height = rng.choices(FLOATS, k=4)
        made.regions.add(x_px=x, y_px=y, width_px=width, height_px=height)
    return made


def request(rng: random.Random) -> detector.InferRequest:
    return detector.InferRequest(frame=frame(rng))


def message(rng: random.Random) -> detector.StreamInferRequest:
    if rng.random() < 0.4:
        return detector.StreamInferRequest(open=detector.StreamOpen(mode=rng.randint(0, 3)))
    return detector.StreamInferRequest(frame=frame(rng))


def tensors(rng: random.Random) -> triton.ModelInferRequest:
    made = triton.ModelInferRequest(model_name=rng.choice(["bright-spots"] * 9 + ["other"]))
    raw = rng.random() < 0.5
    for name in rng.choice([["image"]] * 3 + [["image", "regions"], ["image"] * 2]):
        shapes = [[2, 2, 3]] * 5 + [[1], [1, 4], [2, 4], rng.choices(INTEGERS, k=rng.randint(0, 4))]
        datatype = rng.choice(["UINT8"] * 4 + ["BYTES", "FP32", "FP32", ""])
        one = made.inputs.add(name=name, datatype=datatype, shape=rng.choice(shapes))
        if raw:
            made.raw_input_contents.append(
                rng.choice([bytes(12), bytes(12), bytes(16), picture(rng)])
            )
        else:
            one.contents.uint_contents.extend(rng.choices(range(257), k=12))
            one.contents.fp32_contents.extend(rng.choices(FLOATS, k=rng.choice([4, 8])))
            one.contents.bytes_contents.append(picture(rng))
    parameter = made.parameters[rng.choice(["stream_id", "capture_time_unix_nano", "priority"])]
    parameter.int64_param = rng.choice(INTEGERS)
    return made


def sent(rng: random.Random, make: Callable[[random.Random], Message]) -> bytes:
    """As a message travels, sometimes damaged on the way."""
    data = make(rng).SerializeToString()
    return damaged(rng, data) if rng.random() < 0.3 else data


@pytest.fixture(scope="module")
def server() -> Iterator[Running]:
    policy = tiny.policy(audit_rate=0.5)
    with serving(policy=policy, shared_bytes=1 << 20) as running, lent(running.stub, 2, 48) as one:
        TOKENS.append(one.lent.token)
        yield running


def tried(call: Callable[[], object]) -> tuple[str, str]:
    try:
        call()
    except MisgivingError as error:
        return error.status, str(error)
    return "OK", ""


def test_the_decoder(attempt: Try) -> None:
    def case(rng: random.Random) -> tuple[str, str]:
        return tried(lambda: decode(picture(rng)))

    attempt(0.75, case)


def toml(rng: random.Random, tables: list[str]) -> bytes:
    """A misgiving.toml with values that some key takes, in some places wrong ones."""
    text = ""
    for table in rng.sample(tables, rng.randint(0, len(tables))):
        keys = KEYS[table]
        text += f"[{table}]\n"
        for key in rng.sample(keys, rng.randint(0, len(keys))):
            text += f"{key} = {rng.choice(VALUES)}\n"
    return damaged(rng, text.encode()) if rng.random() < 0.3 else text.encode()


def test_settings(attempt: Try, tmp_path: Path) -> None:
    file = tmp_path / "misgiving.toml"

    def case(rng: random.Random) -> tuple[str, str]:
        file.write_bytes(toml(rng, sorted(KEYS)))
        return tried(Sources(file).read)

    attempt(0.02, case)


def test_settings_of_a_server_that_runs(server: Running, attempt: Try, tmp_path: Path) -> None:
    """As SIGHUP has them read; what is taken is in force for the next calls."""
    file, bundle, before = tmp_path / "misgiving.toml", tiny.model().bundle, Settings()
    level = logging.getLogger("misgiving").level

    def apply(new: Settings) -> None:
        server.pipeline.flag_by(policy_of(new.flags, bundle))
        set_level(new.log)

    def reload() -> None:
        check_change(before, new := Sources(file).settings())
        apply(new)

    def case(rng: random.Random) -> tuple[str, str]:
        file.write_bytes(toml(rng, ["flags", "log"]))
        return tried(reload)

    try:
        attempt(0.02, case)
    finally:
        apply(before)
        logging.getLogger("misgiving").setLevel(level)


def test_a_detector(attempt: Try, tmp_path: Path) -> None:
    file = tmp_path / "detector.toml"
    shutil.copy(tiny.DETECTOR.with_name("net.onnx"), tmp_path)
    good = tiny.DETECTOR.read_text()

    def case(rng: random.Random) -> tuple[str, str]:
        file.write_bytes(rewritten(rng, good))
        return tried(lambda: Detector.load(file))

    attempt(0.005, case)


CALLS = {
    "misgiving.v1.FailureDetector/Infer": request,
    "inference.GRPCInferenceService/ModelInfer": tensors,
}
STREAMS = {
    "misgiving.v1.FailureDetector/StreamInfer": message,
    "inference.GRPCInferenceService/ModelStreamInfer": tensors,
}


def outcome(call: Callable[[], object]) -> tuple[str, str]:
    try:
        call()
    except grpc.RpcError as error:
        return error.code().name, error.details() or ""
    return "OK", ""


@pytest.mark.parametrize("method", CALLS)
def test_calls(server: Running, attempt: Try, method: str) -> None:
    call = server.channel.unary_unary(f"/{method}")

    def case(rng: random.Random) -> tuple[str, str]:
        data = sent(rng, CALLS[method])
        return outcome(lambda: call(data, timeout=60))

    attempt(0.08, case)


def asked_for_memory(rng: random.Random) -> detector.ShareMemoryRequest:
    slots = rng.choice([0, 1, 2, 64, 65, 2**32 - 1])
    return detector.ShareMemoryRequest(
        slots=slots, slot_bytes=rng.choice([0, 1, 48, 4096, 2**20, 2**32, 2**64 - 1])
    )


def test_shared_memory(server: Running, attempt: Try) -> None:
    """What is lent is given back at once."""
    call = server.channel.unary_stream("/misgiving.v1.FailureDetector/ShareMemory")

    def case(rng: random.Random) -> tuple[str, str]:
        lending = call(sent(rng, asked_for_memory), timeout=60)
        status = outcome(lambda: next(lending))
        lending.cancel()
        return status

    attempt(0.02, case)
    eventually(lambda: len(server.server.servicer.shared._pieces) == 1)


@pytest.mark.parametrize("method", STREAMS)
def test_streams(server: Running, attempt: Try, method: str) -> None:
    call = server.channel.stream_stream(f"/{method}")

    def case(rng: random.Random) -> tuple[str, str]:
        messages = [sent(rng, STREAMS[method]) for _ in range(rng.randint(0, 4))]
        return outcome(lambda: list(call(iter(messages), timeout=60)))

    attempt(0.02, case)
