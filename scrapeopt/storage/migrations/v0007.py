"""Runs lease the stores that they scrape."""

from alembic import op
from sqlalchemy import Column, DateTime, ForeignKeyConstraint, Integer, PrimaryKeyConstraint, String

revision, down_revision = "0007", "0006"


def upgrade() -> None:
    "A row for each store that somebody is scraping."
    op.create_table(
        "lease", Column("store_pk", Integer, nullable=False), Column("run", String, nullable=False),
        Column("until", DateTime, nullable=False), PrimaryKeyConstraint("store_pk", name="pk_lease"),
        ForeignKeyConstraint(["store_pk"], ["store.id"], name="fk_lease_store_pk"))
