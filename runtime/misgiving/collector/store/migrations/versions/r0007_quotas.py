"""What a quota asks, and pages of frames: by device or identity, and by time."""

from alembic import op

revision, down_revision = "0007", "0006"


def upgrade() -> None:
    arrived = "received_time_unix_nano"
    op.create_index("ix_frames_device_arrived", "frames", ["device_id", arrived])
    op.create_index("ix_frames_identity_arrived", "frames", ["identity", arrived])
