"""Who may be under way: bounded in crops, and fair between those who send.

A frame is decoded only when its turn has come, which is when the engine is about to have room for
it: until then a live frame may still give way to a newer one.
"""

import asyncio
from collections import OrderedDict, deque
from collections.abc import Hashable

from misgiving.runtime.errors import ResourceExhausted


class Place:
    """Of one frame under way, until it leaves."""

    def __init__(self, places: "Places", source: Hashable, count: int) -> None:
        self._places = places
        self._source = source
        self._count = count
        self._ahead = True

    def look(self) -> None:
        """Crops of the frame are got ready for the engine: others wait the longer for their turn.

        The first look is what the turn was given for.
        """
        if not self._ahead:
            self._ahead = True
            self._places.now_ahead += 1

    def begin(self) -> None:
        """The engine has them: somebody else may have a turn."""
        if self._ahead:
            self._ahead = False
            self._places.now_ahead -= 1
            self._places.grant()

    def resize(self, count: int) -> None:
        """A newer frame of its source takes this place, with its own number of crops."""
        if count != self._count:
            self._places.hold(self._source, count - self._count)
            self._count = count
            self._places.grant()

    def leave(self) -> None:
        self._places.hold(self._source, -self._count)
        self._places.now_ahead -= self._ahead
        self._ahead = False  # the engine may still pass over its crops, and say that they began
        self._places.grant()


_Asks = deque[tuple[int, "asyncio.Future[Place]"]]
"""Of one source, in order: how many crops, and whom to tell."""


class Places:
    """A bounded number of crops, and of frames that wait ahead of the engine.

    Sources have their turn one after the other. One that holds places gets more only while at
    least as many stay free as it then holds, so that there is room for whoever comes next.
    """

    def __init__(self, capacity: int, ahead: int) -> None:
        self.ahead = ahead
        """Frames that may have had their turn while crops of theirs wait for the engine."""
        self.taken = 0
        self.capacity = capacity
        self.now_ahead = 0
        self._held: dict[Hashable, int] = {}
        self._waiting: OrderedDict[Hashable, _Asks] = OrderedDict()

    def check(self, count: int, crop_s: float) -> None:
        """Before a call waits that may also be refused.

        Args:
            count: crops of its frame.
            crop_s: what one takes, of late.

        Raises:
            ResourceExhausted: too much is here already; it says how long all of that takes.
        """
        waiting = (ask for asks in self._waiting.values() for ask in asks)
        asked = [crops for crops, turn in waiting if not turn.cancelled()]
        if (here := self.taken + sum(asked)) + count > self.capacity:
            error = ResourceExhausted(
                f"queue holds {self.taken} crops and {len(asked)} more frames wait; "
                f"at most {self.capacity} crops are taken. "
                "Send fewer at a time, or try again later"
            )
            error.retry_after_ms = max(1, round(1000 * here * crop_s))
            raise error

    async def wait_for(self, count: int, source: Hashable) -> Place:
        """A place for a frame of so many crops, when it is its source's turn."""
        if not self._waiting and self.now_ahead < self.ahead and self._fits(source, count):
            return self._place(source, count)
        turn: asyncio.Future[Place] = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(source, deque()).append((count, turn))
        self.grant()
        try:
            return await turn
        except asyncio.CancelledError:
            if not turn.cancelled():  # granted in the same moment
                turn.result().leave()
            else:
                self.grant()
            raise

    def hold(self, source: Hashable, count: int) -> None:
        """Let a source hold more crops, or fewer."""
        self.taken += count
        if held := self._held.get(source, 0) + count:
            self._held[source] = held
        else:
            del self._held[source]

    def grant(self) -> None:
        """Give turns as long as there is room."""
        while self._waiting and self.now_ahead < self.ahead:
            if (found := self._next()) is None:
                return
            source, asks = found
            count, turn = asks.popleft()
            del self._waiting[source]
            if asks:
                self._waiting[source] = asks  # behind all others
            turn.set_result(self._place(source, count))

    def _place(self, source: Hashable, count: int) -> Place:
        self.hold(source, count)
        self.now_ahead += 1
        return Place(self, source, count)

    def _fits(self, source: Hashable, count: int) -> bool:
        return self._held.get(source, 0) + count <= self.capacity - self.taken

    def _next(self) -> tuple[Hashable, _Asks] | None:
        """Whose turn it is, and what it asks; None while nobody's."""
        for source, asks in list(self._waiting.items()):
            while asks and asks[0][1].cancelled():
                asks.popleft()
            if not asks:
                del self._waiting[source]
                continue
            if self._fits(source, asks[0][0]):
                return source, asks
            if source not in self._held:  # it comes next: what is smaller does not overtake
                return None
        return None
