"The commands that try settings on the past: what they print, what they write, how they refuse."
import json

import pandas as pd
import pytest

from scrapeopt.cli import main

SMALL = ["--n-stores", "8", "--n-products", "40", "--twin", "uniform"]
SHORT = [*SMALL, "--days", "6", "--warmup-days", "2"]
FRONTIER = {"policy", "threshold", "budget", "scrapes", "score", "accuracy", "precision", "low", "high"}


def call(*words, code=0):
    "Run a command; its exit code is what was expected."
    with pytest.raises(SystemExit) as end: main([str(w) for w in words])
    assert (end.value.code or 0) == code


@pytest.fixture
def panel(tmp_path):
    "Ten days of four stores that price alike, two by two."
    rows = [{"store": f"S{s}", "product": f"P{p}", "date": f"2026-03-{1 + d:02d}", "price": 1 + p + (s % 2) + d // 7}
            for s in range(4) for p in range(30) for d in range(10)]
    path = tmp_path / "panel.csv"
    pd.DataFrame(rows).to_csv(path, index=False)
    return path


def test_backtest_compares_policies(capsys):
    call("backtest", *SHORT, "--policy", "round_robin, freshness", "--budget", 2, "--json")
    rows = json.loads(capsys.readouterr().out)
    assert [r["policy"] for r in rows] == ["round_robin", "freshness"]
    assert all(0 < r["score"] <= min(r["accuracy"], r["precision"]) <= 1 for r in rows)
    assert all(r["scrapes"] == 2 and r["ece"] is None for r in rows)


def test_backtest_for_people(capsys):
    call("backtest", *SHORT, "--policy", "round_robin")
    told = capsys.readouterr().out
    assert "round_robin" in told and "8 stores, 6 days, the first 2 not counted" in told
    assert all(f"{name}: of all " in told for name in ("score", "accuracy"))
    assert told.split()[2:5] == ["score", "accuracy", "precision"]  # after policy and budget: the headline first


@pytest.mark.parametrize("suffix, read", [(".csv", pd.read_csv), (".parquet", pd.read_parquet)])
def test_daily_figures_and_a_picture_are_written(tmp_path, suffix, read):
    out, plot = tmp_path / f"daily{suffix}", tmp_path / "daily.png"
    call("backtest", *SHORT, "--policy", "round_robin,oracle", "--budget", 1, "--out", out, "--plot", plot)
    daily = read(out)
    assert list(daily.columns[:6]) == ["policy", "day", "score", "accuracy", "precision", "coverage"]
    assert len(daily) == 2 * 6 and plot.stat().st_size < 120_000


def test_a_seed_decides_everything(capsys):
    told = []
    for seed in (1, 1, 2):
        call("backtest", *SHORT, "--policy", "round_robin", "--seed", seed, "--json")
        told.append(json.loads(capsys.readouterr().out)[0]["accuracy"])
    assert told[0] == told[1] != told[2]


def test_discovery_can_be_part_of_the_game(capsys):
    call("backtest", *SMALL, "--days", 3, "--warmup-days", 0, "--policy", "round_robin", "--budget", 1, "--baseline",
         "none", "--json")
    assert json.loads(capsys.readouterr().out)[0]["coverage"] < 0.5


def test_a_panel_is_replayed_whole(panel, tmp_path, capsys):
    places = tmp_path / "stores.csv"
    pd.DataFrame({"store_id": [f"S{s}" for s in range(4)], "lat": -31.9, "lon": 115.8}).to_csv(places, index=False)
    call("backtest", "--panel", panel, "--stores", places, "--policy", "round_robin", "--budget", 4)
    assert "4 stores, 10 days, the first 5 not counted" in capsys.readouterr().out


def test_a_bad_panel_is_refused_with_its_row(tmp_path, panel, capsys):
    for change, why in (({"price": "cheap"}, "price"), ({"date": "soon"}, "date")):
        bad = pd.read_csv(panel, dtype=str)
        bad.loc[2, list(change)] = list(change.values())
        bad.to_csv(tmp_path / "bad.csv", index=False)
        for command in ("backtest", "tune"):
            call(command, "--panel", tmp_path / "bad.csv", code=2)
            told = capsys.readouterr().err
            assert told.startswith("scrapeopt: ") and "row 3" in told and why in told


@pytest.mark.parametrize("words, why", [
    (["backtest", "--twin", "corner_shop"], "no archetype 'corner_shop'"),
    (["backtest", *SHORT, "--policy", "guess"], "policy 'guess' is unknown"),
    (["backtest", *SHORT, "--policy", ","], "--policy is empty"),
    (["backtest", *SHORT, "--baseline", "half"], "baseline must be"),
    (["backtest", *SMALL, "--days", "4", "--warmup-days", "4"], "nothing is left of 4 days"),
    (["backtest", *SHORT, "--out", "daily.xls"], "cannot write .xls"),
    (["backtest", *SHORT, "--plot", "daily"], "a file without suffix"),
    (["backtest", *SHORT, "--threshold", "high"], "'high' is no number"),
    (["backtest", *SHORT, "--changeover", "someday"], "changeover must be a weekday"),
    (["backtest", "--stores", "stores.csv"], "--stores goes with --panel"),
    (["backtest", "--panel", "nowhere.csv"], "nowhere.csv"),
    (["tune", *SHORT, "--policies", "guess"], "policy 'guess' is unknown"),
    (["tune", *SHORT, "--policies", "oracle", "--budgets", "1", "--jobs", "1"], "no setting to recommend"),
    (["tune", *SHORT, "--budgets", "1,much"], "'much' is no number"),
    (["tune", *SHORT, "--thresholds", "2", "--policies", "document", "--budgets", "1", "--jobs", "1"], "threshold"),
])
def test_mistakes_end_in_a_sentence(words, why, capsys):
    call(*words, code=2)
    told = capsys.readouterr()
    assert told.err.startswith("scrapeopt: ") and why in told.err and not told.out


def test_days_beyond_a_panel_are_refused(panel, capsys):
    call("backtest", "--panel", panel, "--days", 30, code=2)
    assert "--days 30: the panel has 10" in capsys.readouterr().err


def test_tune_recommends_and_draws(tmp_path, capsys):
    call("tune", *SHORT, "--policies", "round_robin,freshness", "--budgets", "1,4", "--jobs", 1, "--seeds", 2,
         "--plot", tmp_path / "frontier.svg", "--json")
    told = json.loads(capsys.readouterr().out)
    assert len(told["settings"]) == 4 and set(told["settings"][0]) == FRONTIER
    assert told["recommended"]["policy"] in ("round_robin", "freshness") and told["recommended"]["reached"]
    assert told["recommended"].keys() >= {"score", "accuracy", "precision", "best"}
    assert (tmp_path / "frontier.svg").exists()


def test_a_target_out_of_reach_is_said(capsys):
    call("tune", *SHORT, "--policies", "round_robin", "--budgets", 1, "--jobs", 1, "--target", 1)
    assert "No setting reached 100.0%" in capsys.readouterr().out


def test_tune_goes_on_where_it_stopped(tmp_path, capsys):
    words = ["tune", *SHORT, "--policies", "round_robin", "--jobs", 1, "--cache", tmp_path, "--json", "--budgets"]
    call(*words, "1")
    kept = {f: f.stat().st_mtime_ns for f in tmp_path.glob("*.json")}
    call(*words, "1,2")
    assert len(kept) == 1 and len(list(tmp_path.glob("*.json"))) == 2
    assert all(f.stat().st_mtime_ns == t for f, t in kept.items())


@pytest.mark.parametrize("command, options", [
    ("backtest", ("--twin", "--panel", "--policy", "--budget", "--save-days", "--out", "--plot", "--json")),
    ("tune", ("--policies", "--budgets", "--thresholds", "--target", "--cache", "--plot", "--json"))])
def test_help_names_the_options(command, options, capsys):
    call(command, "--help")
    told = capsys.readouterr().out
    assert all(option in told for option in options)
