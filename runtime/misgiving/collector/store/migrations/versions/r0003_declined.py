"""Frames that were declined by their headers."""

import sqlalchemy as sa
from alembic import op

revision, down_revision = "0003", "0002"


def upgrade() -> None:
    op.create_table(
        "declined",
        sa.Column("digest", sa.String(64), primary_key=True),
        sa.Column("device_id", sa.Text, nullable=False, index=True),
        sa.Column("stream_id", sa.Text, nullable=False),
        sa.Column("frame_id", sa.Text, nullable=False),
        sa.Column("campaign", sa.Text, nullable=False),
        sa.Column("predicted_loss", sa.Double),
        sa.Column("reason", sa.Text, nullable=False),
        sa.Column("declined_time_unix_nano", sa.BigInteger, nullable=False, index=True),
    )
