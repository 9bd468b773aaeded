"""Properties of the discovery queue and the sync window that no single example can show."""
from itertools import pairwise

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from scrapeopt.core.errors import InputError
from scrapeopt.core.calendar import SyncWindow, utc_times
from scrapeopt.discovery import comparable_share, discovery_complete, discovery_progress, discovery_queue, plan_cohorts
from scrapeopt.discovery import sync_cohorts, sync_report, with_cohorts

ZONES = ["UTC", "Australia/Perth", "Europe/Zagreb", "Australia/Lord_Howe", "America/Havana", "America/Santiago",
         "Asia/Beirut", "Pacific/Apia"]


@st.composite
def companies(draw):
    "A store table of up to five clusters and a few regional outliers, its rows in any order."
    sizes = draw(st.lists(st.integers(1, 12), min_size=0, max_size=5))
    outliers = draw(st.integers(0 if sizes else 1, 6))
    cluster = np.repeat([*range(len(sizes)), -1], [*sizes, outliers])
    stores = pd.DataFrame({"company": "C", "cluster": cluster, "store_id": [f"s{i}" for i in range(len(cluster))],
                           "cluster_name": [f"town {c}" if c >= 0 else "" for c in cluster]})
    return stores.sample(frac=1, random_state=draw(st.integers(0, 99)))


@st.composite
def situations(draw):
    "A company and the part of it that has been scraped, in whatever order."
    stores = draw(companies())
    ids = stores["store_id"].tolist()
    return stores, draw(st.lists(st.sampled_from(ids), unique=True, max_size=len(ids)))


def ids(tasks):
    return [t.store_id for t in tasks]


def target(stores, scraped):
    "The largest cluster with an unscraped store, written the plain way; the lower number on a tie."
    best = None
    for cluster in sorted(set(stores["cluster"]) - {-1}):
        members = stores.loc[stores["cluster"] == cluster, "store_id"]
        if set(members) <= set(scraped): continue
        if best is None or len(members) > best[1]: best = cluster, len(members)
    return best and best[0]


@given(situations(), st.integers(0, 99), st.lists(st.integers(0, 4), min_size=1, max_size=8))
def test_R2_queues_of_any_sizes_equal_one_queue(situation, seed, cuts):
    stores, scraped = situation
    pieces = []
    for n in cuts: pieces += discovery_queue(stores, [*scraped, *ids(pieces)], n, seed=seed)
    assert pieces == discovery_queue(stores, scraped, sum(cuts), seed=seed)


@given(situations(), st.integers(0, 99))
def test_R2_five_queues_of_1_equal_one_queue_of_5(situation, seed):
    stores, scraped = situation
    single = []
    for _ in range(5): single += discovery_queue(stores, [*scraped, *ids(single)], 1, seed=seed)
    assert single == discovery_queue(stores, scraped, 5, seed=seed)


@given(situations(), st.integers(0, 99))
def test_R2_no_store_twice_and_none_forgotten(situation, seed):
    stores, scraped = situation
    queue = ids(discovery_queue(stores, scraped, len(stores), seed=seed))
    assert len(queue) == len(set(queue))
    assert set(queue) == set(stores["store_id"]) - set(scraped)


@given(situations(), st.integers(0, 99))
def test_R2_four_to_one_and_the_target_is_the_largest_unfinished_cluster(situation, seed):
    stores, scraped = situation
    cluster = dict(zip(stores["store_id"], stores["cluster"], strict=True))
    done = list(scraped)
    for task in discovery_queue(stores, scraped, len(stores), seed=seed):
        primary, left = target(stores, done), set(stores["store_id"]) - set(done)
        inside = {s for s in left if primary is not None and cluster[s] == primary}
        outside = left - inside
        wanted = "exploration" if outside and (len(done) % 5 == 4 or not inside) else "primary"
        assert task.reason == wanted
        assert task.store_id in (outside if wanted == "exploration" else inside)
        done.append(task.store_id)


@given(situations(), st.integers(0, 99), st.randoms())
def test_R2_the_order_of_the_table_does_not_matter(situation, seed, random):
    stores, scraped = situation
    rows = list(range(len(stores)))
    random.shuffle(rows)
    assert discovery_queue(stores.iloc[rows], scraped, 99, seed=seed) == discovery_queue(stores, scraped, 99, seed=seed)


@given(situations())
def test_R2_complete_when_nothing_is_unscraped(situation):
    stores, scraped = situation
    complete = discovery_complete(stores, scraped)
    assert complete == (set(scraped) == set(stores["store_id"])) == (not discovery_queue(stores, scraped, 1))
    assert complete == discovery_progress(stores, scraped)["complete"].all()


