"""Lists of revocations; releases that advance by themselves, and whose bytes are deleted."""

import sqlalchemy as sa
from alembic import op

revision, down_revision = "0009", "0008"


def upgrade() -> None:
    op.create_table(
        "revocations",
        sa.Column("sha256", sa.String(64), primary_key=True),
        sa.Column("announced_time_unix_nano", sa.BigInteger, nullable=False),
        sa.Column("list", sa.LargeBinary, nullable=False),
        sa.Column("signatures", sa.LargeBinary, nullable=False),
    )
    for column in (
        sa.Column("dropped", sa.Boolean, nullable=False, server_default=sa.false()),
        sa.Column("ring_time_unix_nano", sa.BigInteger, nullable=False, server_default="0"),
        sa.Column("advance_after_hours", sa.Double),
    ):
        op.add_column("releases", column)
