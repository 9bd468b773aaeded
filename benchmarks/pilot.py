"""Keep what the demo found, for the front page: `make pilot` runs the demo, keeps its figures and writes the page."""
import argparse
import json
from pathlib import Path

import pandas as pd

from scrapeopt.commands.demo import WORKSPACES, account_of, daily_figures, side_by_side
from scrapeopt.workspace import Workspace

RESULT = Path(__file__).parent / "results" / "pilot.json"


def store_rows(workspace: Workspace) -> pd.DataFrame:
    "Every store with its place and its group: company, store_id, name, lat, lon, cluster, group, ambassador."
    parts = []
    for company in workspace.companies():
        state, stores = workspace.groups(company), workspace.stores(company)
        groups = {s: state.group_of(s) for s in stores["store_id"]}
        parts.append(stores.assign(group=[g.name if (g := groups[s]) else None for s in stores["store_id"]],
                                   ambassador=[bool(g := groups[s]) and g.ambassador == s for s in stores["store_id"]]))
    columns = ["company", "store_id", "name", "lat", "lon", "cluster", "group", "ambassador"]
    return pd.concat(parts, ignore_index=True)[columns]


def record(folder: Path) -> dict[str, list[dict[str, object]]]:
    "What a finished demo in `folder` found: `policies`, `companies`, `daily`, `stores`, each a list of rows."
    daily = pd.DataFrame(json.loads((folder / "report.json").read_text(encoding="utf-8")))
    companies = account_of(folder, daily)
    tables = {"policies": side_by_side(companies, daily).reset_index(), "companies": companies,
              "daily": daily_figures(daily)[["policy", "day", "score", "accuracy", "precision"]],
              "stores": store_rows(Workspace.open(folder / WORKSPACES["delegated"]))}
    return {k: json.loads(t.round(4).to_json(orient="records", date_format="iso")) for k, t in tables.items()}


if __name__ == "__main__":
    ap = argparse.ArgumentParser(description=__doc__)
    ap.add_argument("folder", nargs="?", type=Path, default=Path("_demo"), help="where the demo has run")
    RESULT.write_text(json.dumps(record(ap.parse_args().folder), indent=0) + "\n", encoding="utf-8")
