"""Alembic environment: runs migrations on the connection it is handed."""

from __future__ import annotations

from alembic import context
from sqlmodel import SQLModel

import fuseml_core.adapters.sql.generations
import fuseml_core.adapters.sql.tables  # noqa: F401

context.configure(connection=context.config.attributes["connection"], target_metadata=SQLModel.metadata,
                  render_as_batch=True, transactional_ddl=False)
with context.begin_transaction():
    context.run_migrations()