@given(situations(), st.data())
def test_R2_a_pilot_is_a_company_of_its_own(situation, data):
    stores, scraped = situation
    names = sorted(set(stores["cluster_name"]) - {""})
    if not names: return
    wanted = data.draw(st.lists(st.sampled_from(names), min_size=1, unique=True))
    alone = stores[stores["cluster_name"].isin(wanted)]
    assert discovery_queue(stores, scraped, 99, clusters=wanted) == discovery_queue(alone, scraped, 99)
    assert discovery_complete(stores, scraped, clusters=wanted) == discovery_complete(alone, scraped)


@given(situations(), st.data())
def test_R2_the_unreachable_are_not_waited_for_and_the_failed_come_last(situation, data):
    stores, scraped = situation
    failures = data.draw(st.lists(st.integers(0, 4), min_size=len(stores), max_size=len(stores)))
    stores = stores.assign(failures=failures)
    failed = dict(zip(stores["store_id"], failures, strict=True))
    queue = discovery_queue(stores, scraped, len(stores))
    assert set(ids(queue)) == {s for s in stores["store_id"] if failed[s] < 3} - set(scraped)
    for name in set(stores["cluster_name"]):
        primary = [failed[t.store_id] for t in queue if (t.reason, t.cluster) == ("primary", name)]
        assert primary == sorted(primary)
    assert discovery_complete(stores, [*scraped, *ids(queue)])


def test_R2_every_store_outside_the_target_is_as_likely():
    stores = pd.DataFrame({"company": "C", "store_id": [f"s{i}" for i in range(20)],
                           "cluster": [0] * 10 + [1] * 6 + [-1] * 4})
    stores["cluster_name"] = stores["cluster"].map({0: "big", 1: "small", -1: ""})
    picks = pd.Series([discovery_queue(stores, [], 5, seed=seed)[4].store_id for seed in range(2000)]).value_counts()
    assert len(picks) == 10 and picks.between(150, 250).all()  # 200 each expected, standard deviation 13


MOMENTS = st.integers(0, 4_000_000_000).map(lambda s: pd.Timestamp(s, unit="s", tz="UTC"))  # 1970 to 2096
WINDOWS = st.builds(SyncWindow, st.sampled_from([1.0, 24.0, 48.0, 200.0]), st.one_of(st.none(), st.integers(0, 6)),
                    st.sampled_from(ZONES))


@given(MOMENTS, st.integers(0, 6), st.sampled_from(ZONES))
def test_R3_a_price_week_starts_at_its_last_changeover(now, weekday, zone):
    window = SyncWindow(changeover=weekday, timezone=zone)
    start = window.last_changeover(now)
    week = int(window.price_week(now))
    local = start.tz_convert(zone)
    assert start <= now and local.weekday() == weekday
    assert int(window.price_week(start)) == week
    assert int(window.price_week(start - pd.Timedelta("1ns"))) == week - 1
    if zone != "Pacific/Apia":  # Samoa left out a whole day in 2011
        assert now - start < pd.Timedelta(days=7, hours=1, minutes=1)
    if zone in ("UTC", "Australia/Perth", "Europe/Zagreb"): assert local == local.normalize()


@given(st.lists(st.one_of(st.none(), st.integers(0, 400)), max_size=9), WINDOWS)
def test_R3_cohorts_hold_only_comparable_pairs_and_are_as_few_as_can_be(hours, window):
    start = pd.Timestamp("2026-03-25", tz="UTC")
    times = [pd.NaT if h is None else start + pd.Timedelta(hours=h) for h in hours]
    labels = sync_cohorts(times, window)
    stamps = utc_times(times)
    assert (labels == -1).tolist() == np.isnat(stamps).tolist()
    for label in set(labels) - {-1}:
        inside = stamps[labels == label]
        assert window.comparable(inside[:, None], inside[None, :]).all()
        # the first of a cohort could not have gone into the one before
        if label: assert not window.comparable(stamps[labels == label - 1].min(), inside.min())


@given(st.lists(st.one_of(st.none(), st.integers(0, 400)), max_size=12), WINDOWS)
def test_R3_the_share_of_comparable_pairs_is_the_plain_count(hours, window):
    start = pd.Timestamp("2026-10-20", tz="UTC")
    stamps = utc_times([pd.NaT if h is None else start + pd.Timedelta(hours=h) for h in hours])
    known = stamps[~np.isnat(stamps)]
    both = window.comparable(known[:, None], known[None, :])[np.triu_indices(len(known), 1)]
    np.testing.assert_equal(comparable_share(stamps, window), both.mean() if len(both) else float("nan"))


