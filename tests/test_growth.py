"What the pages of growth and capacity say follows from what was measured."
import json
from dataclasses import replace

import numpy as np
import pytest

growth, capacity = (pytest.importorskip(f"benchmarks.{m}", reason="benchmarks/ is not part of the installed package")
                    for m in ("growth", "capacity"))
SIZES = (100, 1_000, 10_000, 100_000)


def rows(power, work="queue of 100 stores", policy="document"):
    "A job that grows by a power."
    return [{"work": work, "policy": policy, "stores": n, "cpu": 1e-3 * n**power, "mb": 100.0} for n in SIZES]


def test_the_power_is_the_slope_of_the_large_sizes():
    own = rows(1.5) + rows(0, policy="delegated")
    own[0]["cpu"] = 99  # with a hundred stores, what every command costs hides it
    assert growth.exponents(own) == pytest.approx({("queue of 100 stores", "document"): 1.5,
                                                   ("queue of 100 stores", "delegated"): 0})


def test_the_page_has_a_row_a_job_and_a_picture(tmp_path):
    growth.write_page({"machine": {"cores": 2}, "rows": rows(1.5) + rows(.5, policy="DuckDB")}, tmp_path)
    page = (tmp_path / "growth.md").read_text()
    assert "| queue of 100 stores | document | 1 s | 32 s | 1,000 s | 31,623 s | 1.50 | 100 MB |" in page
    assert (tmp_path / "_static" / "bench_jobs.svg").exists()


def measured(stores, products, scraped, rates):
    "What a size takes by known rates."
    row = {"stores": stores, "products": products, "scraped": scraped, "bytes_a_price": 2.0,
           "state_bytes": 1e3 * stores, "state_bytes_a_scrape": 1e4}
    return row | {name: capacity.predicted(own, stores, products, scraped) for name, own in rates.items()}


RATES = {f"{job}_{what}": {p: 10.0**-k for k, p in enumerate(pieces)}
         for (job, what), pieces in capacity.PIECES.items()}
FITTED = [measured(s, p, n, RATES) for (s, p), n in zip(capacity.FITTED, (5, 40, 7, 30, 60, 9, 11), strict=True)]


def test_known_rates_are_found_again():
    model = capacity.fit(FITTED)
    for name, own in RATES.items(): assert model[name] == pytest.approx(own, rel=1e-6)
    other = measured(2_000, 1_000, 100, RATES)
    assert np.abs([check["off"] for check in capacity.checks(model, [other])]).max() < 1e-6


def test_noise_is_told_as_an_error():
    model, other = capacity.fit(FITTED), measured(2_000, 1_000, 100, RATES)
    other["update_cpu"] *= 2
    off = {check["what"]: check["off"] for check in capacity.checks(model, [other])}
    assert off["update_cpu"] == pytest.approx(-.5)


def test_a_place_with_twice_the_stores_scrapes_and_asks_twice_as_much():
    model, place = capacity.fit(FITTED), capacity.PLACES[0]
    one, two = (capacity.day_of(replace(place, stores=n), model, FITTED, .1) for n in (1_000, 2_000))
    for key in ("scrapes", "requests", "brute", "prices_gb_a_year"): assert two[key] == pytest.approx(2 * one[key])
    assert one["requests"] == pytest.approx(.1 * one["brute"])
    assert one["memory_gb"] == two["memory_gb"]  # of the largest chain


def test_the_page_of_capacity_tells_its_errors(tmp_path):
    model, checked = capacity.fit(FITTED), [measured(400, 1_500, 20, RATES), measured(1_200, 800, 60, RATES)]
    checked[0]["queue_cpu"] *= 1.25
    days = [capacity.day_of(p, model, FITTED, .1) for p in capacity.PLACES]
    results = {"machine": {"cores": 2}, "share": .1, "fitted": FITTED, "checked": checked, "model": model,
               "checks": capacity.checks(model, checked), "far": capacity.far_checks(model), "days": days}
    capacity.write_page(json.loads(json.dumps(results)), tmp_path)
    page = (tmp_path / "capacity.md").read_text()
    assert "20% at worst" in page
    assert "| United States | 38,307 |" in page
    assert {f.name for f in (tmp_path / "_static").iterdir()} == {"bench_capacity.svg", "bench_capacity_check.svg"}
