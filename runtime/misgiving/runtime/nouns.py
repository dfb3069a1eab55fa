"""The nouns of the core: a frame, what is said of its persons, and what is done with them.

Nothing here knows how they travel; ``wire`` turns them into messages and back.
Axes: K keypoints, S signals, D embedding.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, fields
from enum import Enum

import numpy as np
from numpy.typing import NDArray

from misgiving.runtime import images
from misgiving.runtime.errors import InvalidInput
from misgiving.runtime.geometry import Region

Floats = NDArray[np.float32]


class ByValue:
    """Equal where all fields are, arrays among them; NaN is NaN."""

    __slots__ = ()
    __hash__ = None  # type: ignore[assignment]

    def __eq__(self, other: object) -> bool:
        if type(self) is not type(other):
            return NotImplemented
        names = [one.name for one in fields(self)]  # type: ignore[arg-type]
        return all(_same(getattr(self, name), getattr(other, name)) for name in names)


def _same(a: object, b: object) -> bool:
    if isinstance(a, float | np.ndarray) and isinstance(b, float | np.ndarray):
        return np.array_equal(a, b, equal_nan=True)
    return a == b


@dataclass(frozen=True, slots=True)
class Position:
    """A place on Earth, in degrees of WGS 84; north and east are positive.

    >>> Position(48.137, 11.575).latitude
    48.137

    Raises:
        InvalidInput: it is none.
    """

    latitude: float
    """-90 to 90."""
    longitude: float
    """-180 to 180."""

    def __post_init__(self) -> None:
        if not (-90 <= self.latitude <= 90 and -180 <= self.longitude <= 180):
            raise InvalidInput(
                f"position is {self.latitude:g}, {self.longitude:g}; expected a latitude from -90 "
                "to 90 and a longitude from -180 to 180, in degrees. Leave it out where unknown"
            )


@dataclass(frozen=True, slots=True, eq=False)
class Frame(ByValue):
    """One picture of one stream, and where its persons are. See :func:`make_frame`."""

    image: bytes | NDArray[np.uint8]
    """A JPEG or PNG as on disk, or RGB, shape (H, W, 3)."""
    regions: tuple[Region, ...] = ()
    """Persons' boxes in image px; none for the whole frame."""
    frame_id: str = ""
    """Comes back with the answer."""
    stream_id: str = ""
    """Names the camera or recording."""
    capture_time_unix_nano: int = 0
    """0 or less where it is not known."""
    position: Position | None = None
    """Of the camera at exposure; None where it is not known."""

    def decoded(self) -> NDArray[np.uint8]:
        """The RGB image, shape (H, W, 3).

        Raises:
            ImageError, ResourceExhausted: it is none, or too large.
        """
        name = f"frame {self.frame_id!r}"
        if isinstance(self.image, bytes):
            return images.decode(self.image, name)
        height, width = self.image.shape[:2]
        images.check_size(height, width, name)
        return self.image

    @property
    def size(self) -> int:
        """Bytes that the image takes in memory: nearly all of it."""
        return len(self.image) if isinstance(self.image, bytes) else self.image.nbytes

    @property
    def name(self) -> str:
        """What logs call it: its id, which is unique within its stream. Clients choose both, so
        what could begin a line of its own is quoted.
        """
        name = f"{self.stream_id}/{self.frame_id}" if self.stream_id else self.frame_id
        return name if name.isprintable() else repr(name)

    @property
    def ids(self) -> dict[str, str]:
        """What a log line about it carries beside its text."""
        return {"stream_id": self.stream_id, "frame_id": self.frame_id}


class Reason(Enum):
    """Why a person is kept, in a :class:`Decision`; the strongest first."""

    PREDICTED_LOSS = "predicted_loss"
    SHADOW = "shadow"
    """A second bundle disagrees, which was asked after the reply had left: no reply says so."""
    AUDIT = "audit"


