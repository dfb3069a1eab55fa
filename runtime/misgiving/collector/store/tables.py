"""The tables of a store's database; the files of ``migrations/versions`` make them.

What a column means that a :class:`StoredFrame` has is said there.
"""

from collections.abc import Iterator
from typing import Any

import sqlalchemy as sa

TABLES = sa.MetaData()


# Of partial indexes. A query repeats them word for word, because a database does not see that a
# parameter fulfils them.
UNUSUAL = "reason <> 'predicted_loss'"
OF_CAMPAIGN = "campaign <> ''"
MARKED = "mark <> ''"


def _where(text: str) -> dict[str, Any]:
    return {"postgresql_where": sa.text(text), "sqlite_where": sa.text(text)}


def _few(name: str, where: str, *columns: str) -> sa.Index:
    """An index of the frames that fulfil a condition."""
    return sa.Index(f"ix_frames_{name}", *columns, **_where(where))


def _said(name: str) -> sa.Column[str]:
    """A word that is empty where nobody has said it."""
    return sa.Column(name, sa.Text, nullable=False, server_default="")


FRAMES = sa.Table(
    "frames",
    TABLES,
    sa.Column("digest", sa.String(64), primary_key=True),
    sa.Column("frame_id", sa.Text, nullable=False),
    sa.Column("stream_id", sa.Text, nullable=False),
    sa.Column("device_id", sa.Text, nullable=False),
    sa.Column("capture_time_unix_nano", sa.BigInteger, nullable=False),
    sa.Column("received_time_unix_nano", sa.BigInteger, nullable=False, index=True),
    sa.Column("size_bytes", sa.BigInteger, nullable=False),
    sa.Column("bundle_digest", sa.Text, nullable=False),
    sa.Column("max_predicted_loss", sa.Double, index=True),
    sa.Column("reason", sa.Text, nullable=False),
    sa.Column("image_digest", sa.String(64), index=True),
    sa.Column("flagged", sa.Boolean),
    sa.Column("failure_probability", sa.Double),
    sa.Column("sampling_probability", sa.Double),
    sa.Column("threshold", sa.Double),
    sa.Column("persons", sa.Integer),
    _said("campaign"),
    _said("engine"),
    _said("precision"),
    _said("software_version"),
    _said("sealed_with"),
    _said("identity"),
    sa.Column("embedding", sa.LargeBinary),
    # What the marks say, written by a trigger.
    _said("mark"),
    sa.Column("failed", sa.Boolean),
    # A filter by itself, in each order; what a device sent, a camera saw, the newest of a bundle.
    sa.Index("ix_frames_device_arrived", "device_id", "received_time_unix_nano"),
    sa.Index("ix_frames_device_loss", "device_id", "max_predicted_loss"),
    sa.Index("ix_frames_camera_captured", "device_id", "stream_id", "capture_time_unix_nano"),
    sa.Index("ix_frames_identity_arrived", "identity", "received_time_unix_nano"),
    sa.Index("ix_frames_stream_arrived", "stream_id", "received_time_unix_nano"),
    sa.Index("ix_frames_bundle_received", "bundle_digest", "received_time_unix_nano"),
    sa.Index("ix_frames_bundle_loss", "bundle_digest", "max_predicted_loss"),
    _few("reason_arrived", UNUSUAL, "reason", "received_time_unix_nano"),
    _few("reason_loss", UNUSUAL, "reason", "max_predicted_loss"),
    _few("campaign_arrived", OF_CAMPAIGN, "campaign", "received_time_unix_nano"),
    _few("campaign_loss", OF_CAMPAIGN, "campaign", "max_predicted_loss"),
    _few("mark_arrived", MARKED, "mark", "received_time_unix_nano"),
    _few("mark_loss", MARKED, "mark", "max_predicted_loss"),
    _few("marked", MARKED, "received_time_unix_nano"),
    _few("unscored", "max_predicted_loss IS NULL", "digest"),
)

