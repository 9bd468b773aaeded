"A policy that judges only while another company is judged, and traps that tests set on workers."
import os
import signal
import time
from dataclasses import replace
from pathlib import Path

from scrapeopt import company_update
from scrapeopt.policies.document import document

PATIENCE = 20  # seconds that a company waits for another one


def meet(beliefs, batch, rules):
    "Judge as the document has it, once two companies are in their transactions."
    place = Path(os.environ["SCRAPEOPT_TEST_MEETING"])
    (place / beliefs.state.company.replace("/", "_")).touch()
    for _ in range(PATIENCE * 20):
        if len(list(place.iterdir())) > 1: return document.judge(beliefs, batch, rules)
        time.sleep(0.05)
    raise RuntimeError("nobody else came")


meeting = replace(document, name="meeting", judge=meet)


def die_before(name: str, nth: int, mark: str) -> None:
    "On a worker: the first one to come to the nth call of a function of an update is killed there."
    real, calls = getattr(company_update, name), [0]

    def trapped(*args):
        calls[0] += 1
        if calls[0] == nth:
            try: os.close(os.open(mark, os.O_CREAT | os.O_EXCL))
            except FileExistsError: pass
            else: os.kill(os.getpid(), signal.SIGKILL)
        return real(*args)
    setattr(company_update, name, trapped)


def fail_for(name: str, company: str) -> None:
    "On a worker: a function of an update, called with the row of a company, fails for one of them."
    real = getattr(company_update, name)

    def trapped(*args):
        if any(getattr(arg, "name", None) == company for arg in args): raise KeyError("0047")
        return real(*args)
    setattr(company_update, name, trapped)
