"""The tables of a store's database; the files of ``migrations/versions`` make them.

What a column means that a :class:`StoredFrame` has is said there.
"""

import sqlalchemy as sa

TABLES = sa.MetaData()


def _said(name: str) -> sa.Column[str]:
    """A word that is empty where nobody has said it."""
    return sa.Column(name, sa.Text, nullable=False, server_default="")


FRAMES = sa.Table(
    "frames",
    TABLES,
    sa.Column("digest", sa.String(64), primary_key=True),
    sa.Column("frame_id", sa.Text, nullable=False),
    sa.Column("stream_id", sa.Text, nullable=False),
    sa.Column("device_id", sa.Text, nullable=False, index=True),
    sa.Column("capture_time_unix_nano", sa.BigInteger, nullable=False, index=True),
    sa.Column("received_time_unix_nano", sa.BigInteger, nullable=False, index=True),
    sa.Column("size_bytes", sa.BigInteger, nullable=False),
    sa.Column("bundle_digest", sa.Text, nullable=False, index=True),
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
    sa.Index("ix_frames_device_arrived", "device_id", "received_time_unix_nano"),
    sa.Index("ix_frames_identity_arrived", "identity", "received_time_unix_nano"),
    # The newest of a bundle, whose embeddings are compared.
    sa.Index("ix_frames_bundle_received", "bundle_digest", "received_time_unix_nano"),
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