# What frames add up to, by day of arrival and over all days, see ``folding.py``: a row for all that
# have the same key. Triggers of the database write each change of a frame to the second table.
_SUMMED = (
    *("day", "device_id", "stream_id", "reason", "campaign", "bundle_digest"),
    "flagged",  # -1 where that is not known
)
_SUM_COUNTS = ("frames", "size_bytes", "usable", "scored", "judged", "judged_scored", "failed")
_SUM_WEIGHTS = (
    *("weight", "variance", "score", "score_square"),
    *("judged_weight", "judged_square", "judged_score", "failed_weight"),
)


def _sums(key: bool) -> Iterator[sa.Column[Any]]:
    kinds: dict[str, Any] = dict.fromkeys(_SUMMED, sa.Text)
    kinds |= {"day": sa.Integer, "flagged": sa.SmallInteger}
    for name, kind in kinds.items():
        yield sa.Column(name, kind, nullable=False, primary_key=key, autoincrement=False)
    yield from (sa.Column(name, sa.BigInteger, nullable=False) for name in _SUM_COUNTS)
    yield from (sa.Column(name, sa.Double, nullable=False) for name in _SUM_WEIGHTS)


FRAME_SUMS = sa.Table(
    "frame_sums",
    TABLES,
    *_sums(key=True),
    sa.Index("ix_frame_sums_empty", "day", **_where("frames = 0")),
)
FRAME_CHANGES = sa.Table(
    "frame_changes",
    TABLES,
    sa.Column("id", sa.BigInteger().with_variant(sa.Integer, "sqlite"), primary_key=True),
    sa.Column("taken", sa.String(32), index=True),  # by whom it is being added to the sums
    *_sums(key=False),
)

# What people said of frames; the newest of a digest counts.
MARKS = sa.Table(
    "marks",
    TABLES,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("digest", sa.String(64), nullable=False, index=True),
    sa.Column("mark", sa.Text, nullable=False),
    sa.Column("by", sa.Text, nullable=False),
    sa.Column("at_unix_nano", sa.BigInteger, nullable=False),
)

# What was exported to annotators.
BATCHES = sa.Table(
    "batches",
    TABLES,
    sa.Column("name", sa.Text, primary_key=True),
    sa.Column("created_unix_nano", sa.BigInteger, nullable=False),
    sa.Column("format", sa.Text, nullable=False),
)
BATCH_FRAMES = sa.Table(
    "batch_frames",
    TABLES,
    sa.Column("batch", sa.Text, primary_key=True),
    sa.Column("digest", sa.String(64), primary_key=True, index=True),
)

# What came back from them.
LABEL_SETS = sa.Table(
    "label_sets",
    TABLES,
    sa.Column("version", sa.Text, primary_key=True),
    sa.Column("created_unix_nano", sa.BigInteger, nullable=False),
    sa.Column("path", sa.Text, nullable=False),
)
LABELLED = sa.Table(
    "labelled",
    TABLES,
    sa.Column("version", sa.Text, primary_key=True),
    sa.Column("digest", sa.String(64), primary_key=True, index=True),
    # The side of training and validation, which a frame keeps.
    _said("split"),
)

# What vehicles report: each report, and what a process of a vehicle amounts to.
REPORTS = sa.Table(
    "reports",
    TABLES,
    sa.Column("device_id", sa.Text, primary_key=True),
    sa.Column("run_id", sa.String(32), primary_key=True),
    sa.Column("sequence", sa.BigInteger, primary_key=True),
    sa.Column("taken_time_unix_nano", sa.BigInteger, nullable=False),
    sa.Column("received_time_unix_nano", sa.BigInteger, nullable=False, index=True),
    sa.Column("body", sa.LargeBinary, nullable=False),
)
RUNS = sa.Table(
    "runs",
    TABLES,
    sa.Column("device_id", sa.Text, primary_key=True),
    sa.Column("run_id", sa.String(32), primary_key=True),
    sa.Column("reports", sa.BigInteger, nullable=False),
    # The rest is the newest report's.
    sa.Column("sequence", sa.BigInteger, nullable=False),
    sa.Column("taken_time_unix_nano", sa.BigInteger, nullable=False, index=True),
    sa.Column("received_time_unix_nano", sa.BigInteger, nullable=False),
    sa.Column("body", sa.LargeBinary, nullable=False),
    _said("model"),
)

