"""SQL adapters: SQLModel tables, the unit of work over them, Alembic migrations."""
