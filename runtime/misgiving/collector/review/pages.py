"""The pages themselves: contact sheet, frame, audit and overview."""

import time
from collections import Counter
from collections.abc import Iterator, Sequence
from datetime import date
from functools import lru_cache, partial
from typing import Any

import flask
from werkzeug.wrappers import Response

from misgiving.collector.control.control import Control
from misgiving.collector.control.overview import devices_of, lines_of
from misgiving.collector.frames.erased import erased_by_day
from misgiving.collector.frames.selection import Place
from misgiving.collector.frames.words import PAGED, Mark
from misgiving.collector.review import charts, drawing, queries
from misgiving.collector.review.auditing import HANDFUL, LEVEL, estimate_audit
from misgiving.collector.review.filters import View, read_view
from misgiving.collector.review.queries import DAYS, Marked
from misgiving.collector.store.folding import DAY_NS
from misgiving.collector.store.rows import StoredFrame
from misgiving.collector.store.store import Store
from misgiving.runtime.errors import DataError, InvalidInput, MisgivingError, NotFound
from misgiving.runtime.net.roles import fits
from misgiving.runtime.nouns import Person
from misgiving.runtime.wire.collected import KeptFrame

PAGE = 48
AROUND = 30
"""Frames of the same camera on either side, in the strip."""
ALIKE = 8
PATIENCE_S = 20.0
"""With one statement; a page's own take a tenth of a second at ten million frames."""

_THUMBS = 1024  # kept drawn, 15 kB each
_DEVICES, _BUNDLES, _VEHICLES = 20, 6, 50  # shown of more
_DRAWN_BY = "1"  # a new number where pictures are drawn in another way
_MARKS = {
    Mark.LABEL: ("Label", "l"),
    Mark.CONFIRMED: ("Confirmed failure", "c"),
    Mark.FALSE_ALARM: ("False alarm", "f"),
    Mark.WRONG_LABEL: ("Label is wrong", "w"),
    Mark.IGNORE: ("Ignore", "i"),
}


