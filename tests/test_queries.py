"A column that comes as one text holds what its rows hold, on both databases."
import numpy as np
import pandas as pd
import pytest
from sqlalchemy import insert, select
from sqlalchemy.orm import Session

from scrapeopt.storage.overview import plain_time
from scrapeopt.storage.queries import query_frame, row_frame, text_frame
from scrapeopt.storage.tables import Company, Snapshot, Store, connect, migrate

ODD = ["0041", "", " a, b;\t'c' ", "Zürich-Höngg", "店", "NULL", "None", "7", "two\nlines", "\\x1f"]


@pytest.fixture(params=["sqlite", "postgresql"])
def session(request):
    "A state with odd ids, times to the microsecond, and gaps."
    engine = connect("sqlite://" if request.param == "sqlite" else request.getfixturevalue("postgres"))
    migrate(engine)
    with Session(engine) as session:
        company = Company(name="Shop", currency="AUD", timezone="UTC", decimals=2)
        session.add(company)
        session.flush()
        begin, after = pd.Timestamp("2026-11-19 02:00", tz="UTC"), [0, 1, 500_000, 10, 7, 0, 3, 2, 1, 9]
        times = begin + pd.to_timedelta(after, "us")
        for k, (store_id, at) in enumerate(zip(ODD, times, strict=True)):
            store = Store(company_id=company.id, store_id=store_id, name=store_id, failures=-k,
                          state=store_id if k % 2 else None, tried_at=at if k % 3 else None)
            session.add(store)
            session.flush()
            session.add(Snapshot(store_pk=store.id, scraped_at=at, path="p", rows=k, bad_lines=0, digest="",
                                 partial=k % 4 == 0))
        session.flush()
        yield session
        session.rollback()
    engine.dispose()


COLUMNS = (Store.store_id, Store.format, Store.cluster_id, Store.state, Store.failures,
           plain_time(Store.tried_at).label("tried_at"), Snapshot.rows, Snapshot.partial)


def test_a_column_as_one_text_holds_what_its_rows_hold(session):
    query = select(*COLUMNS).join(Snapshot).order_by(Store.id.desc())
    by_column, by_row = text_frame(session, query), row_frame(session, query)
    assert by_column["store_id"].tolist() == ODD[::-1]
    assert by_column["partial"].dtype == bool and by_column["rows"].dtype == "int64"
    for name in ("store_id", "failures", "rows", "partial"): assert by_column[name].tolist() == by_row[name].tolist()
    for name in ("format", "cluster_id"): assert by_column[name].tolist() == by_row[name].tolist() == [None] * len(ODD)
    state, tried = by_row["state"], pd.to_datetime(by_row["tried_at"], utc=True)
    assert by_column["state"].isna().tolist() == state.isna().tolist()
    assert by_column["state"].dropna().tolist() == state.dropna().tolist()
    pd.testing.assert_series_equal(by_column["tried_at"].dt.tz_localize("UTC"), tried, check_dtype=False)


def test_a_text_with_the_character_between_values_is_read_row_by_row(session):
    session.add(Store(company_id=session.scalar(select(Company.id)), store_id="odd\x1fid", name="odd"))
    session.flush()
    query = select(Store.store_id, Store.tried_at).order_by(Store.id)
    assert text_frame(session, query.with_only_columns(Store.store_id)) is None
    found = query_frame(session, query, ["tried_at"])
    assert found["store_id"].tolist() == [*ODD, "odd\x1fid"] and str(found["tried_at"].dtype) == "datetime64[us, UTC]"


def test_a_number_with_a_fraction_keeps_all_its_digits(session):
    numbers = [1 / 3, -31.9505, None, 0.1 + 0.2, -180.0, 115.86048, 1e-9, 5.0, 2 / 3, 89.99999999999999]
    for store, number in zip(session.scalars(select(Store).order_by(Store.id)), numbers, strict=True):
        store.lat = number
    session.flush()
    found = text_frame(session, select(Store.store_id, Store.lat).order_by(Store.id))["lat"]
    assert found.dtype == "float64" and [None if pd.isna(x) else x for x in found] == numbers


def test_any_place_on_earth_comes_back_as_it_was(session):
    company, places = session.scalar(select(Company.id)), np.random.default_rng(0).uniform(-180, 180, 20_000).tolist()
    session.execute(insert(Store), [{"company_id": company, "store_id": f"s{k:05}", "name": "", "lon": place}
                                    for k, place in enumerate(places)])
    query = select(Store.lon).where(Store.lon.is_not(None)).order_by(Store.store_id)
    assert query_frame(session, query)["lon"].tolist() == places
