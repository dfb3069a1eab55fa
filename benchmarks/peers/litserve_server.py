"""LitServe: the peer of ``peers.py`` over HTTP, pictures and answers as they are in the bodies.

It reads JSON and forms by itself; a dependency of FastAPI hands it the body as it came.
Run: python litserve_server.py BUNDLE PORT
"""

import sys
from pathlib import Path
from typing import Annotated, Any

import litserve
from fastapi import Depends, Request, Response
from work import Array, Work, from_body, to_body


async def _body(request: Request) -> tuple[bytes, dict[str, str]]:
    return await request.body(), dict(request.query_params)


Body = Annotated[Any, Depends(_body)]


class Pose(litserve.LitAPI):
    """One worker, which does not batch: LitServe's loop of batches polls, and takes a core idle."""

    def __init__(self, bundle: Path) -> None:
        super().__init__()
        self._bundle = bundle

    def setup(self, device: str) -> None:
        self._work = Work(self._bundle)

    def decode_request(self, request: Body) -> tuple[Array, list[float]]:
        return from_body(*request)

    def predict(self, x: tuple[Array, list[float]]) -> tuple[Array, Array]:
        image, region = x
        return self._work.answer([image], [region])

    def encode_response(self, output: tuple[Array, Array]) -> Response:
        return Response(to_body(*output), media_type="application/octet-stream")


if __name__ == "__main__":
    server = litserve.LitServer(
        Pose(Path(sys.argv[1])), accelerator="cpu", devices=1, fast_queue=True
    )
    server.run("127.0.0.1", int(sys.argv[2]), log_level="warning", generate_client_file=False)
