__version__ = "0.1.0"

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from scrapeopt import backtest
    from scrapeopt.clustering import StoreClusterer, cluster_stores
    from scrapeopt.core.errors import InputError
    from scrapeopt.reanalysis import reanalyse
    from scrapeopt.scrape import scrape_queue
    from scrapeopt.simulation.panel import Panel, World
    from scrapeopt.twin import Twin
    from scrapeopt.update import update_db
    from scrapeopt.workspace import Workspace

__all__ = ["InputError", "Panel", "StoreClusterer", "Twin", "Workspace", "World", "backtest", "cluster_stores",
           "reanalyse", "scrape_queue", "update_db"]

# What a scheduler script and a notebook begin with, and where it is. Each is loaded when it is first asked for
# (PEP 562), so `import scrapeopt` costs nothing. `backtest` is the module, which holds a function of the same name.
_PLACES = {"InputError": "core.errors", "Panel": "simulation.panel", "StoreClusterer": "clustering", "Twin": "twin",
           "Workspace": "workspace", "World": "simulation.panel", "backtest": None, "cluster_stores": "clustering",
           "reanalyse": "reanalysis", "scrape_queue": "scrape", "update_db": "update"}


def __getattr__(name: str) -> Any:
    if name not in _PLACES: raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module
    if (place := _PLACES[name]) is None: return import_module(f"{__name__}.{name}")
    return getattr(import_module(f"{__name__}.{place}"), name)


def __dir__() -> list[str]: return sorted({*globals(), *__all__})
