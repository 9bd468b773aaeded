"""A snapshot remembers the currency and the decimals that its prices were kept in."""

from pathlib import Path

from alembic import op
from sqlalchemy import Column, Integer, String, inspect, text

revision, down_revision = "0006", "0005"


def fill_from_companies() -> None:
    "What the settings of each company said last."
    company = "(SELECT c.{0} FROM company c JOIN store s ON s.company_id = c.id WHERE s.id = snapshot.store_pk)"
    op.execute(f"UPDATE snapshot SET currency = {company.format('currency')}, decimals = {company.format('decimals')}")


def money_of_file(path: Path) -> tuple[str, int] | None:
    "Currency and decimals as a snapshot's own file says, None where it cannot be read or does not."
    import pyarrow as pa
    import pyarrow.parquet as pq
    try: about = pq.read_metadata(path).metadata or {}
    except (OSError, pa.ArrowException): return None
    return (about[b"currency"].decode(), int(about[b"decimals"])) if b"currency" in about else None


def fill_from_files(folder: Path) -> None:
    "What the files say, where that is something else."
    for key, path, *kept in op.get_bind().execute(text("SELECT id, path, currency, decimals FROM snapshot")).all():
        if (own := money_of_file(folder / path)) is None or list(own) == kept: continue
        op.execute(text("UPDATE snapshot SET currency = :currency, decimals = :decimals WHERE id = :key")
                   .bindparams(currency=own[0], decimals=own[1], key=key))


def upgrade() -> None:
    "Two columns, filled for the snapshots that are there."
    there = {column["name"] for column in inspect(op.get_bind()).get_columns("snapshot")}
    for name, kind, default in (("currency", String, ""), ("decimals", Integer, "2")):
        if name not in there: op.add_column("snapshot", Column(name, kind, nullable=False, server_default=default))
    fill_from_companies()
    about = op.get_context().config
    if about is not None and (folder := about.attributes.get("folder")) is not None: fill_from_files(folder)
