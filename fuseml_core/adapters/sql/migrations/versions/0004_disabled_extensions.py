"""Keep which extensions are disabled, and what components say about themselves."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

JSON_ = sa.JSON().with_variant(postgresql.JSONB(), "postgresql")


def upgrade() -> None:
    """Apply the migration. What is installed already is enabled, and describes itself when it is checked next."""
    op.add_column("extension", sa.Column("described", JSON_, nullable=False, server_default="{}"))
    op.create_table(
        "extension_disabled",
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("since", sa.Float(precision=53), nullable=False),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_extension_disabled")),
    )


def downgrade() -> None:
    """Take it back."""
    op.drop_table("extension_disabled")
    op.drop_column("extension", "described")
