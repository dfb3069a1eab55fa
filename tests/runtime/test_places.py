"""Who has a turn, and when: bounded, in turn, and none lost."""

import asyncio
from collections.abc import Coroutine
from typing import Any

import pytest

from misgiving.runtime.errors import ResourceExhausted
from misgiving.runtime.serving.places import Place, Places


class Asking:
    """Sources that ask for places, and the order in which they got them."""

    def __init__(self, places: Places) -> None:
        self.places = places
        self.granted: list[str] = []
        self.place: dict[str, Place] = {}
        self.tasks: dict[str, asyncio.Task[None]] = {}

    async def ask(self, *names: str, count: int = 1) -> None:
        """Ask under each name, whose first letter is the source."""
        for name in names:
            self.tasks[name] = asyncio.create_task(self._wait(name, count))
        await self.settle()

    async def settle(self) -> None:
        for _ in range(3):
            await asyncio.sleep(0)

    async def _wait(self, name: str, count: int) -> None:
        self.place[name] = await self.places.wait_for(count, name[0])
        self.granted.append(name)


def run(test: Coroutine[Any, Any, None]) -> None:
    asyncio.run(test)


def test_a_full_queue_refuses_and_says_how_long_it_takes() -> None:
    async def test() -> None:
        asking = Asking(places := Places(10, ahead=1))
        await asking.ask("a1", count=7)
        await asking.ask("b1", count=2)  # which waits
        places.check(1, crop_s=0.02)
        with pytest.raises(ResourceExhausted, match="queue holds 7 crops .* at most 10") as caught:
            places.check(2, crop_s=0.02)
        assert caught.value.retry_after_ms == 180
        asking.place["a1"].leave()
        places.check(8, crop_s=0.02)

    run(test())


def test_sources_take_turns_and_each_keeps_its_order() -> None:
    async def test() -> None:
        asking = Asking(Places(100, ahead=1))
        await asking.ask("a1", "a2", "a3", "a4", "b1", "b2", "c1")
        for name in ("a1", "a2", "b1", "c1", "a3", "b2", "a4"):
            assert asking.granted[-1] == name
            asking.place[name].begin()
            await asking.settle()

    run(test())


def test_a_closer_look_keeps_others_from_their_turn() -> None:
    async def test() -> None:
        asking = Asking(Places(100, ahead=1))
        await asking.ask("a1", "b1", "c1")
        asking.place["a1"].look()  # the first: that is its turn
        asking.place["a1"].begin()
        await asking.settle()
        asking.place["a1"].look()
        asking.place["b1"].begin()
        await asking.settle()
        assert asking.granted == ["a1", "b1"]
        asking.place["a1"].leave()  # its client is gone
        await asking.settle()
        assert asking.granted == ["a1", "b1", "c1"]

    run(test())


def test_who_has_left_gives_no_second_turn() -> None:
    """The engine passes over the crops of a client that is gone, and says that they have begun."""

    async def test() -> None:
        asking = Asking(places := Places(100, ahead=1))
        await asking.ask("a1", "b1", "c1")
        asking.place["a1"].leave()
        asking.place["a1"].begin()
        await asking.settle()
        assert (asking.granted, places.now_ahead) == (["a1", "b1"], 1)

    run(test())


def test_a_large_frame_is_not_overtaken() -> None:
    async def test() -> None:
        asking = Asking(places := Places(4, ahead=8))
        await asking.ask("a", count=4)
        await asking.ask("b", count=3)
        await asking.ask("c", count=1)
        asking.place["a"].resize(3)  # one is free, and the first that waits wants three
        await asking.settle()
        assert asking.granted == ["a"]
        asking.place["a"].leave()
        await asking.settle()
        assert (asking.granted, places.taken) == (["a", "b", "c"], 4)

    run(test())


def test_a_source_that_floods_leaves_room() -> None:
    async def test() -> None:
        asking = Asking(places := Places(256, ahead=8))
        await asking.ask("a1", "a2", "a3", "a4", count=64)
        assert asking.granted == ["a1", "a2"]
        await asking.ask("b1", count=64)
        await asking.ask("c1", count=32)
        assert (asking.granted, places.taken) == (["a1", "a2", "b1", "c1"], 224)

    run(test())


@pytest.mark.parametrize("granted", [False, True])
def test_a_waiter_that_gives_up_loses_no_place(granted: bool) -> None:
    async def test() -> None:
        asking = Asking(places := Places(2, ahead=2))
        await asking.ask("a", count=2)
        await asking.ask("b", count=2)
        await asking.ask("c")
        if granted:
            asking.place["a"].leave()  # granted, but the waiter has not run yet
        asking.tasks["b"].cancel()
        if not granted:
            await asking.settle()
            asking.place["a"].leave()
        await asking.settle()
        assert (asking.granted, places.taken) == (["a", "c"], 1)
        asking.place["c"].leave()
        assert places.taken == 0

    run(test())