class Pages:
    """The pages over one store."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._connect = partial(store.database.connect, within_s=PATIENCE_S)
        self._thumbnail = lru_cache(_THUMBS)(lambda digest: drawing.thumbnail(store.read(digest)))

    def add_to(self, app: flask.Flask) -> None:
        """Register the addresses."""
        app.add_url_rule("/", "sheet", self.sheet)
        app.add_url_rule("/frames/<digest>", "frame", self.frame)
        app.add_url_rule("/frames/<digest>/mark", "mark", self.mark, methods=["POST"])
        app.add_url_rule("/thumbs/<digest>.jpg", "thumb", self.thumb)
        app.add_url_rule("/pictures/<digest>.jpg", "picture", self.picture)
        app.add_url_rule("/audit", "audit", self.audit)
        app.add_url_rule("/overview", "overview", self.overview)
        app.jinja_env.globals.update(said_of=said_of, mark_name=mark_name)

    def sheet(self) -> str:
        """The contact sheet."""
        view, after = _view(), flask.request.args.get("after", "")
        place = Place.read(after) if after else None
        with self._connect(reads=True) as connection:
            rows = queries.list_frames(
                connection, view.selection, view.order, beyond=place, limit=PAGE + 1
            )
            marks = queries.newest_marks(connection, [row.digest for row in rows])
            known = queries.known_lately(connection)
        shown = rows[:PAGE]
        further = view.at(Place.of(shown[-1], view.order)) if len(rows) > PAGE else ""
        return flask.render_template(
            "sheet.html", view=view, rows=shown, marks=marks, known=known, further=further,
            begun=bool(after), orders=PAGED, mark_names=[one.value for one in Mark],
        )  # fmt: skip

    def frame(self, digest: str) -> str:
        """One frame."""
        view = _view()
        with self._connect(reads=True) as connection:
            row = _found(queries.frame_row(connection, digest))
            before, after = _neighbours(connection, view, row)
            camera = queries.around(connection, row, AROUND)
            near = queries.alike(connection, row, ALIKE)
            said = queries.marks_of(connection, digest)
        kept, broken = self._read(digest)
        return flask.render_template(
            "frame.html", view=view, row=row, kept=kept, broken=broken, said=said, near=near,
            before=before, after=after, camera=camera, strip=charts.strip(camera),
            line=charts.threshold_of(camera, row), size=(charts.WIDTH, charts.HEIGHT),
            buttons=_buttons(row), joints=_joints(kept) if kept else [], compared=queries.COMPARED,
            image=_image_of(kept) if kept else "",
        )  # fmt: skip

    def mark(self, digest: str) -> Response:
        """Keep what somebody says of a frame, and go on to the next one."""
        view, text = _view(), flask.request.form.get("mark", "")
        if text not in [one.value for one in Mark]:
            raise InvalidInput(f"mark is {text!r}; expected one of the page's buttons")
        with self._connect() as connection:
            row = _found(queries.frame_row(connection, digest))
            _, after = _neighbours(connection, view, row)
            queries.add_mark(connection, digest, Marked(text, flask.g.by, time.time_ns()))
        flask.flash(f"{row.frame_id or digest[:12]}\n{digest}\n{mark_name(text, row)}")
        if after is None:
            return flask.redirect(flask.url_for("sheet") + view.query, 303)
        return flask.redirect(flask.url_for("frame", digest=after) + view.query, 303)

    def thumb(self, digest: str) -> flask.Response:
        """A small picture."""
        return self._jpeg(digest, self._thumbnail)

    def picture(self, digest: str) -> flask.Response:
        """A large picture; with ``?plain=1`` as the camera took it."""
        plain = "plain" in flask.request.args
        return self._jpeg(digest, lambda one: drawing.picture(self._store.read(one), plain=plain))

    def audit(self) -> str:
        """What the flag misses, and how often it cries wolf."""
        view = _view().of_population()
        with self._connect(reads=True) as connection:
            found = estimate_audit(queries.strata(connection, view.selection))
            known = queries.known_lately(connection)
        return flask.render_template(
            "audit.html", view=view, audit=found, known=known, handful=HANDFUL, level=LEVEL
        )

    def overview(self) -> str:
        """What arrived, from whom and why."""
        view = _view().of_population()
        now = time.time_ns()
        first = now // DAY_NS - DAYS + 1
        vehicles = _vehicles(Control(self._store.database), view, now)
        with self._connect(reads=True) as connection:
            came = queries.arrivals(connection, view.selection, first * DAY_NS)
            scores = queries.scores_by_bundle(connection, view.selection)
            marks = queries.count_marks(connection)
            declined = queries.count_declined(connection, first * DAY_NS)
            erased = erased_by_day(connection, first)
            known = queries.known_lately(connection)
        return flask.render_template(
            "overview.html", view=view, arrived=charts.arrived(*came, first, DAYS), known=known,
            histograms=charts.histograms(scores)[:_BUNDLES], marks=marks, declined=declined,
            vehicles=vehicles, most=_DEVICES, scored=queries.SCORED, erased=erased,
            erased_sums=_sums(erased),
            size=(charts.WIDTH, charts.HEIGHT),
        )  # fmt: skip

    def _read(self, digest: str) -> tuple[KeptFrame | None, str]:
        """A frame, or why it cannot be read."""
        try:
            return self._store.read(digest), ""
        except MisgivingError as error:
            return None, str(error)

    def _jpeg(self, digest: str, draw: Any) -> flask.Response:
        """A picture of a frame that still has a row: what was erased is not shown from memory."""
        with self._connect(reads=True) as connection:
            _found(queries.frame_row(connection, digest))
        response = flask.Response(mimetype="image/jpeg")
        response.headers["Cache-Control"] = "private, no-cache"  # asks each time, is told: the same
        response.set_etag(
            f"{digest[:32]}-{_DRAWN_BY}{'p' if 'plain' in flask.request.args else ''}"
        )
        if response.make_conditional(flask.request).status_code != 304:
            try:
                response.set_data(draw(digest))
            except DataError as error:  # ImageError is another class
                raise NotFound(str(error)) from error
        return response


def said_of(row: StoredFrame) -> str:
    """What a caption says of a frame's worst person."""
    if row.failure_probability is not None:
        said = f"P(failure) {row.failure_probability:.2f}"
    elif row.max_predicted_loss is not None:
        said = f"predicted loss {row.max_predicted_loss:.3f}"
    else:
        said = "nobody found" if row.persons == 0 else "no score"
    return f"{said}, flagged" if row.flagged else said


