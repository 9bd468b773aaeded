"""Spot checks: what stores answered to them, and what was learned from that."""

from alembic import op
from sqlalchemy import Column, DateTime, ForeignKeyConstraint, Integer, LargeBinary, PrimaryKeyConstraint, String
from sqlalchemy import UniqueConstraint

revision, down_revision = "0009", "0008"


def upgrade() -> None:
    "A row for each spot check of a store, and one for each moment of a company's past at which there were any."
    op.create_table(
        "spot_check", Column("id", Integer, nullable=False), Column("store_pk", Integer, nullable=False),
        Column("at", DateTime, nullable=False), Column("products", Integer, nullable=False),
        Column("bad_lines", Integer, nullable=False), Column("digest", String, nullable=False),
        Column("answer", LargeBinary, nullable=False), Column("currency", String, nullable=False),
        Column("decimals", Integer, nullable=False), PrimaryKeyConstraint("id", name="pk_spot_check"),
        ForeignKeyConstraint(["store_pk"], ["store.id"], name="fk_spot_check_store_pk"),
        UniqueConstraint("store_pk", "at", name="uq_spot_check_store_pk"))
    op.create_table(
        "company_spot_beliefs", Column("id", Integer, nullable=False), Column("company_id", Integer, nullable=False),
        Column("at", DateTime, nullable=False), Column("content", LargeBinary, nullable=False),
        PrimaryKeyConstraint("id", name="pk_company_spot_beliefs"),
        ForeignKeyConstraint(["company_id"], ["company.id"], name="fk_company_spot_beliefs_company_id"),
        UniqueConstraint("company_id", "at", name="uq_company_spot_beliefs_company_id"))
