"""Find triggers by what they wait for, runs by name and newest versions without looking at all of them."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

INDEXES = (
    ("ix_version_seq", "artifact_version", ["artifact_id", "seq"]),
    ("ix_version_newest", "artifact_version", ["created_at", "id"]),
    ("ix_run_name", "run", ["project", "pipeline", "number"]),
    ("ix_run_previous", "run", ["pipeline_id", "id"]),
)


def upgrade() -> None:
    """Apply the migration. Triggers that are there keep empty columns: each is asked about every artifact."""
    for column in ("only_project", "only_name"):
        op.add_column("trigger", sa.Column(column, sa.String(), nullable=False, server_default=""))
    op.drop_index("ix_trigger_match", "trigger")
    op.create_index("ix_trigger_match", "trigger", ["kind", "only_name", "only_project"])
    for name, table, columns in INDEXES:
        op.create_index(name, table, columns)


def downgrade() -> None:
    """Take it back."""
    for name, table, _ in INDEXES:
        op.drop_index(name, table)
    op.drop_index("ix_trigger_match", "trigger")
    op.create_index("ix_trigger_match", "trigger", ["kind", "enabled"])
    for column in ("only_name", "only_project"):
        op.drop_column("trigger", column)
