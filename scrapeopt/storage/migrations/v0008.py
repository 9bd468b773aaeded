"""Commands that change a workspace write down when they ran and how they ended."""

from alembic import op
from sqlalchemy import Column, DateTime, Integer, PrimaryKeyConstraint, String

revision, down_revision = "0008", "0007"


def upgrade() -> None:
    "A row for each run of a command."
    counts = [Column(name, Integer, nullable=False) for name in ("files", "rows", "quarantined", "scraped", "failed")]
    op.create_table(
        "run", Column("id", Integer, nullable=False), Column("command", String, nullable=False),
        Column("started_at", DateTime, nullable=False), Column("ended_at", DateTime), Column("exit_code", Integer),
        Column("outcome", String, nullable=False), *counts, Column("machine", String, nullable=False),
        Column("process", Integer, nullable=False), Column("version", String, nullable=False),
        PrimaryKeyConstraint("id", name="pk_run"))
