"The demo plays both policies on the same chains, and its figures are those of the report and of the front page."
import re

import pandas as pd
import pytest

from scrapeopt.analysis.metrics import find_out
from scrapeopt.analysis.report import write_report
from scrapeopt.backtest import count_right
from scrapeopt.commands import demo as demo_module
from scrapeopt.commands.demo import price_matrix, run_demo, summary
from scrapeopt.twin import load_twin
from scrapeopt.workspace import Workspace

pytestmark = pytest.mark.slow
STORES, WEEKS, PER_DAY = {"Woolworths": 4, "Coles": 3}, 1, 1
FIGURES = ["score", "accuracy", "precision"]


@pytest.fixture(scope="module")
def demo(tmp_path_factory):
    "A small demo, and what it said on its way."
    told = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(demo_module, "WEB_STORES", 2)
        result = run_demo(tmp_path_factory.mktemp("demo") / "it", WEEKS, PER_DAY, n_products=60, n_stores=STORES,
                          tell=told.append)
    return result, told


@pytest.fixture(scope="module")
def workspaces(demo):
    return {"delegated": Workspace.open(demo[0].folder / "workspace"),
            "document": Workspace.open(demo[0].folder / "document")}


def test_both_policies_play_the_same_game(demo, workspaces):
    result, told = demo
    assert {policy: ws.settings.policy for policy, ws in workspaces.items()} == {p: p for p in workspaces}
    assert list(result.policies.index) == ["document", "delegated"]
    same = ["day", "company", "true"]  # the same days, companies and true prices
    parts = {policy: days[same].reset_index(drop=True) for policy, days in result.daily.groupby("policy")}
    pd.testing.assert_frame_equal(parts["document"], parts["delegated"])
    assert len(result.daily) == 2 * len(STORES) * 7 * WEEKS
    assert (result.policies["scrapes"] <= sum(STORES.values()) + 7 * WEEKS * PER_DAY).all()
    assert (result.policies["scrapes"] > sum(STORES.values())).all()
    assert sum(f"the baseline: {sum(STORES.values())} scrapes" in line for line in told) == 2


def test_means_are_over_all_days_and_prices(demo):
    result, _ = demo
    for policy, days in result.daily.groupby("policy"):
        sums = days.groupby("day")[["true", "served", "covered", "right"]].sum()
        wanted = {"score": sums["right"] / (sums["true"] + sums["served"] - sums["covered"]),
                  "accuracy": sums["right"] / sums["true"], "precision": sums["right"] / sums["served"]}
        for figure, by_day in wanted.items():
            assert result.policies.loc[policy, figure] == pytest.approx(by_day.mean())
            assert by_day.iloc[-1] != pytest.approx(by_day.mean(), abs=1e-6)  # the last day alone says something else


def test_the_last_day_is_what_the_workspace_serves(demo, workspaces):
    result, _ = demo
    for (policy, company), days in result.daily.groupby(["policy", "company"]):
        last, twin = days.iloc[-1], load_twin(result.folder / "twin", str(company))
        twin.advance(last["day"] - twin.now)
        served = workspaces[policy].prices(company, now=last["day"])
        assert len(served) == last["served"] and not served.duplicated(["store_id", "product_id"]).any()
        found = count_right(twin.truth(), price_matrix(twin, served))
        assert [found.true, found.served, found.covered, found.right] == \
            last[["true", "served", "covered", "right"]].tolist()


@pytest.mark.usefixtures("words_only")
def test_brute_force_is_counted_once(demo, workspaces, tmp_path):
    "Demo, report and what is kept for the front page count the same scrapes, ours and those of brute force."
    result, _ = demo
    now = result.daily["day"].max()
    for policy, ws in workspaces.items():
        mine = result.companies.query("policy == @policy").set_index("company")
        for found in find_out(ws, now=now).figures:
            row = mine.loc[found.company]
            assert (row["scrapes"], row["every_day"], row["every_week"]) == \
                (found.savings.scrapes, found.savings.every_day, found.savings.every_week)
            assert row["scrapes"] == sum(len(list(folder.glob("*.parquet"))) for folder in
                                         (ws.path / "prices" / f"company={found.company}").iterdir())
        total = result.policies.loc[policy]
        assert (total["every_day"], total["every_week"]) == (mine["every_day"].sum(), mine["every_week"].sum())
        assert total["saved_of_every_week"] == pytest.approx(1 - total["scrapes"] / total["every_week"])
    html = write_report(workspaces["delegated"], out=tmp_path / "report.html", now=now).read_text("utf-8")
    page = re.sub(r"<[^>]+>", " ", html)
    for company in result.companies.query("policy == 'delegated'").itertuples():
        for brute in (company.every_day, company.every_week):
            assert re.search(rf"{company.scrapes:,}\s+{brute:,}\s", page), (company.company, brute)


def test_the_front_page_keeps_what_the_demo_found(demo):
    pilot = pytest.importorskip("benchmarks.pilot", reason="benchmarks/ is not part of the installed package")
    result, _ = demo
    kept = pilot.record(result.folder)
    policies = pd.DataFrame(kept["policies"]).set_index("policy")
    assert policies[FIGURES].to_numpy() == pytest.approx(result.policies[FIGURES].to_numpy(), abs=1e-4)
    assert (policies[["scrapes", "every_day", "every_week"]] ==
            result.policies[["scrapes", "every_day", "every_week"]]).all(axis=None)
    assert len(kept["stores"]) == sum(STORES.values()) and len(kept["daily"]) == 2 * 7 * WEEKS


def test_the_summary_has_both_side_by_side(demo):
    result, _ = demo
    lines = summary(result)
    assert lines[0].split() == ["document", "delegated"] and max(map(len, lines[:13])) <= 120
    shown = {words[0]: words[1:] for line in lines[1:5] if (words := line.split())}
    for figure in FIGURES:
        assert shown[figure] == [f"{result.policies.loc[p, figure]:.1%}" for p in ("document", "delegated")]
    assert sum("every store" in line for line in lines) == 2  # both ways to count
    assert str(result.folder / "workspace") in lines[-1]
