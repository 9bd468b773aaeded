"""A store may be retired, and may have no coordinates."""

from alembic import op
from sqlalchemy import Column, DateTime, Double

revision, down_revision = "0005", "0004"


def allow_empty(column: str) -> None:
    """Let a column of stores be empty.

    SQLite can only do so in a new table, and to put that in the old one's place would cut the links of the tables that
    name stores. So the column is put beside the old one, filled, and given its name.
    """
    if op.get_bind().dialect.name != "sqlite": return op.alter_column("store", column, nullable=True)
    op.add_column("store", Column(f"new_{column}", Double))
    op.execute(f"UPDATE store SET new_{column} = {column}")
    op.execute(f"ALTER TABLE store DROP COLUMN {column}")
    op.execute(f"ALTER TABLE store RENAME COLUMN new_{column} TO {column}")


def upgrade() -> None:
    "The time from which on a store is retired; latitude and longitude where they are known."
    op.add_column("store", Column("retired_at", DateTime))
    for column in ("lat", "lon"): allow_empty(column)
