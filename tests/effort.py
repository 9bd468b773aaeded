"What `make test` and `make slow` leave to `make drills`: the same test on further values, and most of the examples."
from collections.abc import Iterable, Mapping
from typing import Any

import pytest
from hypothesis import settings

SEARCHED = 1000  # examples of a test that names no number, in drills
FEW = 40  # the same in `make test`
SHORT = 5  # `make test` tries one example of so many


def drilled(*values): return pytest.param(*values, marks=pytest.mark.drill)


def all_but(kinds: Mapping[str, Any], *now: str) -> list:
    "The values of `kinds` under their names: `make test` tries those of `now`, one of each sort, drills try all."
    assert kinds.keys() >= {*now}
    return [pytest.param(kind, id=name, marks=() if name in now else pytest.mark.drill) for name, kind in kinds.items()]


def one_in(n: int, kinds: Iterable[Any]) -> list:
    "The values of `kinds`, each a tuple of arguments or one: `make test` tries the first of every `n`, drills all."
    return [pytest.param(*(kind if isinstance(kind, tuple) else (kind,)), marks=pytest.mark.drill if k % n else ())
            for k, kind in enumerate(kinds)]


def examples(n: int) -> settings:
    "So many examples in drills, a part of them otherwise."
    return settings(max_examples=n if settings.default.max_examples == SEARCHED else max(n // SHORT, 10))
