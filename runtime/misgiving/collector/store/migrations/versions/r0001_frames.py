"""Frames, as releases before the migrations made them."""

import sqlalchemy as sa
from alembic import op

revision, down_revision = "0001", None


def upgrade() -> None:
    op.create_table(
        "frames",
        sa.Column("digest", sa.String(64), primary_key=True),
        sa.Column("frame_id", sa.Text, nullable=False),
        sa.Column("stream_id", sa.Text, nullable=False),
        sa.Column("device_id", sa.Text, nullable=False),
        sa.Column("capture_time_unix_nano", sa.BigInteger, nullable=False),
        sa.Column("received_time_unix_nano", sa.BigInteger, nullable=False),
        sa.Column("size_bytes", sa.BigInteger, nullable=False),
        sa.Column("bundle_digest", sa.Text, nullable=False),
        sa.Column("max_predicted_loss", sa.Double),
        sa.Column("reason", sa.Text, nullable=False),
        if_not_exists=True,
    )
    for column in ("device_id", "received_time_unix_nano", "bundle_digest"):
        op.create_index(f"ix_frames_{column}", "frames", [column], if_not_exists=True)
