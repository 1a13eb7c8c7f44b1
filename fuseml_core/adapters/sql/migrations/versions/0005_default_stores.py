"""Keep which store a project uses for a kind of artifacts, and where each version lies."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

JSON_ = sa.JSON().with_variant(postgresql.JSONB(), "postgresql")


def upgrade() -> None:
    """Apply the migration. Everything lies in the built-in stores so far."""
    op.add_column("project", sa.Column("stores", JSON_, nullable=False, server_default="{}"))
    op.add_column("artifact_version", sa.Column("store", sa.String(), nullable=False, server_default=""))


def downgrade() -> None:
    """Take it back."""
    op.drop_column("artifact_version", "store")
    op.drop_column("project", "stores")
