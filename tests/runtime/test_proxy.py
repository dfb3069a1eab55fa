"""Uploads through a proxy that cuts, delays, throttles and swallows: each frame arrives once."""

from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from misgiving.collector.store import Store
from misgiving.runtime.outbox.spool import Spool
from misgiving.runtime.outbox.uploader import Uploader
from shared.collecting import collecting, eventually, noisy_frame, offer, until_pending
from shared.proxy import FAIR, Proxy, Weather, proxied

COUNT = 4


@pytest.fixture
def spool(tmp_path: Path) -> Iterator[Spool]:
    spool = Spool(tmp_path / "spool")
    for number in range(COUNT):
        assert offer(spool, noisy_frame(f"f{number}", 100_000))
    until_pending(spool, COUNT)
    yield spool
    spool.close()


def until_under_way(parts: Path) -> None:
    """Until the collector has a part of a frame."""

    def has_bytes() -> bool:
        with suppress(FileNotFoundError):  # whole meanwhile
            return any(part.stat().st_size for part in parts.glob("*.part"))
        return False

    eventually(has_bytes)


def cut(proxy: Proxy, parts: Path) -> None:
    until_under_way(parts)
    proxy.cut()
    proxy.set(FAIR)


def swallow(proxy: Proxy, parts: Path) -> None:
    """And then the connection is gone."""
    until_under_way(parts)
    proxy.set(Weather(blackhole=True))
    proxy.cut()
    proxy.set(FAIR)


def bear(_: Proxy, __: Path) -> None:
    """Nothing more happens."""


SLOW = Weather(bytes_per_second=200_000)


@pytest.mark.parametrize(
    ("weather", "fault"),
    [(SLOW, cut), (SLOW, swallow), (SLOW, bear), (Weather(delay_s=0.005), bear)],
)
def test_each_frame_arrives_once(
    tmp_path: Path, spool: Spool, weather: Weather, fault: Callable[[Proxy, Path], None]
) -> None:
    with (
        Store(tmp_path / "store") as store,
        collecting(store) as address,
        proxied(address) as proxy,
    ):
        uploader = Uploader(
            spool, proxy.address, chunk_bytes=10_000, first_wait_s=0.01, longest_wait_s=0.05
        )
        proxy.set(weather)
        uploader.start()
        fault(proxy, store.folder / "incoming")
        eventually(lambda: spool.counts().uploaded == COUNT)
        uploader.stop(60)
        ids = [row.frame_id for row, _ in store.frames()]
    assert sorted(ids) == [f"f{number}" for number in range(COUNT)]
