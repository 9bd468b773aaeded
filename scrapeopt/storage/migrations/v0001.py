"""From an empty database to the first state."""

from typing import Any

from alembic import op
from sqlalchemy import JSON, Boolean, Column, DateTime, Double, ForeignKeyConstraint, Integer
from sqlalchemy import PrimaryKeyConstraint, String, UniqueConstraint

revision, down_revision = "0001", None

def needed(name: str, kind: Any) -> Column[Any]:
    "A column that is never empty."
    return Column(name, kind, nullable=False)


def key(table: str, *columns: str) -> PrimaryKeyConstraint:
    "The primary key of `table`."
    return PrimaryKeyConstraint(*columns, name=f"pk_{table}")


def unique(table: str, *columns: str) -> UniqueConstraint:
    "Columns that are unique together."
    return UniqueConstraint(*columns, name=f"uq_{table}_{columns[0]}")


def link(table: str, column: str, target: str, **options: Any) -> ForeignKeyConstraint:
    "A column that names a row of another table."
    return ForeignKeyConstraint([column], [f"{target}.id"], name=f"fk_{table}_{column}", **options)

def create_places() -> None:
    "Companies, clusters, stores."
    op.create_table(
        "company", needed("id", Integer), needed("name", String), needed("currency", String),
        needed("timezone", String), needed("decimals", Integer), Column("changeover", Integer),
        Column("threshold", Double), Column("clustering", JSON),
        key("company", "id"), unique("company", "name"))
    op.create_table(
        "cluster", needed("id", Integer), needed("company_id", Integer), needed("label", Integer),
        needed("name", String), needed("formed", Boolean),
        key("cluster", "id"), link("cluster", "company_id", "company"), unique("cluster", "company_id", "label"))
    op.create_table(
        "store", needed("id", Integer), needed("company_id", Integer), needed("store_id", String),
        needed("name", String), needed("lat", Double), needed("lon", Double), Column("state", String),
        Column("format", String), Column("address", String), Column("cluster_id", Integer),
        Column("last_scraped", DateTime), needed("failures", Integer),
        key("store", "id"), unique("store", "company_id", "store_id"), link("store", "company_id", "company"),
        link("store", "cluster_id", "cluster", ondelete="SET NULL"))

def create_prices() -> None:
    "Snapshots and products."
    op.create_table(
        "snapshot", needed("id", Integer), needed("store_pk", Integer), needed("scraped_at", DateTime),
        needed("path", String), needed("rows", Integer), needed("bad_lines", Integer), needed("digest", String),
        needed("partial", Boolean),
        key("snapshot", "id"), unique("snapshot", "store_pk", "scraped_at"), link("snapshot", "store_pk", "store"))
    op.create_table(
        "product", needed("company_id", Integer), needed("product_id", String), needed("name", String),
        needed("category", String), needed("first_seen", DateTime),
        key("product", "company_id", "product_id"), link("product", "company_id", "company"))

def create_groups() -> None:
    "Groups, their links to stores, and what happened to them."
    op.create_table(
        "store_group", needed("id", Integer), needed("company_id", Integer), needed("name", String),
        needed("is_active", Boolean), needed("status", String), Column("category", String),
        Column("ambassador_pk", Integer), Column("checked_at", DateTime),
        key("store_group", "id"), unique("store_group", "company_id", "name"),
        link("store_group", "company_id", "company"), link("store_group", "ambassador_pk", "store"))
    for table in ("store_group_membership", "store_group_candidate"):
        op.create_table(
            table, needed("group_id", Integer), needed("store_pk", Integer), key(table, "group_id", "store_pk"),
            link(table, "group_id", "store_group", ondelete="CASCADE"), link(table, "store_pk", "store"))
    op.create_index("ix_store_group_membership_store_pk", "store_group_membership", ["store_pk"])
    op.create_table(
        "group_event", needed("id", Integer), needed("company_id", Integer), needed("kind", String),
        needed("at", DateTime), Column("group_name", String), Column("store_id", String), Column("overlap", Double),
        needed("record", JSON), key("group_event", "id"), link("group_event", "company_id", "company"))
    op.create_index("ix_group_event_company_group", "group_event", ["company_id", "group_name"])

def upgrade() -> None:
    "From nothing to the first state."
    create_places()
    create_prices()
    create_groups()
