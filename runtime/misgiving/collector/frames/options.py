"""The options by which verbs open a store and select its frames; loads nothing heavy."""

import functools
import inspect
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated, Any

import typer

from misgiving.collector.frames.words import Mark, moment, score_range
from misgiving.collector.options import DatabaseOption, ObjectsOption, OpenWith, StoreOption
from misgiving.runtime.errors import MisgivingError

if TYPE_CHECKING:
    from misgiving.collector.frames.selection import FrameSelection
    from misgiving.collector.store import Store


def _asked(
    device: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME", help="Of this device; NAME* for all that begin so. Repeat."),
    ] = None,
    stream: Annotated[
        list[str] | None, typer.Option(metavar="NAME", help="Of this stream, likewise.")
    ] = None,
    since: Annotated[
        str | None,
        typer.Option(
            metavar="TIME",
            help="Arrived at this time or later: 2026-11-29, 2026-11-29T14:30 (UTC), or so long "
            "ago: 90m, 2h, 3d, 4w.",
        ),
    ] = None,
    until: Annotated[
        str | None, typer.Option(metavar="TIME", help="Arrived before this time, likewise.")
    ] = None,
    reason: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME", help="Kept for predicted_loss, shadow or audit. Repeat."),
    ] = None,
    campaign: Annotated[
        list[str] | None, typer.Option(metavar="NAME", help="Kept by this campaign. Repeat.")
    ] = None,
    score: Annotated[
        str | None,
        typer.Option(metavar="LOW-HIGH", help="Predicted loss of the worst person: 0.5-0.9, 0.5-."),
    ] = None,
    bundle: Annotated[
        str, typer.Option(metavar="HEX", help="Of the bundle whose digest begins with HEX.")
    ] = "",
    reviewed: Annotated[
        bool | None,
        typer.Option("--reviewed/--unreviewed", help="Whether somebody has marked them."),
    ] = None,
    mark: Annotated[
        list[Mark] | None, typer.Option(metavar="NAME", help="What the newest mark says. Repeat.")
    ] = None,
    new: Annotated[
        bool,
        typer.Option("--new", help="Neither they nor their picture were exported to annotators."),
    ] = False,
) -> "FrameSelection":
    from misgiving.collector.frames.selection import FrameSelection

    now = time.time_ns()
    return FrameSelection(
        devices=tuple(device or ()),
        streams=tuple(stream or ()),
        since_ns=_read("since", since, lambda text: moment(text, now)),
        until_ns=_read("until", until, lambda text: moment(text, now)),
        reasons=tuple(reason or ()),
        campaigns=tuple(campaign or ()),
        score=_read("score", score, score_range),
        bundle=bundle,
        reviewed=reviewed,
        marks=tuple(one.value for one in mark or ()),
        new=new,
    )


@contextmanager
def _opened(
    store: StoreOption,
    database: DatabaseOption = None,
    objects: ObjectsOption = None,
    open_with: OpenWith = None,
) -> "Iterator[Store]":
    from misgiving.collector.store import Store
    from misgiving.runtime.wire.sealing import read_opening_keys

    keys = read_opening_keys(open_with or [])
    with Store(store, database, objects, create=False, keys=keys) as opened:
        yield opened


def of_store(verb: Callable[..., None], *, unseals: bool = True) -> Callable[..., None]:
    """The verb with the options of a store, given to it opened as ``store``; and with those of a
    selection, where it takes a ``selection``.

    Args:
        verb: to be a command.
        unseals: whether it opens frames, which may be sealed.
    """
    takes = inspect.signature(verb).parameters
    stores = dict(inspect.signature(_opened).parameters)
    if not unseals:
        del stores["open_with"]
    selects = inspect.signature(_asked).parameters if "selection" in takes else {}
    own = {name: one for name, one in takes.items() if name not in ("store", "selection")}

    @functools.wraps(verb)
    def run(**given: Any) -> None:
        if selects:
            given["selection"] = _asked(**{name: given.pop(name) for name in selects})
        with _opened(**{name: given.pop(name) for name in stores}) as store:
            verb(store=store, **given)

    together = [
        one.replace(kind=inspect.Parameter.KEYWORD_ONLY)
        for one in (*own.values(), *stores.values(), *selects.values())
    ]
    run.__signature__ = inspect.Signature(together)  # type: ignore[attr-defined]
    run.__annotations__ = {one.name: one.annotation for one in together}
    return run


of_metadata = functools.partial(of_store, unseals=False)
"""The same for a verb that opens no frame."""


def _read(option: str, text: str | None, read: Callable[[str], Any]) -> Any:
    if text is None:
        return None
    try:
        return read(text)
    except MisgivingError as error:
        raise type(error)(f"--{option}: {error}") from error
