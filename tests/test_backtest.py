"""The judge is fair: panels are read as they are, money is counted, the document is production's."""
import copy
import json
from functools import partial

import numpy as np
import pandas as pd
import panels
import pytest
from effort import drilled, examples
from hypothesis import given
from hypothesis import strategies as st

from scrapeopt.backtest import PerZone, backtest, bucket_of, calibration_error, count_right, count_sure, sweep
from scrapeopt.simulation.agents import POLICIES, Probe
from scrapeopt.core.errors import InputError
from scrapeopt.simulation.panel import Panel
from scrapeopt.simulation.agents import BacktestSettings, Memory, Setting
from scrapeopt.simulation.baselines import azar_rates, best_mends, change_rates
from scrapeopt.policies import document
from scrapeopt.simulation.policy_agent import PolicyAgent
from scrapeopt.simulation.sites import perth_stores
from scrapeopt.twin import Twin

ROWS = pd.DataFrame([("A", "milk", "2026-11-02", "1.90"), ("A", "tea", "2026-11-02", "3.50"),
                     ("B", "milk", "2026-11-02", "1.90"), ("B", "tea", "2026-11-04", "3.45"),
                     ("A", "milk", "2026-11-05", "1.80")], columns=["store", "product", "date", "price"])
PLACES = pd.DataFrame({"store_id": ["A", "B", "C"], "lat": [-31.9, -32.0, -33.0], "lon": [115.8, 115.9, 116.0]})


def twin(n=16, seed=0, **options):
    return Twin(perth_stores(n=n, seed=seed), **{"n_products": 150, "seed": seed, "start": "2026-11-02", **options})


def changed(column, row, value): return ROWS.assign(**{column: [*ROWS[column][:row], value, *ROWS[column][row + 1:]]})


# --- panels

def test_missing_rows_and_irregular_dates():
    panel = Panel(ROWS.sample(frac=1, random_state=0))
    assert panel.truth().tolist() == [[190, 350], [190, -1]]
    panel.advance(pd.Timedelta("2D"))
    assert panel.truth().tolist() == [[190, 350], [-1, 345]]
    panel.advance(pd.Timedelta("30D"))
    assert panel.truth().tolist() == [[180, -1], [-1, 345]]
    assert panel.scrape("A").dtype == np.int32 and panel.products["category"].tolist() == ["", ""]
    with pytest.raises(InputError, match="no store 'Z'"): panel.scrape("Z")


def test_a_copy_has_its_own_clock():
    panel = Panel(ROWS)
    other = copy.deepcopy(panel)
    other.advance(pd.Timedelta("9D"))
    assert panel.now == Panel(ROWS).now and panel.truth().tolist() == [[190, 350], [190, -1]]
    assert other.truth().tolist() == [[180, -1], [-1, 345]]


@pytest.mark.parametrize("frame, words", [
    (ROWS.drop(columns="price"), ["no column price", "store, product, date"]),
    (pd.concat([ROWS, ROWS.iloc[[1]]]), ["row 6 (store A, product tea, date 2026-11-02", "repeats row 2"]),
    (ROWS.assign(currency=["AUD", "AUD", "NZD", "AUD", "AUD"]), ["row 3 (store B", "NZD", "AUD"]),
    (changed("price", 1, "cheap"), ["row 2 (store A, product tea", "not a number"]),
    (changed("price", 3, "-3.45"), ["row 4 (store B, product tea", "price -3.45 is negative"]),
    (changed("price", 3, "3,45"), ["row 4 (store B", "price '3,45' has a decimal comma: write 3.45"]),
    (changed("price", 3, "3_45"), ["row 4 (store B", "price '3_45' has an underscore"]),
    (changed("price", 3, "1e2"), ["row 4 (store B", "price '1e2' has an exponent"]),
    (ROWS.assign(price=["790", "1.290", "990", "1.990", "490"]), ["row 2 (store A", "'1.290' can be 1.29 or 1290"]),
    (changed("price", 3, np.inf), ["row 4 (store B", "not a number"]),
    (changed("price", 2, "1.99999"), ["row 3 (store B", "more than 4 decimals"]),
    (changed("price", 2, "99999999999"), ["row 3 (store B", "too large"]),
    (changed("date", 4, "soon"), ["row 5 (store A", "cannot be read", "2026-11-23"]),
    (ROWS.assign(date=11101), ["row 1", "is a number"]),
    (changed("store", 2, None), ["row 3", "no store"]),
    (changed("product", 2, ""), ["row 3", "no product"]),
    (ROWS.assign(company=["X", "X", "Y", "Y", "Z"]), ["row 5 (store A", "of Z"]),
    (ROWS[:0], ["no rows"]),
], ids=lambda v: v[0] if isinstance(v, list) else "")
def test_a_bad_panel_is_refused_with_the_reason_and_the_row(frame, words):
    with pytest.raises(InputError) as e: Panel(frame)
    assert all(w in str(e.value) for w in words) and "\n" not in str(e.value)


