"""What was learned is kept for every moment; stores remember failures in time; scrapes may be paid from a bucket."""

from datetime import datetime

from alembic import op
from sqlalchemy import JSON, Column, DateTime, Double, ForeignKeyConstraint, Integer, LargeBinary
from sqlalchemy import PrimaryKeyConstraint, String, UniqueConstraint, text

revision, down_revision = "0004", "0003"


def create_beliefs() -> None:
    "What a company's scrapes have taught, a row an update, in the place of one row a company."
    op.create_table(
        "company_beliefs", *(Column(name, kind, nullable=False) for name, kind in (
            ("id", Integer), ("company_id", Integer), ("at", DateTime), ("learned_pairs", Integer),
            ("confidence_table", JSON), ("departure_prob", JSON), ("calibration_gap", Double), ("notes", JSON))),
        PrimaryKeyConstraint("id", name="pk_company_beliefs"),
        UniqueConstraint("company_id", "at", name="uq_company_beliefs_company_id"),
        ForeignKeyConstraint(["company_id"], ["company.id"], name="fk_company_beliefs_company_id"))
    op.execute(text(
        "INSERT INTO company_beliefs (company_id, at, learned_pairs, confidence_table, departure_prob, "
        "calibration_gap, notes) SELECT m.company_id, coalesce((SELECT max(s.last_scraped) FROM store s "
        "WHERE s.company_id = m.company_id), :never), m.learned_pairs, m.tallies, m.doubt, m.surprise, '{}' "
        "FROM company_memory m").bindparams(never=datetime(1970, 1, 1)))
    op.drop_table("company_memory")


def create_agreements() -> None:
    "How the prices of every snapshot agreed with the group's, in the place of those of each store's newest one."
    op.create_table(
        "snapshot_agreement", Column("snapshot_id", Integer, nullable=False), Column("nearest_group", String),
        Column("agreed", Integer), Column("agreement", LargeBinary, nullable=False),
        PrimaryKeyConstraint("snapshot_id", name="pk_snapshot_agreement"),
        ForeignKeyConstraint(["snapshot_id"], ["snapshot.id"], name="fk_snapshot_agreement_snapshot_id"))
    op.execute("INSERT INTO snapshot_agreement (snapshot_id, nearest_group, agreed, agreement) "
               "SELECT k.id, a.leans_on, a.agreed, a.stands FROM store_standing a "
               "JOIN snapshot k ON k.store_pk = a.store_pk AND k.scraped_at = a.scraped_at")
    op.drop_table("store_standing")


def upgrade() -> None:
    "Tables of what was learned, the time of a store's last failure, the token bucket."
    create_beliefs()
    create_agreements()
    op.add_column("store", Column("tried_at", DateTime))
    op.add_column("company", Column("range_threshold", Double))
    op.create_table(
        "token_bucket", Column("id", Integer, nullable=False), Column("day", Integer, nullable=False),
        Column("tokens", Double, nullable=False), PrimaryKeyConstraint("id", name="pk_token_bucket"))
