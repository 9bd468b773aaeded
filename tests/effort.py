"What `make test` leaves to `make drills`: the same test on further values, and most of the examples."
import pytest
from hypothesis import settings

SEARCHED = 1000  # examples of a test that names no number, in drills
SHORT = 5  # `make test` tries one example of so many


def drilled(*values): return pytest.param(*values, marks=pytest.mark.drill)


def examples(n: int) -> settings:
    "So many examples in drills, a part of them otherwise."
    return settings(max_examples=n if settings.default.max_examples == SEARCHED else max(n // SHORT, 10))
