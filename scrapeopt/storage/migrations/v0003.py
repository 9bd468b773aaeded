"""Two tables for what beliefs are made of."""

from alembic import op
from sqlalchemy import JSON, Column, DateTime, Double, ForeignKeyConstraint, Integer, LargeBinary
from sqlalchemy import PrimaryKeyConstraint, String

revision, down_revision = "0003", "0002"

def upgrade() -> None:
    "Add the memory of companies, and the standing of stores."
    op.create_table(
        "company_memory", *(Column(name, kind, nullable=False) for name, kind in (
            ("company_id", Integer), ("learned_pairs", Integer), ("tallies", JSON), ("doubt", JSON),
            ("surprise", Double))),
        PrimaryKeyConstraint("company_id", name="pk_company_memory"),
        ForeignKeyConstraint(["company_id"], ["company.id"], name="fk_company_memory_company_id"))
    op.create_table(
        "store_standing", Column("store_pk", Integer, nullable=False), Column("scraped_at", DateTime, nullable=False),
        Column("leans_on", String), Column("agreed", Integer, nullable=False),
        Column("stands", LargeBinary, nullable=False), PrimaryKeyConstraint("store_pk", name="pk_store_standing"),
        ForeignKeyConstraint(["store_pk"], ["store.id"], name="fk_store_standing_store_pk"))
