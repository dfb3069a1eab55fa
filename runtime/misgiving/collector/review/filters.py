"""Which frames a page is about: what its address says, and the address of another page."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from urllib.parse import urlencode

from misgiving.collector.frames.selection import FrameSelection, Place
from misgiving.collector.frames.words import PAGED, Order, moment, score_range
from misgiving.runtime.errors import InvalidInput

FIELDS = (
    *("device", "stream", "reason", "campaign", "bundle", "score", "since", "until"),
    *("reviewed", "mark"),
)
_REVIEWED = {"": None, "yes": True, "no": False}


@dataclass(frozen=True, slots=True)
class View:
    """Filters and order, as somebody typed them and as they are meant."""

    typed: dict[str, str] = field(default_factory=dict)
    """Name of a field → what stands in it; those that are empty are left out."""
    selection: FrameSelection = field(default_factory=FrameSelection)
    order: Order = Order.NEWEST

    @property
    def query(self) -> str:
        """As the end of an address, with its ``?``; empty where nothing is asked for."""
        words = self.typed | ({} if self.order is Order.NEWEST else {"order": self.order.value})
        return f"?{urlencode(words)}" if words else ""

    def at(self, place: Place) -> str:
        """The same from a place on."""
        return f"{self.query or '?'}{'&' if self.query else ''}{urlencode({'after': str(place)})}"

    def of_population(self) -> "View":
        """The same without what was seen of the frames or said of them: an estimate is about all.

        A filter by reason, score or mark would cut the sample by what it is to measure.
        """
        kept = ("device", "stream", "campaign", "bundle", "since", "until")
        typed = {name: text for name, text in self.typed.items() if name in kept}
        meant = replace(self.selection, reasons=(), score=None, reviewed=None, marks=())
        return View(typed, meant)


def read_view(arguments: Mapping[str, str], now_ns: int) -> View:
    """What the arguments of an address ask for.

    Args:
        arguments: of FIELDS and ``order``; others are ignored.
        now_ns: Unix nanoseconds, from which "2d" counts back.

    Raises:
        InvalidInput: a field says what it cannot mean.
    """
    typed = {name: text for name in FIELDS if (text := arguments.get(name, "").strip())}
    order = arguments.get("order", "") or Order.NEWEST.value
    reviewed = typed.get("reviewed", "")
    if reviewed not in _REVIEWED:
        raise InvalidInput(f"reviewed is {reviewed!r}; expected yes or no. Choose one")
    if order not in [one.value for one in PAGED]:
        raise InvalidInput(f"order is {order!r}; expected newest, worst or drawn. Choose one")
    selection = FrameSelection(
        devices=_named(typed, "device"),
        streams=_named(typed, "stream"),
        reasons=_named(typed, "reason"),
        campaigns=_named(typed, "campaign"),
        bundle=typed.get("bundle", ""),
        score=score_range(typed["score"]) if "score" in typed else None,
        since_ns=moment(typed["since"], now_ns) if "since" in typed else None,
        until_ns=moment(typed["until"], now_ns) if "until" in typed else None,
        reviewed=_REVIEWED[reviewed],
        marks=_named(typed, "mark"),
    )
    return View(typed, selection, Order(order))


def _named(typed: Mapping[str, str], name: str) -> tuple[str, ...]:
    return (typed[name],) if name in typed else ()
