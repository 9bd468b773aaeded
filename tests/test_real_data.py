"""The pilot on real stores, and the rules on real prices. Both skip without the shared data."""
import json

import numpy as np
import pandas as pd
import pytest
from effort import drilled

from scrapeopt.commands.demo import make_twins, twin_command, work
from scrapeopt.analysis.status import store_story
from scrapeopt.update import update_db
from scrapeopt.analysis.web_map import draw_maps
from scrapeopt.storage.store_file import read_stores
from scrapeopt.workspace import Workspace

BRANDS = {"711": "7-Eleven", "VIB": "Vibe"}  # two of FuelWatch's, 58 and 49 sites


@pytest.mark.drill
def test_perth_pilot_on_real_stores(shared_data, tmp_path):
    "Real Coles and Woolworths stores: Perth is found, drawn, discovered by --cluster Perth, grouped and served."
    file = shared_data / "au_store_locations" / "coles_woolworths_2024.csv"
    stores = read_stores(file)
    workspace = Workspace.create(tmp_path / "ws", policy="document")
    workspace.import_stores(stores)
    clustered = workspace.cluster()
    perth = clustered[clustered["cluster_name"] == "Perth"]
    sizes = perth["company"].value_counts()
    assert sizes["coles"] == pytest.approx(77, abs=3) and sizes["woolworths"] == pytest.approx(81, abs=3)
    assert perth["lat"].between(-33, -31).all() and perth["lon"].between(115.4, 116.5).all()
    assert all(path.stat().st_size > 10_000 for path in draw_maps(workspace, basemap="none"))

    perth.to_csv(tmp_path / "perth.csv", index=False)
    twins = make_twins(tmp_path / "twin", tmp_path / "perth.csv", n_products=300)
    command = twin_command(tmp_path / "twin")
    scrapes = 0
    while workspace.queue(1, clusters=["Perth"], mode="discovery"):
        scrapes += len(work(workspace, twins, command, 60, pd.Timedelta("1h"), clusters=["Perth"]))
    assert scrapes == len(perth), "every store of the pilot once, none outside it"
    tomorrow = twins["coles"].now + pd.Timedelta("1D")
    assert {t.mode for t in workspace.queue(6, clusters=["Perth"], now=tomorrow)} == {"optimization"}
    for company, twin in twins.items():
        state = workspace.groups(company)
        zones = twin.zones.groupby(twin.zones).filter(lambda z: len(z) > 1)
        assert len(state.active()) == zones.nunique()
        for group in state.active(): assert len(set(twin.zones[sorted(group.members)])) == 1, "a group spans two zones"
        served = workspace.prices(company=company, now=twin.now)
        assert set(served["store_id"]) == set(twin.stores.index)


@pytest.fixture(scope="module", params=[("711",), drilled(tuple(BRANDS))], ids="+".join)
def fuel(request, shared_data, tmp_path_factory):
    "A workspace fed with FuelWatch's days, one update a day: (workspace, prices, reports)."
    prices = pd.read_parquet(shared_data / "wa_fuelwatch_2026" / "prices.parquet")
    prices = prices[prices["brand_name"].isin(request.param)]
    sites = prices.dropna(subset=["latitude", "longitude"]).drop_duplicates("site_id")
    prices = prices[prices["site_id"].isin(sites["site_id"])]
    workspace = Workspace.create(tmp_path_factory.mktemp("fuel") / "ws", policy="document")
    workspace.import_stores(pd.DataFrame({
        "company": sites["brand_name"].map(BRANDS), "store_id": sites["site_id"].astype(str),
        "name": sites["site_name"], "lat": sites["latitude"], "lon": sites["longitude"]}))
    workspace.cluster()
    reports = []
    for date, day in prices.groupby("date", sort=True):
        at = f"{pd.Timestamp(date) - pd.Timedelta('2h'):%Y%m%dT%H%M%SZ}"  # six in the morning in Perth
        for (brand, site), rows in day.groupby(["brand_name", "site_id"]):
            folder = workspace.path / "inbox" / BRANDS[brand] / str(site)
            folder.mkdir(parents=True, exist_ok=True)
            lines = [json.dumps({"product_id": r.product_short_name, "price": f"{r.price:.1f}", "category": "Fuel"})
                     for r in rows.itertuples()]
            (folder / f"{at}.jsonl").write_text("\n".join(lines) + "\n")
        reports.append(update_db(workspace))
    return workspace, prices, reports


@pytest.mark.slow
def test_fuelwatch_day_by_day(fuel):
    "Thirteen days of real prices leave sound groups whose members really share their Ambassador's prices."
    workspace, prices, reports = fuel
    assert [r.quarantined for r in reports] == [0] * 13
    assert sum(r.rows for r in reports) == len(prices)
    for company in workspace.companies():
        state = workspace.groups(company)
        assert state.active(), f"no group of {company} is left"
        assert all(g.ambassador in g.members and not g.candidates for g in state.active())
        newest = workspace.newest(company)
        for group in state.active():
            mine = newest.prices[newest.row(group.ambassador)]
            last = newest.times == newest.times[newest.row(group.ambassador)]
            for store in group.members:
                if not last[newest.row(store)]: continue  # not seen on the last day: not judged
                theirs = newest.prices[newest.row(store)]
                both = (mine >= 0) & (theirs >= 0)
                assert (mine == theirs)[both].mean() >= state.threshold
    kinds = {event["kind"] for report in reports for event in report.events}
    assert {"MonolithSeeded", "CandidateConfirmed", "StoreOutcast", "StoreJoined"} <= kinds


def test_fuelwatch_explains_one_site(fuel):
    "The story of the site with most events names groups, overlaps and dates."
    workspace, _, _ = fuel
    site = workspace.events()["store"].value_counts().index[0]
    (chapter,) = store_story(workspace, site)
    assert len(chapter.events) > 10 and chapter.events == tuple(sorted(chapter.events, key=lambda line: line[:16]))
    assert all(line.startswith("2026-0") for line in chapter.events)


def test_fuelwatch_serves_its_last_whole_day_exactly(fuel):
    "7-Eleven's last whole day is 19 April; on the two later ones half of its fuels are missing, so they are partial."
    workspace, prices, reports = fuel
    assert min(report.partial for report in reports[-2:]) >= 58
    own = prices[(prices["brand_name"] == "711") & (prices["date"] == "2026-04-19")]
    served = workspace.prices(company="7-Eleven").set_index(["store_id", "product_id"])["price"].astype(float)
    got = served.reindex(list(zip(own["site_id"].astype(str), own["product_short_name"], strict=True)))
    np.testing.assert_allclose(got, own["price"])