class Withheld(Enum):
    """Why a person is not kept, in a :class:`Decision`: the first rule that said so."""

    BELOW_THRESHOLD = "below_threshold"
    NOT_RISING = "not_rising"
    """Flagged, and a frame of the same event is kept already."""
    TOO_SOON = "too_soon"
    """Flagged, too shortly after the stream's last flagged frame that was kept."""
    NEAR_DUPLICATE = "near_duplicate"
    """Flagged, and all the frame's flagged persons resemble flagged ones that were kept."""
    BUDGET = "budget"
    """Flagged, and a budget has nothing left for the stream."""


@dataclass(frozen=True, slots=True)
class Decision:
    """What is done with one person. Flagged is what the score says; kept is what the fleet sees.

    >>> decision = Estimator.load().infer(Path("runner.jpg").read_bytes()).persons[0].flag
    >>> decision.raised, decision.kept, decision.sampling_probability
    (False, None, 0.0)
    """

    raised: bool
    """Flagged: the score has reached the threshold."""
    kept: Reason | None
    """None where it is not kept."""
    threshold: float
    sampling_probability: float
    """Probability with which this person would be kept; weight by its inverse."""
    withheld: Withheld | None = None
    """None where it is kept."""

    @property
    def code(self) -> str:
        """The reason as counters call it, whichever it is; empty where nobody has decided."""
        reason = self.kept or self.withheld
        return reason.value if reason else ""


UNDECIDED = Decision(False, None, float("nan"), 0.0)
"""Of a person whom nobody has decided about."""


@dataclass(frozen=True, slots=True, eq=False)
class Person(ByValue):
    """What a network says of one region.

    >>> (person,) = Estimator.load().infer(Path("runner.jpg").read_bytes()).persons
    >>> person.keypoints.shape, person.keypoint_loss.shape, person.embedding.shape
    ((14, 3), (14,), (64,))
    """

    region: Region
    """What the answer is of, see the protocol's ``Person.region``."""
    keypoints: Floats
    """(K, 3): x and y in image px, confidence in [0, 1], which ranks and is no probability."""
    predicted_loss: float
    """Unitless; ranks frames of one bundle, higher is worse."""
    failure_probability: float | None
    """In [0, 1]; None where the bundle has no calibration, or the score is no number."""
    keypoint_loss: Floats
    """(K,), higher is worse; (0,) where the head does not tell joints apart."""
    signals: Floats
    """(S,): the free scores that the manifest names."""
    embedding: Floats = field(default_factory=lambda: np.empty(0, np.float32))
    """(D,): the pose net's pooled features; (0,) of a reply that came from a server."""
    flag: Decision = UNDECIDED

    def flagged_as(self, flag: Decision) -> "Person":
        """The same with a decision."""
        return Person(
            self.region,
            self.keypoints,
            self.predicted_loss,
            self.failure_probability,
            self.keypoint_loss,
            self.signals,
            self.embedding,
            flag,
        )


class Collection(Enum):
    """What became of a frame that was to be kept, in an :class:`Answer`."""

    NONE = "none"
    """Nobody in it is to be kept, or nothing is collected."""
    QUEUED = "queued"
    """Handed to the spool; not yet on disk."""
    LOST = "lost"
    """To be kept, but the spool could not take it."""


@dataclass(frozen=True, slots=True, eq=False)
class Answer(ByValue):
    """What is said of a frame: one person for each region, in its order.

    >>> answer = Estimator.load().infer(Path("runner.jpg").read_bytes(), frame_id="7")
    >>> answer.frame_id, len(answer.persons), answer.flagged
    ('7', 1, False)
    """

    frame_id: str
    persons: tuple[Person, ...]
    bundle_digest: str
    """sha256 of the manifest that answered, in hex."""
    age_nano: int | None = None
    """From capture to the answer; None where the capture time is not known."""
    queue_nano: int = 0
    """From arrival to the start of inference."""
    inference_nano: int = 0
    """Inference alone, of all looks."""
    dropped_before: int = 0
    """Frames of its stream that were dropped since the previous answer."""
    collection: Collection = Collection.NONE
    server_age_nano: int = 0
    """From receipt to the answer, by the server's clock, which never jumps; 0 without a server."""
    nobody: Decision | None = None
    """Of a frame in which nobody was found: whether it is kept. A reply does not tell it."""

    @property
    def decisions(self) -> tuple[Decision, ...]:
        """Those that say whether the frame is kept."""
        return (self.nobody,) if self.nobody else tuple([one.flag for one in self.persons])

    @property
    def flagged(self) -> bool:
        """Whether the score flags anybody."""
        return any(person.flag.raised for person in self.persons)

    @property
    def kept(self) -> bool:
        """Whether the frame is to be kept for the fleet, for whichever of its persons."""
        return any([decision.kept for decision in self.decisions])

    def decided(
        self,
        decisions: Sequence[Decision],
        age_nano: int | None = None,
        server_age_nano: int = 0,
    ) -> "Answer":
        """The same with a decision for each person, or the one for nobody, and its ages."""
        nobody = None
        if not self.persons:
            (nobody,), decisions = decisions, ()
        # Spelled out, since each frame pays for it: replace() takes twice as long.
        pairs = zip(self.persons, decisions, strict=True)
        return Answer(
            self.frame_id,
            tuple([one.flagged_as(flag) for one, flag in pairs]),
            self.bundle_digest,
            age_nano,
            self.queue_nano,
            self.inference_nano,
            self.dropped_before,
            self.collection,
            server_age_nano,
            nobody,
        )