def mark_name(mark: str, row: StoredFrame | None = None) -> str:
    """A mark in words; what is not flagged is no false alarm, but no failure either."""
    if mark == Mark.FALSE_ALARM.value and row is not None and not row.flagged:
        return "No failure"
    return _MARKS[Mark(mark)][0]


def _view() -> View:
    return read_view(flask.request.args, time.time_ns())


def _found(row: StoredFrame | None) -> StoredFrame:
    if row is None:
        raise NotFound("there is no such frame; it may have been erased. Go back to the frames")
    return row


def _neighbours(connection: Any, view: View, row: StoredFrame) -> tuple[str | None, str | None]:
    """Digests of the frames before and after one, in the list that it was chosen from."""
    found = []
    for backwards in (True, False):
        place = Place.of(row, view.order)
        rows = queries.list_frames(
            connection, view.selection, view.order, beyond=place, backwards=backwards, limit=1
        )
        found.append(rows[0].digest if rows else None)
    return found[0], found[1]


def _buttons(row: StoredFrame) -> list[tuple[str, str, str]]:
    """Value, words and key of each mark."""
    return [(mark.value, mark_name(mark.value, row), key) for mark, (_, key) in _MARKS.items()]


def _joints(kept: KeptFrame) -> list[list[tuple[str, float, float | None, float]]]:
    """Of each person: name, confidence and loss of each joint, and how long its bar is, 0 to 1."""
    hidden = kept.redaction.hidden if kept.redaction else ()
    return [
        list(_joints_of(kept.keypoint_names, person, hidden[at] if at < len(hidden) else ()))
        for at, person in enumerate(kept.persons)
    ]


def _joints_of(
    names: Sequence[str], person: Person, hidden: Sequence[int]
) -> Iterator[tuple[str, float, float | None, float]]:
    losses = person.keypoint_loss.tolist()
    top = max([1.0, *losses])
    for at, (_, _, confidence) in enumerate(person.keypoints.tolist()):
        name = names[at].replace("_", " ") if at < len(names) else f"joint {at}"
        name += " (covered)" if at in hidden else ""
        loss = losses[at] if at < len(losses) else None
        yield name, confidence, loss, min(1.0, max(0.0, (loss or 0.0) / top))


def _image_of(kept: KeptFrame) -> str:
    """How the image is coded, and what the vehicle took out of it."""
    said = [kept.coding.value] if kept.coding else []
    said += [f"quality {kept.jpeg_quality}"] if kept.jpeg_quality else []
    if redaction := kept.redaction:
        said += ["all but the persons is grey"] if redaction.cropped else []
        said += [f"heads covered: {len(redaction.covered)}"] if redaction.covered else []
        said += [f"changed by {redaction.hook}"] if redaction.hook else []
    return ", ".join(said)


def _sums(erased: list[tuple[date, str, int]]) -> Counter[str]:
    """Reason → number of frames."""
    sums = Counter[str]()
    for _, reason, count in erased:
        sums[reason] += count
    return sums


def _vehicles(control: Control, view: View, now_ns: int) -> list[list[str]]:
    """What each vehicle reported last, in lines; those with trouble first."""
    wanted = view.selection.devices or ("*",)
    known = [
        (not one.newest.report.drifting, -one.lost, name, one)
        for name, one in devices_of(control.runs()).items()
        if any(fits(pattern, name) for pattern in wanted)
    ]
    ordered = sorted(known, key=lambda one: one[:3])[:_VEHICLES]
    return [[line.strip() for line in lines_of(name, one, now_ns)] for *_, name, one in ordered]
