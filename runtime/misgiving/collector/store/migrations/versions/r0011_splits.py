"""On which side of training and validation labelled frames are."""

import sqlalchemy as sa
from alembic import op

revision, down_revision = "0011", "0010"


def upgrade() -> None:
    split = sa.Column("split", sa.Text, nullable=False, server_default="")
    op.add_column("labelled", split)