@dataclass(frozen=True, slots=True)
class FrameFailure:
    """A frame of a stream that could not be answered; the stream goes on. See :class:`Client`."""

    frame_id: str
    code: int
    """A gRPC status code, never OK."""
    message: str
    dropped_before: int = 0


@dataclass(frozen=True, slots=True)
class StreamSummary:
    """What became of the frames of a stream; its last reply. See :func:`make_frame`."""

    received: int
    answered: int
    dropped: int
    failed: int


@dataclass(frozen=True, slots=True)
class NamedThreshold:
    """A value of predicted_loss, and what flagging from it on promises; see :class:`ModelInfo`."""

    name: str
    predicted_loss: float
    statement: str


@dataclass(frozen=True, slots=True)
class ModelInfo:
    """What is loaded, and how it flags.

    >>> with Client("127.0.0.1:50051") as client:
    ...     info = client.model()
    >>> info.name, info.thresholds[0].name
    ('lite-lsp', 'likely')
    """

    name: str
    version: str
    bundle_digest: str
    engine: str
    """What really answers, for example ``onnxruntime CPUExecutionProvider int8``."""
    input_height_px: int
    input_width_px: int
    keypoint_names: tuple[str, ...]
    skeleton: tuple[tuple[int, int], ...]
    """Pairs of indices into ``keypoint_names``."""
    signals: tuple[str, ...]
    threshold: float
    """The predicted_loss from which on a person is flagged."""
    audit_rate: float
    failure_definition: str
    thresholds: tuple[NamedThreshold, ...]
    """The bundle's own, its default first."""


def make_frame(
    image: bytes | NDArray[np.uint8],
    regions: Iterable[Region] = (),
    frame_id: str = "",
    capture_time_unix_nano: int = 0,
    stream_id: str = "",
    *,
    bgr: bool = False,
    position: Position | None = None,
) -> Frame:
    """A frame of JPEG or PNG bytes or an array (H, W, 3), RGB unless ``bgr``.

    >>> video = open_source(Path("drive.mp4"))
    >>> frames = (make_frame(picture.image, frame_id=picture.name) for picture in video)
    >>> with Client("127.0.0.1:50051") as client:
    ...     replies = list(client.stream(frames))
    >>> replies[0].frame_id, replies[-1].answered
    ('000000', 3)

    Args:
        image: bytes are taken as they are.
        regions: persons' boxes in image px; none for the whole frame.
        frame_id: comes back with the answer.
        capture_time_unix_nano: 0 where it is not known; the answer has then no age.
        stream_id: names the camera or recording.
        bgr: an array's channels are blue, green, red, as OpenCV's are; of bytes it means nothing.
        position: of the camera; a server may be told where it keeps frames, and where not.

    Raises:
        ImageError: an array of another shape or type.
    """
    if not isinstance(image, bytes):
        image = images.check_rgb(image)[..., ::-1] if bgr else images.check_rgb(image)
    return Frame(image, tuple(regions), frame_id, stream_id, capture_time_unix_nano, position)
