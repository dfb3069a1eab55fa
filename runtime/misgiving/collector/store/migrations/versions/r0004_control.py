"""Reports of vehicles, and campaigns."""

import sqlalchemy as sa
from alembic import op

revision, down_revision = "0004", "0003"


def upgrade() -> None:
    for table, of_run in (("reports", False), ("runs", True)):
        op.create_table(
            table,
            sa.Column("device_id", sa.Text, primary_key=True),
            sa.Column("run_id", sa.String(32), primary_key=True),
            sa.Column("sequence", sa.BigInteger, primary_key=not of_run, nullable=False),
            sa.Column("taken_time_unix_nano", sa.BigInteger, nullable=False),
            sa.Column("received_time_unix_nano", sa.BigInteger, nullable=False),
            sa.Column("body", sa.LargeBinary, nullable=False),
            *([sa.Column("reports", sa.BigInteger, nullable=False)] if of_run else []),
        )
    op.create_index("ix_reports_received_time_unix_nano", "reports", ["received_time_unix_nano"])
    op.create_index("ix_runs_taken_time_unix_nano", "runs", ["taken_time_unix_nano"])
    op.create_table(
        "campaigns",
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("name", sa.Text, nullable=False),
        sa.Column("revision", sa.Integer, nullable=False),
        sa.Column("set_time_unix_nano", sa.BigInteger, nullable=False),
        sa.Column("ended_time_unix_nano", sa.BigInteger),
        sa.Column("body", sa.LargeBinary, nullable=False),
        sa.UniqueConstraint("name", "revision"),
    )
