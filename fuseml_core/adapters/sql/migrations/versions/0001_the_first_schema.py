"""The first schema."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

JSON_ = sa.JSON().with_variant(postgresql.JSONB(), "postgresql")
#: SQLite counts only INTEGER PRIMARY KEY up by itself.
ID = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    """Apply the migration."""
    op.create_table(
        "artifact",
        sa.Column("id", ID, autoincrement=True, nullable=False),
        sa.Column("kind", sa.String(), nullable=False),
        sa.Column("project", sa.String(), nullable=False),
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("next_seq", sa.Integer(), nullable=False),
        sa.Column("default_branch", sa.String(), nullable=False),
        sa.Column("deleted", sa.Boolean(), nullable=False),
        sa.Column("created_at", sa.Float(precision=53), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_artifact")),
        sa.UniqueConstraint("kind", "project", "name", name=op.f("uq_artifact_kind")),
    )
    op.create_table(
        "event_cursor",
        sa.Column("source", sa.String(), nullable=False),
        sa.Column("cursor", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("source", name=op.f("pk_event_cursor")),
    )
    op.create_table(
        "extension",
        sa.Column("digest", sa.String(), nullable=False),
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("version", sa.String(), nullable=False),
        sa.Column("reference", sa.String(), nullable=False),
        sa.Column("descriptor", JSON_, nullable=False),
        sa.Column("store", sa.String(), nullable=False),
        sa.Column("state", sa.String(), nullable=False),
        sa.Column("installed_at", sa.Float(precision=53), nullable=False),
        sa.Column("environment", sa.String(), nullable=True),
        sa.Column("python", sa.String(), nullable=True),
        sa.PrimaryKeyConstraint("digest", name=op.f("pk_extension")),
    )
    with op.batch_alter_table("extension", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_extension_name"), ["name"], unique=False)
        batch_op.create_index(
            "uq_extension_active",
            ["name"],
            unique=True,
            sqlite_where=sa.text("state = 'active'"),
            postgresql_where=sa.text("state = 'active'"),
        )

    op.create_table(
        "extension_setting",
        sa.Column("extension", sa.String(), nullable=False),
        sa.Column("key", sa.String(), nullable=False),
        sa.Column("value", JSON_, nullable=False),
        sa.PrimaryKeyConstraint("extension", "key", name=op.f("pk_extension_setting")),
    )
    op.create_table(
        "feed",
        sa.Column("id", ID, autoincrement=True, nullable=False),
        sa.Column("change", sa.String(), nullable=False),
        sa.Column("at", sa.Float(precision=53), nullable=False),
        sa.Column("kind", sa.String(), nullable=False),
        sa.Column("run", sa.String(), nullable=False),
        sa.Column("step", sa.String(), nullable=False),
        sa.Column("state", sa.String(), nullable=False),
        sa.Column("text", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_feed")),
    )
    with op.batch_alter_table("feed", schema=None) as batch_op:
        batch_op.create_index("ix_feed_change", ["change", "id"], unique=False)

    op.create_table(
        "pipeline",
        sa.Column("id", ID, autoincrement=True, nullable=False),
        sa.Column("project", sa.String(), nullable=False),
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("state", sa.String(), nullable=False),
        sa.Column("template", sa.String(), nullable=False),
        sa.Column("template_digest", sa.String(), nullable=False),
        sa.Column("extension", sa.String(), nullable=False),
        sa.Column("extension_digest", sa.String(), nullable=False),
        sa.Column("spec", JSON_, nullable=False),
        sa.Column("inputs", JSON_, nullable=False),
        sa.Column("parameters", JSON_, nullable=False),
        sa.Column("next_run", sa.Integer(), nullable=False),
        sa.Column("created_at", sa.Float(precision=53), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_pipeline")),
        sa.UniqueConstraint("project", "name", name=op.f("uq_pipeline_project")),
    )
    op.create_table(
        "project",
        sa.Column("id", ID, autoincrement=True, nullable=False),
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("description", sa.String(), nullable=False),
        sa.Column("created_at", sa.Float(precision=53), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_project")),
        sa.UniqueConstraint("name", name=op.f("uq_project_name")),
    )
    op.create_table(
        "artifact_version",
        sa.Column("id", ID, autoincrement=True, nullable=False),
        sa.Column("artifact_id", sa.BigInteger(), nullable=False),
        sa.Column("kind", sa.String(), nullable=False),
        sa.Column("project", sa.String(), nullable=False),
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("digest", sa.String(), nullable=False),
        sa.Column("seq", sa.Integer(), nullable=False),
        sa.Column("type", sa.String(), nullable=True),
        sa.Column("size", sa.BigInteger(), nullable=True),
        sa.Column("location", sa.String(), nullable=False),
        sa.Column("labels", JSON_, nullable=False),
        sa.Column("facets", JSON_, nullable=False),
        sa.Column("management", sa.String(), nullable=False),
        sa.Column("change", sa.String(), nullable=False),
        sa.Column("producer_run", sa.String(), nullable=False),
        sa.Column("producer_step", sa.String(), nullable=False),
        sa.Column("created_at", sa.Float(precision=53), nullable=False),
        sa.ForeignKeyConstraint(
            ["artifact_id"], ["artifact.id"], name=op.f("fk_artifact_version_artifact_id"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_artifact_version")),
        sa.UniqueConstraint("artifact_id", "digest", name=op.f("uq_artifact_version_artifact_id")),
    )
    with op.batch_alter_table("artifact_version", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_artifact_version_change"), ["change"], unique=False)
        batch_op.create_index("ix_version_digest", ["digest"], unique=False)
        batch_op.create_index("ix_version_listing", ["kind", "project", "created_at", "id"], unique=False)
        batch_op.create_index("ix_version_name", ["kind", "project", "name", "seq"], unique=False)

    op.create_table(
        "run",
        sa.Column("id", ID, autoincrement=True, nullable=False),
        sa.Column("uid", sa.String(), nullable=False),
        sa.Column("run_key", sa.String(), nullable=False),
        sa.Column("project", sa.String(), nullable=False),
        sa.Column("pipeline_id", sa.BigInteger(), nullable=False),
        sa.Column("pipeline", sa.String(), nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("change", sa.String(), nullable=False),
        sa.Column("state", sa.String(), nullable=False),
        sa.Column("parameters", JSON_, nullable=False),
        sa.Column("no_cache", sa.Boolean(), nullable=False),
        sa.Column("cancel_requested", sa.Boolean(), nullable=False),
        sa.Column("only", sa.String(), nullable=False),
        sa.Column("stepping", sa.Boolean(), nullable=False),
        sa.Column("released", sa.Integer(), nullable=False),
        sa.Column("swaps", JSON_, nullable=False),
        sa.Column("error", sa.Text(), nullable=False),
        sa.Column("created_at", sa.Float(precision=53), nullable=False),
        sa.Column("started_at", sa.Float(precision=53), nullable=True),
        sa.Column("ended_at", sa.Float(precision=53), nullable=True),
        sa.ForeignKeyConstraint(
            ["pipeline_id"], ["pipeline.id"], name=op.f("fk_run_pipeline_id"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_run")),
        sa.UniqueConstraint("pipeline_id", "number", name=op.f("uq_run_pipeline_id")),
        sa.UniqueConstraint("run_key", name=op.f("uq_run_run_key")),
        sa.UniqueConstraint("uid", name=op.f("uq_run_uid")),
    )
    with op.batch_alter_table("run", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_run_change"), ["change"], unique=False)
        batch_op.create_index("ix_run_listing", ["project", "created_at", "id"], unique=False)
        batch_op.create_index(batch_op.f("ix_run_state"), ["state"], unique=False)

    op.create_table(
        "service",
        sa.Column("id", ID, autoincrement=True, nullable=False),
        sa.Column("project", sa.String(), nullable=False),
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("pipeline_id", sa.BigInteger(), nullable=False),
        sa.Column("pipeline", sa.String(), nullable=False),
        sa.Column("desired", sa.String(), nullable=False),
        sa.Column("state", sa.String(), nullable=False),
        sa.Column("predict_path", sa.String(), nullable=False),
        sa.Column("run", sa.String(), nullable=False),
        sa.Column("model_id", sa.BigInteger(), nullable=True),
        sa.Column("restarts", sa.Integer(), nullable=False),
        sa.Column("message", sa.Text(), nullable=False),
        sa.Column("created_at", sa.Float(precision=53), nullable=False),
        sa.Column("updated_at", sa.Float(precision=53), nullable=False),
        sa.ForeignKeyConstraint(
            ["pipeline_id"], ["pipeline.id"], name=op.f("fk_service_pipeline_id"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_service")),
        sa.UniqueConstraint("project", "name", name=op.f("uq_service_project")),
    )
    with op.batch_alter_table("service", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_service_pipeline_id"), ["pipeline_id"], unique=False)

    op.create_table(
        "trigger",
        sa.Column("id", ID, autoincrement=True, nullable=False),
        sa.Column("pipeline_id", sa.BigInteger(), nullable=False),
        sa.Column("pipeline", sa.String(), nullable=False),
        sa.Column("project", sa.String(), nullable=False),
        sa.Column("input", sa.String(), nullable=False),
        sa.Column("kind", sa.String(), nullable=False),
        sa.Column("selector", sa.String(), nullable=False),
        sa.Column("types", JSON_, nullable=False),
        sa.Column("enabled", sa.Boolean(), nullable=False),
        sa.ForeignKeyConstraint(
            ["pipeline_id"], ["pipeline.id"], name=op.f("fk_trigger_pipeline_id"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_trigger")),
    )
    with op.batch_alter_table("trigger", schema=None) as batch_op:
        batch_op.create_index("ix_trigger_match", ["kind", "enabled"], unique=False)
        batch_op.create_index(batch_op.f("ix_trigger_pipeline_id"), ["pipeline_id"], unique=False)

    op.create_table(
        "artifact_alias",
        sa.Column("artifact_id", sa.BigInteger(), nullable=False),
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("version_id", sa.BigInteger(), nullable=False),
        sa.Column("moved_at", sa.Float(precision=53), nullable=False),
        sa.ForeignKeyConstraint(
            ["artifact_id"], ["artifact.id"], name=op.f("fk_artifact_alias_artifact_id"), ondelete="CASCADE"
        ),
        sa.ForeignKeyConstraint(
            ["version_id"],
            ["artifact_version.id"],
            name=op.f("fk_artifact_alias_version_id"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("artifact_id", "name", name=op.f("pk_artifact_alias")),
    )
    with op.batch_alter_table("artifact_alias", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_artifact_alias_version_id"), ["version_id"], unique=False)

    op.create_table(
        "event",
        sa.Column("id", ID, autoincrement=True, nullable=False),
        sa.Column("dedupe_key", sa.String(), nullable=False),
        sa.Column("type", sa.String(), nullable=False),
        sa.Column("version_id", sa.BigInteger(), nullable=False),
        sa.Column("change", sa.String(), nullable=False),
        sa.Column("created_at", sa.Float(precision=53), nullable=False),
        sa.ForeignKeyConstraint(
            ["version_id"], ["artifact_version.id"], name=op.f("fk_event_version_id"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_event")),
        sa.UniqueConstraint("dedupe_key", name=op.f("uq_event_dedupe_key")),
    )
    with op.batch_alter_table("event", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_event_version_id"), ["version_id"], unique=False)

    op.create_table(
        "run_input",
        sa.Column("run_id", sa.BigInteger(), nullable=False),
        sa.Column("input", sa.String(), nullable=False),
        sa.Column("version_id", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(["run_id"], ["run.id"], name=op.f("fk_run_input_run_id"), ondelete="CASCADE"),
        sa.ForeignKeyConstraint(
            ["version_id"], ["artifact_version.id"], name=op.f("fk_run_input_version_id"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("run_id", "input", name=op.f("pk_run_input")),
    )
    with op.batch_alter_table("run_input", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_run_input_version_id"), ["version_id"], unique=False)

    op.create_table(
        "service_instance",
        sa.Column("id", ID, autoincrement=True, nullable=False),
        sa.Column("service_id", sa.BigInteger(), nullable=False),
        sa.Column("workload", sa.String(), nullable=False),
        sa.Column("agent", sa.String(), nullable=False),
        sa.Column("state", sa.String(), nullable=False),
        sa.Column("endpoint", sa.String(), nullable=False),
        sa.Column("fingerprint", sa.String(), nullable=False),
        sa.Column("step_id", sa.BigInteger(), nullable=False),
        sa.Column("attempt", sa.Integer(), nullable=False),
        sa.Column("drain_until", sa.Float(precision=53), nullable=True),
        sa.Column("not_before", sa.Float(precision=53), nullable=False),
        sa.Column("created_at", sa.Float(precision=53), nullable=False),
        sa.ForeignKeyConstraint(
            ["service_id"], ["service.id"], name=op.f("fk_service_instance_service_id"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_service_instance")),
        sa.UniqueConstraint("workload", name=op.f("uq_service_instance_workload")),
    )
    with op.batch_alter_table("service_instance", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_service_instance_service_id"), ["service_id"], unique=False)
        batch_op.create_index(batch_op.f("ix_service_instance_state"), ["state"], unique=False)

    op.create_table(
        "step_run",
        sa.Column("id", ID, autoincrement=True, nullable=False),
        sa.Column("uid", sa.String(), nullable=False),
        sa.Column("run_id", sa.BigInteger(), nullable=False),
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("state", sa.String(), nullable=False),
        sa.Column("attempt", sa.Integer(), nullable=False),
        sa.Column("agent", sa.String(), nullable=False),
        sa.Column("workload", sa.String(), nullable=False),
        sa.Column("fingerprint", sa.String(), nullable=False),
        sa.Column("parts", JSON_, nullable=False),
        sa.Column("reused_from", sa.BigInteger(), nullable=True),
        sa.Column("why", sa.Text(), nullable=False),
        sa.Column("phase", sa.String(), nullable=False),
        sa.Column("not_before", sa.Float(precision=53), nullable=False),
        sa.Column("started_at", sa.Float(precision=53), nullable=True),
        sa.Column("ended_at", sa.Float(precision=53), nullable=True),
        sa.Column("exit_code", sa.Integer(), nullable=True),
        sa.Column("reason", sa.String(), nullable=False),
        sa.Column("message", sa.Text(), nullable=False),
        sa.Column("log_tail", JSON_, nullable=False),
        sa.Column("warnings", JSON_, nullable=False),
        sa.Column("metrics", JSON_, nullable=False),
        sa.Column("timings", JSON_, nullable=False),
        sa.ForeignKeyConstraint(["run_id"], ["run.id"], name=op.f("fk_step_run_run_id"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_step_run")),
        sa.UniqueConstraint("run_id", "name", name=op.f("uq_step_run_run_id")),
        sa.UniqueConstraint("uid", name=op.f("uq_step_run_uid")),
    )
    with op.batch_alter_table("step_run", schema=None) as batch_op:
        batch_op.create_index("ix_step_fingerprint", ["fingerprint"], unique=False)
        batch_op.create_index(batch_op.f("ix_step_run_state"), ["state"], unique=False)
        batch_op.create_index(batch_op.f("ix_step_run_workload"), ["workload"], unique=False)

    op.create_table(
        "cache_entry",
        sa.Column("fingerprint", sa.String(), nullable=False),
        sa.Column("step_id", sa.BigInteger(), nullable=False),
        sa.Column("created_at", sa.Float(precision=53), nullable=False),
        sa.ForeignKeyConstraint(
            ["step_id"], ["step_run.id"], name=op.f("fk_cache_entry_step_id"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("fingerprint", name=op.f("pk_cache_entry")),
    )
    with op.batch_alter_table("cache_entry", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_cache_entry_step_id"), ["step_id"], unique=False)

    op.create_table(
        "step_io",
        sa.Column("step_id", sa.BigInteger(), nullable=False),
        sa.Column("direction", sa.String(), nullable=False),
        sa.Column("port", sa.String(), nullable=False),
        sa.Column("ord", sa.Integer(), nullable=False),
        sa.Column("version_id", sa.BigInteger(), nullable=True),
        sa.Column("value", sa.Text(), nullable=True),
        sa.Column("defaulted", sa.Boolean(), nullable=False),
        sa.ForeignKeyConstraint(
            ["step_id"], ["step_run.id"], name=op.f("fk_step_io_step_id"), ondelete="CASCADE"
        ),
        sa.ForeignKeyConstraint(
            ["version_id"], ["artifact_version.id"], name=op.f("fk_step_io_version_id"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("step_id", "direction", "port", "ord", name=op.f("pk_step_io")),
    )
    with op.batch_alter_table("step_io", schema=None) as batch_op:
        batch_op.create_index("ix_step_io_version", ["version_id", "direction", "step_id"], unique=False)

    op.create_table(
        "trigger_firing",
        sa.Column("trigger_id", sa.BigInteger(), nullable=False),
        sa.Column("event_id", sa.BigInteger(), nullable=False),
        sa.Column("version_id", sa.BigInteger(), nullable=False),
        sa.Column("pipeline", sa.String(), nullable=False),
        sa.Column("decision", sa.String(), nullable=False),
        sa.Column("reason", sa.String(), nullable=False),
        sa.Column("run_id", sa.BigInteger(), nullable=True),
        sa.Column("change", sa.String(), nullable=False),
        sa.Column("created_at", sa.Float(precision=53), nullable=False),
        sa.ForeignKeyConstraint(
            ["event_id"], ["event.id"], name=op.f("fk_trigger_firing_event_id"), ondelete="CASCADE"
        ),
        sa.ForeignKeyConstraint(
            ["trigger_id"], ["trigger.id"], name=op.f("fk_trigger_firing_trigger_id"), ondelete="CASCADE"
        ),
        sa.ForeignKeyConstraint(
            ["version_id"],
            ["artifact_version.id"],
            name=op.f("fk_trigger_firing_version_id"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("trigger_id", "event_id", name=op.f("pk_trigger_firing")),
    )
    with op.batch_alter_table("trigger_firing", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_trigger_firing_change"), ["change"], unique=False)
        batch_op.create_index(batch_op.f("ix_trigger_firing_event_id"), ["event_id"], unique=False)
        batch_op.create_index(batch_op.f("ix_trigger_firing_version_id"), ["version_id"], unique=False)


def downgrade() -> None:
    """Remove everything."""
    for table in reversed(
        (
            "artifact",
            "event_cursor",
            "extension",
            "extension_setting",
            "feed",
            "pipeline",
            "project",
            "artifact_version",
            "run",
            "service",
            "trigger",
            "artifact_alias",
            "event",
            "run_input",
            "service_instance",
            "step_run",
            "cache_entry",
            "step_io",
            "trigger_firing",
        )
    ):
        op.drop_table(table)
