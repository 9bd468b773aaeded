"Timing on a machine that others use too: the methods take turns, and the median of several rounds counts."
import time
from collections.abc import Callable
from statistics import median
from typing import Any

Task = Callable[[], Any]


def seconds_of(task: Task) -> tuple[float, Any]:
    "How long one call takes, and what it returns."
    start = time.perf_counter()
    answer = task()
    return time.perf_counter() - start, answer


def warmed(tasks: dict[str, Task], tick: Callable[[str], None]) -> dict[str, Any]:
    "Call each task once, so that nothing is compiled or loaded in a timed round; returns the answers."
    answers = {}
    for name, task in tasks.items():
        tick(name)
        answers[name] = task()
    return answers


def medians(tasks: dict[str, Task], rounds: int, tick: Callable[[str], None]) -> dict[str, float]:
    "Median seconds of each task; within a round every task has its turn, so that a busy minute hits all of them."
    taken: dict[str, list[float]] = {name: [] for name in tasks}
    for _ in range(rounds):
        for name, task in tasks.items():
            tick(name)
            taken[name].append(seconds_of(task)[0])
    return {name: median(t) for name, t in taken.items()}
