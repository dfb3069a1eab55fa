"""Coverage-guided fuzzing of what reads files and frames: an error of ours, or none.

Run: python benchmarks/fuzz.py decode|frame|jpeg|graph|toml|detector|manifest|
     signatures|mp4|zip CORPUS [-max_total_time=60]
in an environment with the package and ``atheris``. CORPUS is a folder of samples, which grows.
"""

import asyncio
import contextlib
import sys
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path

import atheris
import numpy as np
from google.protobuf.message import DecodeError

with atheris.instrument_imports(include=["misgiving", "tomllib"]):
    from misgiving.runtime import images, jpeg
    from misgiving.runtime.bundles.bundle import Bundle
    from misgiving.runtime.bundles.graphfile import check_graph
    from misgiving.runtime.bundles.manifest import parse_manifest
    from misgiving.runtime.bundles.trust import parse_signatures
    from misgiving.runtime.errors import MisgivingError
    from misgiving.runtime.persons import detector_toml
    from misgiving.runtime.serving.shared_memory import SharedMemory, _Piece
    from misgiving.runtime.settings.reading import Sources
    from misgiving.runtime.sources import containers, mp4
    from misgiving.runtime.wire.frames import to_frame
    from misgiving.v1.pose_pb2 import Frame


def _settings(path: Path) -> None:
    Sources(path).read()


def _video(path: Path) -> None:
    containers.counting_of(path, mp4.read_track(path))
    containers.ends_early(path)


def _frame() -> Callable[[bytes], object]:
    """A frame that may lie in shared memory: three slots of 48 bytes, whose token is empty."""
    memory = SharedMemory(0)
    memory._pieces[b""] = piece = _Piece(3, 48)
    piece.read(0, np.empty(0, np.uint8))  # its name is gone

    async def read(data: bytes) -> None:
        with contextlib.suppress(DecodeError):
            to_frame(Frame.FromString(data), memory.read)

    loop = asyncio.new_event_loop()
    return lambda data: loop.run_until_complete(read(data))


def _graph() -> Callable[[bytes], object]:
    return partial(check_graph, manifest=Bundle.load(TINY).manifest, name="a graph")


TINY = Path(__file__).parents[1] / "tests" / "shared" / "tiny_bundle"
FILE = Path(tempfile.mkdtemp(dir="/dev/shm")) / "file"
IN_MEMORY: dict[str, Callable[[bytes], object]] = {
    "decode": images.decode,
    "jpeg": partial(jpeg.size, name="a picture"),
    "frame": _frame(),
    "graph": _graph(),
    "manifest": partial(parse_manifest, path=FILE),
    "signatures": partial(parse_signatures, name="a bundle"),
}
ON_DISK: dict[str, Callable[[Path], object]] = {
    "toml": _settings,
    "detector": detector_toml.parsed,
    "mp4": _video,
    "zip": Bundle.load,
}


def one(target: str, data: bytes) -> None:
    """Raises what is no error of ours, or is more than a line."""
    try:
        if target in IN_MEMORY:
            IN_MEMORY[target](data)
        else:
            FILE.write_bytes(data)
            ON_DISK[target](FILE)
    except MisgivingError as error:
        if "\n" in str(error):
            raise AssertionError(str(error)) from error


if __name__ == "__main__":
    atheris.Setup([sys.argv[0], *sys.argv[2:]], partial(one, sys.argv[1]))
    atheris.Fuzz()