def test_stores_that_are_not_in_the_table_are_refused():
    with pytest.raises(InputError, match=r"row 3 \(store B, product milk.*not in the table of stores"):
        Panel(ROWS, PLACES[PLACES.store_id != "B"])
    with pytest.raises(InputError, match="stores: no column lat"): Panel(ROWS, PLACES.drop(columns="lat"))
    with pytest.raises(InputError, match="stores: row 4 repeats store 'A'"):
        Panel(ROWS, pd.concat([PLACES, PLACES.iloc[[0]]]))
    stores = Panel(ROWS.assign(company="X"), PLACES).stores
    assert stores.index.tolist() == ["A", "B"] and stores["company"].tolist() == ["X", "X"]
    assert Panel(ROWS, PLACES.assign(company="Y")).stores["company"].tolist() == ["Y", "Y"]


def test_a_panel_from_files(tmp_path):
    ROWS.to_csv(tmp_path / "p.csv", index=False)
    ROWS.astype({"price": float}).to_parquet(tmp_path / "p.parquet")
    PLACES.to_csv(tmp_path / "s.csv", index=False)
    for name in ("p.csv", "p.parquet"):
        panel = Panel(tmp_path / name, str(tmp_path / "s.csv"))
        assert panel.truth().tolist() == Panel(ROWS).truth().tolist() and panel.stores["lat"].tolist() == [-31.9, -32.0]
    with pytest.raises(InputError, match=r"none\.csv cannot be read"): Panel(tmp_path / "none.csv")


