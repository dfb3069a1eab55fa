"""Releases of bundles to vehicles."""

import sqlalchemy as sa
from alembic import op

revision, down_revision = "0006", "0005"


def upgrade() -> None:
    op.add_column("runs", sa.Column("model", sa.Text, nullable=False, server_default=""))
    op.create_table(
        "releases",
        sa.Column("digest", sa.String(64), primary_key=True),
        sa.Column("name", sa.Text, nullable=False),
        sa.Column("version", sa.Text, nullable=False),
        sa.Column("release", sa.BigInteger, nullable=False),
        sa.Column("size_bytes", sa.BigInteger, nullable=False),
        sa.Column("sha256", sa.String(64), nullable=False),
        sa.Column("announced_time_unix_nano", sa.BigInteger, nullable=False),
        sa.Column("ring", sa.Integer, nullable=False),
        sa.Column("halted", sa.Text, nullable=False),
    )
    op.create_table(
        "release_chunks",
        sa.Column("digest", sa.String(64), primary_key=True),
        sa.Column("offset_bytes", sa.BigInteger, primary_key=True),
        sa.Column("chunk", sa.LargeBinary, nullable=False),
    )
