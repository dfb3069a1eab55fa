"""Ray Serve: the peer of ``peers.py`` over HTTP, pictures and answers as they are in the bodies.

Run: python ray_serve_server.py BUNDLE PORT
"""

import signal
import sys
from pathlib import Path

import ray
from ray import serve
from starlette.requests import Request
from starlette.responses import Response
from work import BATCH, Array, Work, from_body, to_body


@serve.deployment(num_replicas=1, max_ongoing_requests=4 * BATCH)
class Pose:
    """One replica, which batches without waiting for more."""

    def __init__(self, bundle: Path) -> None:
        self._work = Work(bundle)

    async def __call__(self, request: Request) -> Response:
        return await self._answer(*from_body(await request.body(), request.query_params))

    @serve.batch(max_batch_size=BATCH, batch_wait_timeout_s=0)
    async def _answer(self, images: list[Array], regions: list[list[float]]) -> list[Response]:
        keypoints, losses = self._work.answer(images, regions)
        return [Response(to_body(*each)) for each in zip(keypoints, losses, strict=True)]


def main(bundle: Path, port: int) -> None:
    ray.init(num_cpus=2, include_dashboard=False, logging_level="warning")
    serve.start(http_options={"host": "127.0.0.1", "port": port})
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # as Ctrl-C: that shuts down
    serve.run(Pose.bind(bundle), blocking=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
