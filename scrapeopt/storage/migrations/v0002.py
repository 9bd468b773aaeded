"""A table for what direct scrapes say about inferred prices."""

from alembic import op
from sqlalchemy import Boolean, Column, DateTime, Double, ForeignKeyConstraint, Integer
from sqlalchemy import PrimaryKeyConstraint, String, UniqueConstraint

revision, down_revision = "0002", "0001"

def upgrade() -> None:
    "Add the audits."
    columns = {"id": Integer, "store_pk": Integer, "at": DateTime, "group_name": String, "source": String,
               "prices": Integer, "right": Integer, "timely": Boolean, "confidence": Double}
    op.create_table(
        "inference_audit", *(Column(name, kind, nullable=False) for name, kind in columns.items()),
        PrimaryKeyConstraint("id", name="pk_inference_audit"),
        UniqueConstraint("store_pk", "at", "group_name", name="uq_inference_audit_store_pk"),
        ForeignKeyConstraint(["store_pk"], ["store.id"], name="fk_inference_audit_store_pk"))
