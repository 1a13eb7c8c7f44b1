"""Keep the sets of extensions that were active together, what is being changed, and what is still to be done."""

from __future__ import annotations

import time

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

JSON_ = sa.JSON().with_variant(postgresql.JSONB(), "postgresql")
TRUST = {"allowed": True, "rule": "", "reason": "installed before decisions were written down", "hint": "",
         "signers": [], "attestations": [], "overridable": False, "overridden": False}


def upgrade() -> None:
    """Apply the migration. What is installed already becomes the first generation, all of it as asked for."""
    op.add_column("extension", sa.Column("config", sa.String(), nullable=False, server_default=""))
    generation = op.create_table(
        "extension_generation",
        sa.Column("number", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("cause", sa.Text(), nullable=False),
        sa.Column("created_at", sa.Float(precision=53), nullable=False),
        sa.Column("state", sa.String(), nullable=False),
        sa.Column("note", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("number", name=op.f("pk_extension_generation")),
    )
    member = op.create_table(
        "extension_member",
        sa.Column("generation", sa.Integer(), nullable=False),
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("version", sa.String(), nullable=False),
        sa.Column("digest", sa.String(), nullable=False),
        sa.Column("reference", sa.String(), nullable=False),
        sa.Column("requested", sa.Boolean(), nullable=False),
        sa.Column("trust", JSON_, nullable=False),
        sa.Column("channel", sa.String(), nullable=False),
        sa.ForeignKeyConstraint(["generation"], ["extension_generation.number"], ondelete="CASCADE",
                                name=op.f("fk_extension_member_generation")),
        sa.PrimaryKeyConstraint("generation", "name", name=op.f("pk_extension_member")),
    )
    op.create_table(
        "extension_work",
        sa.Column("kind", sa.String(), nullable=False),
        sa.Column("text", sa.Text(), nullable=False),
        sa.Column("since", sa.Float(precision=53), nullable=False),
        sa.PrimaryKeyConstraint("kind", name=op.f("pk_extension_work")),
    )
    extension = sa.table("extension", *(sa.column(n) for n in ("name", "version", "digest", "reference", "state")))
    connection = op.get_bind()
    rows = connection.execute(sa.select(extension).where(extension.c.state == "active")).mappings().all()
    if rows:
        connection.execute(generation.insert().values(number=1, cause="installed by an earlier FuseML",
                                                      created_at=time.time(), state="settled", note=""))
        for row in rows:
            connection.execute(member.insert().values(
                generation=1, requested=True, trust=TRUST, channel="",
                **{name: row[name] for name in ("name", "version", "digest", "reference")}))


def downgrade() -> None:
    """Take it back."""
    for table in ("extension_work", "extension_member", "extension_generation"):
        op.drop_table(table)
    op.drop_column("extension", "config")