# What vehicles are asked to keep; of a name the last revision counts.
CAMPAIGNS = sa.Table(
    "campaigns",
    TABLES,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("name", sa.Text, nullable=False),
    sa.Column("revision", sa.Integer, nullable=False),
    sa.Column("set_time_unix_nano", sa.BigInteger, nullable=False),
    sa.Column("ended_time_unix_nano", sa.BigInteger),
    sa.Column("body", sa.LargeBinary, nullable=False),
    sa.UniqueConstraint("name", "revision"),
)

# What was declined by its header; the vehicle has forgotten it.
DECLINED = sa.Table(
    "declined",
    TABLES,
    sa.Column("digest", sa.String(64), primary_key=True),
    sa.Column("device_id", sa.Text, nullable=False, index=True),
    sa.Column("stream_id", sa.Text, nullable=False),
    sa.Column("frame_id", sa.Text, nullable=False),
    sa.Column("campaign", sa.Text, nullable=False),
    sa.Column("predicted_loss", sa.Double),
    sa.Column("reason", sa.Text, nullable=False),
    sa.Column("declined_time_unix_nano", sa.BigInteger, nullable=False, index=True),
)

# How many frames were erased, by day since 1970 and reason: nothing of the frames themselves.
ERASED = sa.Table(
    "erased",
    TABLES,
    sa.Column("day", sa.Integer, primary_key=True),
    sa.Column("reason", sa.Text, primary_key=True),
    sa.Column("frames", sa.BigInteger, nullable=False),
    sa.Column("size_bytes", sa.BigInteger, nullable=False),
)

# Bundles that are released to vehicles, ring by ring, and their bytes.
RELEASES = sa.Table(
    "releases",
    TABLES,
    sa.Column("digest", sa.String(64), primary_key=True),
    sa.Column("name", sa.Text, nullable=False),
    sa.Column("version", sa.Text, nullable=False),
    sa.Column("release", sa.BigInteger, nullable=False),
    sa.Column("size_bytes", sa.BigInteger, nullable=False),
    sa.Column("sha256", sa.String(64), nullable=False),
    sa.Column("announced_time_unix_nano", sa.BigInteger, nullable=False),
    sa.Column("ring", sa.Integer, nullable=False),
    sa.Column("halted", sa.Text, nullable=False),
    # Whether its bytes are deleted, for nobody is given it any more.
    sa.Column("dropped", sa.Boolean, nullable=False, server_default=sa.false()),
    # Since when it has been with its ring, and hours after which it goes to the next by itself.
    sa.Column("ring_time_unix_nano", sa.BigInteger, nullable=False, server_default="0"),
    sa.Column("advance_after_hours", sa.Double),
)
RELEASE_CHUNKS = sa.Table(
    "release_chunks",
    TABLES,
    sa.Column("digest", sa.String(64), primary_key=True),
    sa.Column("offset_bytes", sa.BigInteger, primary_key=True),
    sa.Column("chunk", sa.LargeBinary, nullable=False),
)

# Signed lists of what vehicles are to take no longer; the last one says all that those before did.
REVOCATIONS = sa.Table(
    "revocations",
    TABLES,
    sa.Column("sha256", sa.String(64), primary_key=True),
    sa.Column("announced_time_unix_nano", sa.BigInteger, nullable=False),
    sa.Column("list", sa.LargeBinary, nullable=False),
    sa.Column("signatures", sa.LargeBinary, nullable=False),
)

# Who may look at the review page, and what signs their sessions.
ACCOUNTS = sa.Table(
    "accounts",
    TABLES,
    sa.Column("name", sa.Text, primary_key=True),
    sa.Column("password_hash", sa.Text, nullable=False),
    sa.Column("created_unix_nano", sa.BigInteger, nullable=False),
)
# Logins of the last minutes that have failed, or are being checked; who and from where is hashed.
LOGIN_ATTEMPTS = sa.Table(
    "login_attempts",
    TABLES,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("address", sa.String(64), nullable=False),
    sa.Column("login", sa.String(64), nullable=False),
    sa.Column("at_unix_nano", sa.BigInteger, nullable=False, index=True),
)
KEYS = sa.Table(
    "keys",
    TABLES,
    sa.Column("name", sa.Text, primary_key=True),
    sa.Column("value", sa.LargeBinary, nullable=False),
)
