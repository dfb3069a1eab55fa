"""Provenance of frames; marks, batches and label sets."""

from typing import Any

import sqlalchemy as sa
from alembic import op

revision, down_revision = "0002", "0001"


def upgrade() -> None:
    _widen_frames()
    op.create_table(
        "marks",
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("digest", sa.String(64), nullable=False),
        sa.Column("mark", sa.Text, nullable=False),
        sa.Column("by", sa.Text, nullable=False),
        sa.Column("at_unix_nano", sa.BigInteger, nullable=False),
    )
    op.create_table(
        "batches",
        sa.Column("name", sa.Text, primary_key=True),
        sa.Column("created_unix_nano", sa.BigInteger, nullable=False),
        sa.Column("format", sa.Text, nullable=False),
    )
    op.create_table(
        "label_sets",
        sa.Column("version", sa.Text, primary_key=True),
        sa.Column("created_unix_nano", sa.BigInteger, nullable=False),
        sa.Column("path", sa.Text, nullable=False),
    )
    for table, of in (("batch_frames", "batch"), ("labelled", "version")):
        op.create_table(
            table,
            sa.Column(of, sa.Text, primary_key=True),
            sa.Column("digest", sa.String(64), primary_key=True),
        )
    for table in ("marks", "batch_frames", "labelled"):
        op.create_index(f"ix_{table}_digest", table, ["digest"])


def _widen_frames() -> None:
    columns: list[sa.Column[Any]] = [
        sa.Column("image_digest", sa.String(64)),
        sa.Column("flagged", sa.Boolean),
        sa.Column("failure_probability", sa.Double),
        sa.Column("sampling_probability", sa.Double),
        sa.Column("threshold", sa.Double),
        sa.Column("persons", sa.Integer),
        sa.Column("embedding", sa.LargeBinary),
    ]
    said = ("campaign", "engine", "precision", "software_version", "sealed_with", "identity")
    columns += [sa.Column(name, sa.Text, nullable=False, server_default="") for name in said]
    for column in columns:
        op.add_column("frames", column)
    for name in ("capture_time_unix_nano", "max_predicted_loss", "image_digest"):
        op.create_index(f"ix_frames_{name}", "frames", [name])