@given(companies(), st.integers(1, 15), st.integers(0, 99))
def test_R3_planned_cohorts_fit_the_window_and_clusters_that_fit_stay_whole(stores, room, seed):
    rng = np.random.default_rng(seed)
    stores = stores.assign(lat=rng.uniform(-89, 89, len(stores)), lon=rng.uniform(-180, 180, len(stores)))
    plan = plan_cohorts(stores, SyncWindow(), stores_per_hour=room / 48)
    pieces = plan.groupby("cluster")["cohort"].nunique()
    assert plan["cohort"].value_counts().max() <= room
    assert plan.groupby("cohort")["cluster"].nunique().max() == 1
    assert pieces.to_dict() == (-(-stores["cluster"].value_counts() // room)).to_dict()
    assert sorted(set(plan["cohort"])) == list(range(pieces.sum()))
    assert plan.drop(columns="cohort").equals(stores)


def test_R3_the_report_counts_what_was_scraped():
    stores = pd.DataFrame({"cluster": [0, 0, 0, -1], "cluster_name": ["Perth"] * 3 + [""]})
    times = pd.to_datetime(["2026-11-24 10:00", "2026-11-24 20:00", None, "2026-11-24 12:00"], utc=True)
    report = sync_report(stores, times, SyncWindow(changeover=2, timezone="Australia/Perth"))
    assert report["cluster"].tolist() == [0, -1]
    assert report.iloc[0][["stores", "scraped", "span_h", "comparable_pairs"]].tolist() == [3, 2, 10, 0]
    assert report["price_weeks"].tolist() == [2, 1]
    assert np.isnan(report.loc[1, "comparable_pairs"])


@pytest.mark.parametrize(("bad", "words"), [
    (lambda s: discovery_queue(s.drop(columns="cluster_name"), [], 1), "no column cluster_name"),
    (lambda s: discovery_queue(s, [], -3), "got -3"),
    (lambda s: discovery_queue(s, [], 2.5), "got 2.5"),
    (lambda s: discovery_queue(s, [], 1, clusters=["Freo"]), "no cluster is named 'Freo'; there are Perth, Albany"),
    (lambda s: discovery_complete(s, [], clusters="Freo"), "no cluster is named 'Freo'"),
    (lambda s: SyncWindow(hours=0), "hours"),
    (lambda s: SyncWindow(changeover=7), "changeover"),
    (lambda s: SyncWindow(timezone="Mars/Olympus"), "Mars/Olympus"),
    (lambda s: plan_cohorts(s.assign(lat=0.0, lon=0.0), SyncWindow(), 0), "stores_per_hour"),
])
def test_bad_input_is_told_in_one_sentence(bad, words):
    stores = pd.DataFrame({"company": "C", "store_id": ["1", "2", "3"], "cluster": [0, 0, 1],
                           "cluster_name": ["Perth", "Perth", "Albany"]})
    with pytest.raises(InputError) as error: bad(stores)
    assert words in str(error.value) and "\n" not in str(error.value)


@st.composite
def scrapers(draw):
    "A placed company, and when each of its scrapes will happen: a few a day, some days none."
    stores = draw(companies())
    spots = st.lists(st.floats(-1, 1), min_size=len(stores), max_size=len(stores))
    stores = stores.assign(lat=draw(spots), lon=draw(spots))
    days = draw(st.lists(st.integers(0, 6), min_size=1, max_size=14))
    clock = [NIGHT + pd.Timedelta(days=d, hours=k) for d, n in enumerate(days) for k in range(n)]
    return stores, clock[:len(stores)]


NIGHT = pd.Timestamp("2026-11-02", tz="UTC")


def follow(stores, clock, size):
    "Scrape by queues of `size`: the stores in order, and the plans."
    order, plans = [], []
    while len(order) < len(clock):
        now, times = clock[len(order)], clock[:len(order)]
        seen = stores.assign(last_scraped=pd.to_datetime(
            stores["store_id"].map(dict(zip(order, times, strict=True))), utc=True))
        plan = with_cohorts(seen, order, times, SyncWindow(), now)
        plans.append(plan.set_index("store_id")[["cluster", "cohort"]] if "cohort" in plan else None)
        same_day = sum(t.normalize() == now.normalize() for t in clock[len(order):])
        order += ids(discovery_queue(plan, order, min(size, same_day)))
    return order, plans


@given(scrapers(), st.integers(2, 6))
def test_R2_queues_of_any_size_follow_one_plan(scraper, size):
    stores, clock = scraper
    assert follow(stores, clock, size)[0] == follow(stores, clock, 1)[0]


@given(scrapers())
def test_R3_a_store_stays_in_its_cohort_once_its_cluster_is_begun(scraper):
    stores, clock = scraper
    order, plans = follow(stores, clock, 1)
    for k, (plan, later) in enumerate(pairwise(plans)):
        if plan is None or later is None: continue
        begun = plan["cluster"].isin(plan.loc[order[:k], "cluster"]) & (plan["cluster"] >= 0)
        goes_on = begun & later["cohort"].groupby(later["cluster"]).transform("max").gt(0)
        assert (plan["cohort"][goes_on] == later["cohort"][goes_on]).all()


@given(scrapers())
def test_R3_regional_outliers_have_no_cohort_of_their_own(scraper):
    stores, clock = scraper
    _, plans = follow(stores, clock, 1)
    for plan in plans:
        if plan is None: continue
        assert (plan["cohort"] >= 0).all() and (plan.loc[plan["cluster"] < 0, "cohort"] == 0).all()