@given(st.lists(st.integers(0, 10**7), min_size=1, max_size=20), st.sampled_from([2, 3, 4]), st.booleans())
def test_prices_are_exact(units, decimals, as_text):
    value = [f"{u / 10**decimals:.{decimals}f}" for u in units]
    price = value if as_text else [float(v) for v in value]
    panel = Panel(pd.DataFrame({"store": "A", "product": [f"{i:02d}" for i in range(len(units))],
                                "date": "2026-01-01", "price": price}))
    units = [u or -1 * 10**max(decimals - panel.decimals, 0) for u in units]  # 0: not on sale
    assert (panel.scrape("A") * 10**(decimals - panel.decimals if decimals > panel.decimals else 0)).tolist() == [
        u // 10**max(decimals - panel.decimals, 0) * 10**max(decimals - panel.decimals, 0) for u in units]


# --- money

class Spender(Memory):
    "Wants now this much, now that; probes in between."
    wanted: list[int]

    def plan(self, today):
        if not self.wanted: return []
        n = self.wanted.pop(0)
        return [Probe(self.ids[0], np.arange(n % 7 + 1)), *self.ask(np.arange(n) % len(self.ids))]

    def take_probes(self, now, answers):
        for p, prices in answers: assert len(prices) == len(p.products)


class Counting:
    "A panel that counts what is asked of it, and fails now and then."

    def __init__(self, fails):
        self.panel, self.fails, self.probed, self.calls, self.size = Panel(ROWS), fails, 0.0, 0, {}

    def __getattr__(self, name): return getattr(self.__dict__["panel"], name)
    def __deepcopy__(self, memo): raise TypeError("the same one, so that it can be asked afterwards")

    def scrape(self, store):
        self.calls += 1
        if self.fails and self.calls % self.fails == 0: raise OSError("503")
        prices = self.panel.scrape(store)
        self.size[store] = (prices >= 0).sum()
        return prices

    def probe(self, store, products):
        self.probed += len(products) / (self.size.get(store) or 2)
        return np.zeros(len(products), np.int32)


@given(st.floats(0, 5), st.floats(0, 3), st.lists(st.integers(0, 6), max_size=30), st.integers(0, 3),
       st.sampled_from(["1D", "12h", "2D"]))
@examples(60)
def test_no_policy_spends_more_than_it_has(budget, save_days, wanted, fails, step):
    world = Counting(fails)
    def spender(s):
        agent = Spender(s)
        agent.wanted = list(wanted)
        return agent
    result = backtest(world, spender, budget=budget, days=8, step=step, save_days=save_days, baseline="none")
    assert result.daily["scrapes"].sum() == world.calls
    earned = budget * np.arange(1, 9)[::2 if step == "2D" else 1] + (budget if step == "2D" else 0)
    assert (result.daily["scrapes"].cumsum() <= earned + 1e-6).all()
    assert world.calls + world.probed <= budget * 8 + 1e-6


@given(st.floats(0.01, 6), st.floats(0, 7), st.lists(st.booleans(), min_size=30, max_size=80))
def test_a_bucket_saves_no_more_than_it_may_and_loses_no_fraction(budget, save_days, spends):
    bucket, paid = bucket_of(budget, save_days, pd.Timedelta("1D")), 0
    for day, spend in enumerate(spends):
        bucket = bucket.refill()
        assert bucket.tokens <= max(bucket.capacity, 1 + budget) + 1e-9
        while spend and bucket.can_pay(1): bucket, paid = bucket.pay(1), paid + 1
        assert paid <= budget * (day + 1) + 1e-6
    if all(spends): assert paid >= int(budget * len(spends) - 1e-6)


def test_a_tiny_budget_adds_up():
    result = backtest(twin(6), "round_robin", budget=0.3, days=20, save_days=0)
    assert result.daily["scrapes"].sum() == 6 and result.daily["scrapes"].max() == 1


# --- scoring and replay

SHAPE = (4, 5)  # stores, products
CELLS = SHAPE[0] * SHAPE[1]


@st.composite
def truth_and_served(draw):
    "What stores charge and what is served for them, of three prices and -1: each may lack any row."
    both = [draw(st.lists(st.sampled_from([-1, 100, 199, 250]), min_size=CELLS, max_size=CELLS)) for _ in range(2)]
    return [np.array(cells, np.int32).reshape(SHAPE) for cells in both]


def figures_of(truth, served):
    "Score, accuracy and precision, 0 where there is nothing to share."
    found = count_right(truth, served)
    return np.nan_to_num([found.score, found.accuracy, found.precision])


@given(truth_and_served())
def test_figures_are_those_of_sets(case):
    truth, served = case
    true, given_ = ({(at, int(p)) for at, p in np.ndenumerate(prices) if p >= 0} for prices in case)
    right, places = len(true & given_), {at for at, _ in true | given_}
    wanted = [right / len(whole) if whole else 0 for whole in (places, true, given_)]
    assert figures_of(truth, served) == pytest.approx(wanted)
    assert figures_of(truth, served)[0] <= min(wanted[1:]) + 1e-12


@given(truth_and_served(), st.lists(st.integers(0, CELLS - 1), min_size=1))
def test_serving_more_raises_neither_precision_nor_score(case, places):
    "Rows that are added and not right: for what a store does not sell, or at another price."
    truth, served = case
    more = served.copy()
    for at in (divmod(place, SHAPE[1]) for place in places):
        if served[at] < 0: more[at] = 999
    before, after = figures_of(truth, served), figures_of(truth, more)
    assert after[0] <= before[0] and after[1] == before[1] and after[2] <= before[2]
    phantoms = ((truth < 0) & (served < 0) & (more >= 0)).any()
    if phantoms and before[0]: assert after[0] < before[0] and after[2] < before[2]


@given(truth_and_served(), st.lists(st.integers(0, CELLS - 1), min_size=1))
def test_serving_less_does_not_raise_the_score(case, places):
    "Rows that are left out, of what the store sells: precision may rise, the score may not."
    truth, served = case
    less = served.copy()
    for at in (divmod(place, SHAPE[1]) for place in places):
        if truth[at] >= 0: less[at] = -1
    before, after = figures_of(truth, served), figures_of(truth, less)
    assert after[0] <= before[0] and after[1] <= before[1]
    if count_right(truth, less).right < count_right(truth, served).right: assert after[0] < before[0]


@given(truth_and_served())
def test_calibration_counts_each_row_that_is_served(case):
    "Who is sure of all that is served errs by the share that is wrong, products that are not sold included."
    truth, served = case
    counts, found = count_sure(truth, served, np.float32(1)), count_right(truth, served)
    assert counts[0].sum() == found.served and counts[2].sum() == found.right
    if found.served: assert calibration_error(counts) == pytest.approx(1 - found.precision)


def test_guessing_does_not_pay_in_a_backtest():
    "Who also serves what a store does not sell gains no accuracy and loses precision, score and calibration."
    honest, guessing = (backtest(twin(8), partial(Guessing, guess=guess), budget=8, days=5) for guess in (False, True))
    assert guessing.accuracy == honest.accuracy and guessing.daily["coverage"].equals(honest.daily["coverage"])
    assert guessing.precision < honest.precision and guessing.score < honest.score and guessing.ece > honest.ece


class Guessing:
    "Serves what it saw last; with `guess`, a price for everything else, too."
    def __init__(self, s, guess):
        self.stores, self.fill = list(s.stores.index), 100 if guess else -1
        self.seen = np.full((len(s.stores), len(s.products)), -1, np.int32)

    def plan(self, today): return self.stores

    def take_in(self, now, scraped):
        for store, prices in scraped.items(): self.seen[self.stores.index(store)] = prices

    def served(self, now): return np.where(self.seen >= 0, self.seen, self.fill), np.float32(0.99)


def test_accuracy_by_hand():
    result = backtest(Panel(ROWS), "round_robin", budget=0, days=5)
    # A: 190 350; B: 190 -. On the 4th B: - 345, on the 5th A: 180 -
    assert result.daily["accuracy"].tolist() == [1, 1, 2 / 3, 0, 0]
    assert result.daily["coverage"].tolist() == [1, 1, 2 / 3, 1 / 2, 1 / 2]
    assert result.daily["precision"].tolist() == [1, 1, 2 / 3, 0, 0]
    assert result.daily["score"].tolist() == [1, 1, 1 / 2, 0, 0]  # B's milk is served and not sold
    assert result.accuracy == pytest.approx(np.mean([1, 1, 2 / 3, 0, 0]))
    assert result.score == pytest.approx(np.mean([1, 1, 1 / 2, 0, 0]))
    assert backtest(Panel(ROWS), "round_robin", budget=0, days=5, warmup_days=2).accuracy == pytest.approx(2 / 9)
    assert backtest(Panel(ROWS), "round_robin", budget=0, days=2, baseline="none").accuracy == 0
    assert backtest(Panel(ROWS), "round_robin", budget=2, days=5, baseline="none").accuracy == 1


@pytest.mark.slow
@pytest.mark.parametrize("policy", ["round_robin", "freshness", "document", "oracle"])
def test_the_same_seed_gives_the_same_result(policy):
    world = twin()
    one, two = (backtest(world, policy, budget=2, days=12, seed=3) for _ in range(2))
    pd.testing.assert_frame_equal(one.daily, two.daily)
    assert one.events == two.events and one.groups.equals(two.groups)
    assert world.now == twin().now and one.daily["scrapes"].cumsum().le(2 * (one.daily.index + 1)).all()


def test_half_days_are_scored_at_the_end_of_the_day():
    result = backtest(twin(), "round_robin", budget=4, days=6, step="12h")
    assert result.daily.index.tolist() == list(range(6)) and result.daily["scrapes"].tolist() == [4] * 6


@pytest.mark.parametrize("options, words", [
    ({"budget": -1}, "budget must be"), ({"days": 0}, "days and step must be"), ({"step": "7h"}, "must divide a day"),
    ({"baseline": "half"}, "'scraped' or 'none'"), ({"save_days": -1}, "save_days must be"),
    ({"policy": "best"}, "policy 'best' is unknown; use one of round_robin"),
    ({"settings": {"eps": 3}}, "'eps' is unknown; use one of match_threshold"),
    ({"settings": {"changeover": "someday"}}, "must be a weekday"), ({"settings": {"seeding": "luck"}}, "seeding must"),
])
def test_bad_options_are_named(options, words):
    with pytest.raises(InputError, match=words): backtest(twin(4), **{"budget": 1, "days": 2, **options})


@pytest.mark.slow
def test_a_sweep_resumes(tmp_path):
    asked = {"worlds": {"Perth": twin_of_seed}, "policies": ["round_robin", "oracle"], "budgets": [1, PerZone(2)],
             "seeds": [0, 1], "days": 3, "cache": tmp_path}
    table = sweep(**asked, n_jobs=2)
    assert len(table) == 8 == len(list(tmp_path.iterdir()))
    assert table["money"].unique().tolist() == ["1 a day", "2 per zone and week"]
    again = sweep(**asked | {"worlds": {"Perth": None}}, n_jobs=1)  # nothing is made anew
    pd.testing.assert_frame_equal(table, again)


def test_a_row_of_an_older_version_is_measured_again(tmp_path):
    asked = {"worlds": {"Perth": twin_of_seed}, "policies": ["round_robin"], "budgets": [1], "seeds": [0], "days": 3,
             "n_jobs": 1, "cache": tmp_path}
    found = sweep(**asked)
    file, = tmp_path.glob("*.json")
    row = json.loads(file.read_text("utf-8"))
    file.write_text(json.dumps({k: v for k, v in row.items() if k not in ("score", "precision")}), "utf-8")
    assert sweep(**asked)["score"].tolist() == found["score"].tolist()
    assert json.loads(file.read_text("utf-8")).keys() == row.keys()


def twin_of_seed(seed): return twin(6, seed)


# --- the policies

def test_rates_are_optimal():
    rng = np.random.default_rng(0)
    m, d = rng.uniform(1, 5, 50), rng.uniform(0.01, 3, 50)
    rates = azar_rates(m, d, 7.0)
    assert rates.sum() == pytest.approx(7) and (rates >= 0).all()
    gain = m * d / (rates + d) ** 2
    assert np.ptp(gain[rates > 0]) < 1e-9 and gain[rates == 0].max(initial=0) <= gain[rates > 0].min() + 1e-9
    days = rng.uniform(0.5, 4, (50, 6))
    assert change_rates(1 - np.exp(-d[:, None] * days), days) == pytest.approx(d, rel=1e-3)


def test_the_document_discovers_by_80_20_and_gives_up_on_a_dead_store():
    world = twin(12)
    dead, scrape = world.stores.index[0], world.scrape
    def answer(store):
        if store == dead: raise OSError("410 gone")
        return scrape(store)
    world.scrape = answer
    world.__class__ = type("Stubborn", (Twin,), {"__deepcopy__": lambda self, memo: self})
    result = backtest(world, "document", budget=3, days=10, baseline="none", settings={"eps_km": 60.0})
    assert result.groups.drop(dead).ne(-1).any() and result.groups[dead] == -1
    assert result.daily["coverage"].iloc[-1] > 0.8


def test_each_company_gets_its_share():
    frame = pd.concat([ROWS.assign(store=ROWS["store"] + str(i), company="X" if i < 4 else "Y") for i in range(6)])
    seen = []
    class Spy(Panel):
        def scrape(self, store):
            seen.append(store)
            return super().scrape(store)
    backtest(Spy(frame), "document", budget=3, days=8)
    spent = pd.Series([int(s[1]) >= 4 for s in seen[12:]])
    assert len(spent) == 24 and spent.sum() == 8  # a third of the stores, a third of the money


def test_a_partial_snapshot_is_not_used():
    world = twin(6)
    chosen = BacktestSettings()
    agent = PolicyAgent(document, Setting(world.stores, world.products, chosen.window, chosen, 0))
    agent.take_in(world.now, {s: world.scrape(s) for s in world.stores.index})
    store, before = world.stores.index[0], agent.served(world.now)[0].copy()
    torn = np.where(np.arange(150) < 50, world.scrape(store) + 1, -1).astype(np.int32)
    later = world.now + pd.Timedelta("1D")
    agent.take_in(later, {store: torn})
    assert (agent.served(later)[0] == before).all()


def test_the_best_mend_is_the_largest_and_never_counts_twice():
    zones, sells = np.array([0, 0, 0, 1]), np.array([[1, 1, 0], [1, 1, 0], [0, 1, 1], [1, 1, 1]], np.float32)
    stale = np.full((2, 3), 1, np.float32)
    picks = best_mends(zones, sells, stale, np.arange(4), 4, np.zeros(4, bool))
    assert picks == [(0, 5.0), (3, 3.0), (2, 1.0)]


@pytest.mark.slow
@pytest.mark.parametrize("seed", [0, drilled(1)])
def test_the_oracle_is_a_yardstick(seed):
    world = twin(24, seed)
    score = {p: backtest(world, p, budget=2, days=28, warmup_days=7, seed=seed).score
             for p in ("round_robin", "freshness", "document", "oracle")}
    assert max(score, key=score.get) == "oracle" and score["oracle"] > score["round_robin"] + 0.1


def test_the_oracle_follows_a_store_that_moves():
    rows = pd.DataFrame([(s, p, "2026-01-01", price) for s, price in zip("ABCD", (1, 1, 2, 2), strict=True)
                         for p in ("milk", "tea")], columns=["store", "product", "date", "price"])
    world = Panel(pd.concat([rows, rows[rows.store == "B"].assign(date="2026-01-04", price=2)]))
    moved = pd.Timestamp("2026-01-04", tz="UTC")
    class Knowing(Panel):
        changeover = 2
        @property
        def zones(self): return pd.Series([1, 1 + (self.now >= moved), 2, 2], list("ABCD"))
    world.__class__ = Knowing
    assert backtest(world, "oracle", budget=0, days=6).daily["accuracy"].tolist() == [1] * 6


def test_the_oracle_needs_zones():
    with pytest.raises(InputError, match="needs a world that knows its zones"):
        backtest(Panel(ROWS), "oracle", budget=1, days=2)
    assert {"round_robin", "freshness", "document", "oracle"} <= POLICIES.keys()


# --- recorded panels

def walmart(weeks):
    frame = panels.panel("walmart_m5")
    weeks_there = sorted(frame["week"].unique())
    known = dict(zip(weeks_there, pd.date_range("2011-01-29", periods=len(weeks_there), freq="7D"), strict=True))
    return Panel(frame[frame["week"].isin(sorted(known)[-weeks:])].assign(date=frame["week"].map(known)))


def fuelwatch():
    frame = panels.panel("wa_fuelwatch_2026").rename(columns={"product_short_name": "product", "brand_name": "company"})
    frame = frame[frame["company"].isin(["REX", "VIB"])].assign(store=frame["site_id"].astype(str))
    places = frame.drop_duplicates("store").rename(columns={"latitude": "lat", "longitude": "lon"}).drop(
        columns=["product", "price", "date"])
    return Panel(frame, places.assign(store_id=places["store"]))


@pytest.mark.slow
def test_walmart_in_ten_stores():
    panel = walmart(8)
    assert panel.truth().shape == (10, 3049) and (panel.truth() >= 0).mean() > 0.99
    results = [backtest(panel, p, budget=1, days=28) for p in ("round_robin", "document")]
    assert all(0.9 < r.accuracy < 1 for r in results)


@pytest.mark.slow
def test_fuel_in_western_australia():
    panel = fuelwatch()
    assert panel.decimals == 2 and set(panel.stores["company"]) == {"REX", "VIB"}
    results = [backtest(panel, p, budget=20, days=14) for p in ("round_robin", "document")]
    assert all(0.1 < r.accuracy < 1 and r.daily["coverage"].iloc[0] > 0.9 for r in results)
