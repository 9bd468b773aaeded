"Spot checks keep their risks, however products are drawn and however often one looks; and certificates are honest."
import json
from datetime import UTC, datetime
from fractions import Fraction
from itertools import combinations, permutations
from math import comb, inf, log

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binom

from scrapeopt.core.errors import InputError
from scrapeopt.grouping.certificates import proved_share
from scrapeopt.grouping.wealth import Draws, log_wealth, log_wealth_plain
from scrapeopt.spotcheck import Certificate, SpotCheck, certify, decide, learned_levels

NOW = datetime(2026, 11, 27, 3, tzinfo=UTC)


def singles(right, population=inf):
    "Products drawn one by one; a row a store."
    right = np.asarray(right, int)
    return Draws(right, np.ones(right.shape, int), population)


@st.composite
def drawn(draw, pages=True):
    "What may be drawn of one store: pages of some length or single products, of a population or without end."
    k = draw(st.sampled_from([1, 2, 5, 36] if pages else [1]))
    sizes = draw(st.lists(st.integers(1, k), min_size=1, max_size=25))
    right = [draw(st.integers(0, s)) for s in sizes]
    more = draw(st.none() | st.integers(0, 200))
    return Draws(np.array(right), np.array(sizes), inf if more is None else sum(sizes) + more, k)


shares = st.integers(1, 99).map(lambda x: x / 100)
two_levels = st.tuples(shares, shares).filter(lambda p: p[0] < p[1])


# --- wealth

@given(drawn(), two_levels)
def test_wealth_is_what_the_plain_game_gives(draws, levels):
    plain = np.array(log_wealth_plain(draws, *levels))
    assert np.allclose(log_wealth(draws, *levels), plain, rtol=1e-9, atol=1e-9)


@given(drawn(), two_levels)
def test_a_game_is_the_same_alone_and_among_others(draws, levels):
    many = Draws(np.stack([draws.right, draws.size - draws.right]), np.stack([draws.size] * 2), draws.population,
                 draws.page_size)
    assert np.array_equal(log_wealth(many, *levels)[0], log_wealth(draws, *levels))


@given(drawn(), two_levels, st.integers(1, 25))
def test_what_comes_later_changes_nothing_before(draws, levels, n):
    assert np.array_equal(log_wealth(draws.first(n), *levels), log_wealth(draws, *levels)[:n])


@given(st.integers(2, 9), st.integers(0, 9), st.integers(1, 8), st.data())
def test_the_game_is_fair_exactly(population, right, claim, data):
    "Over all orders in which a small store can be drawn: mean wealth at most 1, wherever one stops."
    claim = min(claim, population - 1)
    right = min(right, claim)  # the claim is true
    target = data.draw(st.sampled_from([.5, .8, .95]))
    orders = [[i in chosen for i in range(population)] for chosen in combinations(range(population), right)]
    wealth = np.exp(log_wealth(singles(orders, population), claim / population, target))
    assert len(orders) == comb(population, right) and np.isfinite(wealth).all()
    assert (wealth.mean(0) <= 1 + 1e-9).all()


@given(st.lists(st.integers(1, 4).flatmap(lambda k: st.tuples(st.integers(0, k), st.just(k))), min_size=2, max_size=5),
       st.sampled_from([.3, .6, .9, .99]), st.integers(0, 3))
def test_the_game_is_fair_exactly_by_page_too(pages, target, slack):
    "Over all orders of pages of several lengths: whoever looks after each has `c` times the stake in 1 of `c` at most."
    right, size = np.array(pages).T
    share = min(right.sum() + slack, size.sum()) / size.sum()  # the claim is true
    orders = np.array(list(permutations(range(len(pages)))))
    wealth = np.exp(log_wealth(Draws(right[orders], size[orders], int(size.sum()), 4), share, target))
    assert (wealth.mean(0) <= 1 + 1e-9).all()
    richest = np.sort(wealth.max(1))[::-1]
    assert (richest * np.arange(1, len(richest) + 1) / len(richest) <= 1 + 1e-9)[richest >= 1].all()


@given(st.integers(20, 400), st.integers(2, 15))
def test_single_products_are_walds_ratio_of_two_urns(population, n):
    "As long as all are right: the chance of that from one urn over that from another, in exact fractions."
    least, most = population * 9 // 10, population * 98 // 100
    if most <= least: return
    ratio = Fraction(1)
    for i in range(n): ratio *= Fraction(most - i, least - i)
    found = log_wealth(singles(np.ones(n), population), least / population, most / population)[-1]
    assert np.isclose(found, log(ratio))


# --- the check

@given(st.lists(st.booleans(), max_size=150), two_levels, st.none() | st.integers(150, 400), st.data())
def test_one_by_one_or_all_at_once_is_the_same(matches, levels, population, data):
    whole, parts = (SpotCheck(levels[1], levels[0], population=population) for _ in range(2))
    whole.update(matches)
    while matches:
        n = data.draw(st.integers(1, 40))
        parts.update(matches[:n])
        matches = matches[n:]
    assert (whole.verdict, whole.drawn, whole.agreeing) == (parts.verdict, parts.drawn, parts.agreeing)


@given(st.lists(st.booleans(), min_size=1, max_size=150), two_levels, st.none() | st.integers(150, 400))
def test_right_and_wrong_can_be_exchanged(matches, levels, population):
    low, high = levels
    check, mirror = SpotCheck(high, low, .02, .05, population), SpotCheck(1 - low, 1 - high, .05, .02, population)
    check.update(matches)
    mirror.update([not m for m in matches])
    exchanged = {"match": "rogue", "rogue": "match", "undecided": "undecided"}
    assert (mirror.verdict, mirror.drawn) == (exchanged[check.verdict], check.drawn)


@given(st.lists(st.booleans(), min_size=1, max_size=100), st.integers(0, 99))
def test_one_more_right_price_never_turns_a_match_away(matches, at):
    worse, better = SpotCheck(.98, .90), SpotCheck(.98, .90)
    worse.update(matches)
    better.update([m or i == at for i, m in enumerate(matches)])
    order = ["rogue", "undecided", "match"]
    assert order.index(better.verdict) >= order.index(worse.verdict)


@given(st.integers(1, 120), st.data())
def test_a_store_that_was_seen_whole_has_its_verdict(population, data):
    right = data.draw(st.integers(0, population))
    matches = data.draw(st.permutations([True] * right + [False] * (population - right)))
    check = SpotCheck(.98, .90, population=population)
    check.update(matches)
    assert check.verdict != "undecided"


def test_nothing_counts_after_the_verdict():
    check = SpotCheck(.98, .90)
    assert check.update([True] * 500) == "match" and (check.drawn, check.agreeing) == (58, 58)
    assert check.update([False] * 100) == "match" and check.update_page([False] * 36) == "match"
    assert (check.drawn, check.agreeing) == (58, 58)


def test_a_page_without_shared_products_is_no_draw():
    check = SpotCheck(.98, .90)
    assert check.update_page([]) is None and check.drawn == 0
    assert check.update([True]) is None  # so products may still follow


def test_pages_are_one_draw_each():
    check = SpotCheck(.98, .90, page_size=36)
    verdicts = [check.update_page(np.ones(36, bool)) for _ in range(49)]
    assert verdicts == [None] * 48 + ["match"]
    assert SpotCheck(.98, .90).update_page(np.zeros(36, bool)) is None  # one bad page may be one bad shelf


@pytest.mark.parametrize("make, words", [
    (lambda: SpotCheck(.90, .98), "p_rogue: a Rogue agrees on less"), (lambda: SpotCheck(.9, .9), "p_rogue: "),
    (lambda: SpotCheck(1, .9), "p_match: a share above 0 and below 1"), (lambda: SpotCheck(.9, 0), "p_rogue: a share"),
    (lambda: SpotCheck("high", .9), "p_match: a share"), (lambda: SpotCheck(.98, .9, None), "alpha: a risk"),
    (lambda: learned_levels(["x"]), "agreement: overlaps are numbers"),
    (lambda: SpotCheck(float("nan"), .9), "p_match: "), (lambda: SpotCheck(.98, .9, alpha=.5), "alpha: a risk"),
    (lambda: SpotCheck(.98, .9, beta=0), "beta: a risk"), (lambda: SpotCheck(.98, .9, population=0), "population: "),
    (lambda: SpotCheck(.98, .9, population=10.5), "population: "),
    (lambda: SpotCheck(.98, .9, page_size=True), "page_size: "),
    (lambda: SpotCheck(.98, .9).update([1, 0]), "matches: True or False"),
    (lambda: SpotCheck(.98, .9).update(["True"]), "matches: True or False"),
    (lambda: SpotCheck(.98, .9).update([True, None]), "matches: True or False"),
    (lambda: SpotCheck(.98, .9).update(np.ones((2, 2), bool)), "of shape"),
    (lambda: SpotCheck(.98, .9, population=3).update([True] * 4), "4 products drawn of a population of 3"),
    (lambda: SpotCheck(.98, .9).update_page([True] * 37), "a page of 37 products, but page_size is 36"),
    (lambda: learned_levels([.9, 1.1]), "agreement: an overlap is 0 to 1, got 1.1 at position 1"),
    (lambda: learned_levels([.9], [float("nan")]), "strangers: an overlap"),
    (lambda: learned_levels([.9], products=0), "products: "), (lambda: learned_levels([.9], beta=.6), "beta: a risk"),
    (lambda: certify(singles([1]), "C", "1", "[g]", NOW, risk=1), "risk: a chance"),
    (lambda: certify(singles([1]), "C", "1", "[g]", NOW.replace(tzinfo=None)), "no timezone")])
def test_bad_input_gets_a_sentence(make, words):
    with pytest.raises(InputError, match=words.replace("(", r"\(")): make()


def test_products_and_pages_do_not_mix():
    check = SpotCheck(.98, .90)
    check.update([True] * 3)
    with pytest.raises(InputError, match="either products one by one or whole pages"): check.update_page([True] * 36)
    assert (check.drawn, check.verdict) == (3, "undecided")


# --- its promises, at the very levels; fixed seeds, and a bound that a sound test breaks once in a million

def most(risk, replays):
    "So many errors at most, of a sound test; a run above it happens once in a million."
    return int(binom.isf(1e-6, replays, risk))


def errors(right, size, population, page_size, p_match, p_rogue, risk, seed, replays=2000):
    "How often a store, drawn in other orders, is called match and rogue."
    order = np.random.default_rng(seed).permuted(np.tile(np.arange(len(size)), (replays, 1)), axis=1)[:, :400]
    verdict, _ = decide(Draws(right[order], size[order], population, page_size), p_match, p_rogue, risk, risk)
    return (verdict == "match").sum(), (verdict == "rogue").sum()


@pytest.mark.parametrize("population", [60, 300, 3000])
@pytest.mark.parametrize("level", [.9, .95, .98])
def test_risks_hold_product_by_product(population, level):
    right = (np.arange(population) < round(level * population)).astype(int)
    one, share = np.ones(population, int), right.mean()
    _, rogue = errors(right, one, population, 1, share, share - .08, .05, seed=1)
    match, _ = errors(right, one, population, 1, min(share + .08, .995), share, .05, seed=2)
    assert rogue <= most(.05, 2000) and match <= most(.05, 2000)
    if population > 60: assert max(rogue, match) > 20  # the risk is used: the bound is one that could be broken


@pytest.mark.parametrize("together", [1, 6, 36], ids=["each alone", "six in a row", "whole pages"])
@pytest.mark.parametrize("level", [.9, .95])
def test_risks_hold_page_by_page(together, level):
    "Wrong prices stand together on pages, pages have several lengths, and one looks after each."
    size = np.r_[np.full(90, 36), np.arange(1, 31)]
    lines, page = int(size.sum()), np.repeat(np.arange(120), size)
    runs = np.random.default_rng(together).permutation(-(-lines // together))
    wrong = np.concatenate([np.arange(r * together, min((r + 1) * together, lines)) for r in runs])
    right = size - np.bincount(page[wrong[:round((1 - level) * lines)]], minlength=120)
    share = right.sum() / lines
    _, rogue = errors(right, size, lines, 36, share, share - .08, .05, seed=3)
    match, _ = errors(right, size, lines, 36, min(share + .08, .995), share, .05, seed=4)
    assert rogue <= most(.05, 2000) and match <= most(.05, 2000)


def test_pages_taken_for_single_products_would_break_the_promise():
    "What the care with pages is for: a tenth of the pages is wrong throughout, and hardly anybody notices."
    right = np.repeat(np.r_[np.ones(90, int), np.zeros(10, int)], 36)
    order = np.random.default_rng(5).permuted(np.tile(np.arange(100), (500, 1)), axis=1)[:, :10]
    verdict, _ = decide(singles(right.reshape(100, 36)[order].reshape(500, -1), 3600), .98, .90, .01, .01)
    assert (verdict == "match").mean() > .5


@pytest.mark.parametrize("overlap, at_most", [(1, 60), (.9, 80), (.5, 10)])
def test_a_check_is_short(overlap, at_most):
    rows = np.random.default_rng(6).random((3000, 900)) < overlap
    verdict, end = decide(singles(rows), .98, .90, .01, .01)
    assert end.mean() <= at_most and (verdict == ("match" if overlap == 1 else "rogue")).mean() > .98


# --- levels

pasts = st.lists(st.floats(.6, 1), max_size=60)


@given(pasts, st.lists(st.floats(0, 1), max_size=20))
def test_levels_make_a_test_and_no_ordinary_store_is_between(agreement, strangers):
    p_match, p_rogue = learned_levels(agreement, strangers)
    SpotCheck(p_match, p_rogue)
    assert .5 <= p_match <= .99 and p_rogue <= p_match - .02 + 1e-12
    if agreement:
        ordinary = [x for x in agreement if x >= np.quantile(agreement, .75) - .1]
        assert p_match <= min(ordinary)


@pytest.mark.parametrize("usual", [.99, .97, .93])
@pytest.mark.parametrize("products", [40, 60, 150])
def test_a_check_of_an_ordinary_store_costs_what_was_said(usual, products):
    levels = learned_levels(np.random.default_rng(1).normal(usual, .003, 50).clip(0, 1), products=products)
    rows = np.random.default_rng(2).random((1000, 1200)) < usual
    verdict, end = decide(singles(rows), *levels, .01, .01)
    assert end.mean() < 1.15 * products and (verdict == "rogue").mean() <= .01
    assert end.mean() > .6 * products or levels[0] - levels[1] < .0201  # the levels are as near as that allows


def test_levels_follow_the_past():
    steady, loose = learned_levels([.97, .975, .972, .971] * 10), learned_levels([.97, .90, .93, .99] * 10)
    assert steady[0] > loose[0]
    assert np.subtract(learned_levels([.97] * 30), learned_levels([.97] * 30 + [.3])).max() < .005  # one store strayed
    near = learned_levels([.97] * 30, strangers=[.5] * 5 + [.94] * 5)
    assert near[1] > learned_levels([.97] * 30)[1] and near[1] == pytest.approx(.94)
    assert learned_levels([]) < learned_levels([.97] * 3) < learned_levels([.97] * 50)


def test_ordinary_stores_are_left_alone_by_learned_levels():
    "Stores of a group whose overlaps lie as its past has them are called rogue as rarely as was promised."
    rng, wrong = np.random.default_rng(8), 0
    for _ in range(400):
        past = rng.normal(.962, .004, 21)
        check = SpotCheck(*learned_levels(past[1:]), alpha=.05, beta=.05)
        wrong += check.update(rng.random(1500) < past[0]) == "rogue"
    assert wrong <= most(.05, 400)


# --- certificates

@given(drawn(), st.sampled_from([.01, .05, .2]))
@settings(max_examples=40)
def test_less_risk_proves_less(draws, risk):
    share = proved_share(draws, risk)
    assert 0 <= proved_share(draws, risk / 2) <= share <= draws.right.sum() / draws.size.sum() + 1e-9


@pytest.mark.slow
def test_certificates_are_honest():
    "1,000 of them at a risk of 5%, of stores that stayed and of stores that strayed, by product and by page."
    rng, false = np.random.default_rng(9), {"stayed": [], "strayed": []}
    for i in range(1000):
        kind, overlap = ("stayed", .97) if i % 2 else ("strayed", rng.uniform(.4, .95))
        check = SpotCheck(.95, .88, population=2000)
        matches = np.arange(2000) < round(overlap * 2000)
        if i % 4 < 2: check.update(rng.permutation(matches))
        else:  # a tenth of the wrong ones scattered, the others page by page
            lines = np.concatenate([np.flatnonzero(~matches), np.flatnonzero(matches)])
            wrong = np.zeros(2000, bool)
            wrong[: (~matches).sum()] = True
            swap = rng.choice(len(lines), 60, replace=False)
            wrong[swap] = wrong[rng.permutation(swap)]
            pages = np.array_split(~wrong, 56)
            for p in rng.permutation(56):
                if check.update_page(pages[p]): break
        proof = certify(check.draws, "Woolworths", "1", "[Woolworths-Perth]", NOW)
        false[kind].append(proof.share > overlap + 5e-4)
    assert sum(false["stayed"]) <= 25 and sum(false["strayed"]) <= 25
    assert sum(false["stayed"]) + sum(false["strayed"]) > 0  # they are not honest for saying nothing


def test_a_certificate_says_what_it_is():
    check = SpotCheck(.98, .90, population=20_000)
    check.update([True] * 40 + [False] + [True] * 60)
    proof = certify(check.draws, "Woolworths", "4311", "[Woolworths-Perth]", NOW, risk=.01)
    assert (proof.products, proof.agreeing, proof.at, proof.risk) == (check.drawn, check.agreeing, NOW, .01)
    assert proof.words() == (
        f"Woolworths 4311: prices inferred from [Woolworths-Perth] are right on at least {100 * proof.share:.1f}% of "
        "lines (risk 1%), on 27 November 2026, after 78 products, 77 of them right")


def test_a_share_is_never_rounded_up():
    proof = Certificate("Coles", "7", "[Coles]", .94999, .05, NOW, 60, 60)
    assert "at least 94.9% of lines" in proof.words()


# --- on twins, as the benchmark does it at length

replay = pytest.importorskip("benchmarks.spotcheck", reason="benchmarks/ is not part of the installed package")


def test_pages_of_a_pair_are_those_of_the_shop():
    "36 products that the store sells to a page of one category; what the other does not sell is left out."
    category = np.repeat(["b", "a"], [40, 50])
    store, served = np.full(90, 100), np.full(90, 100)
    store[45], served[0], served[89] = -1, -1, 999  # not sold here, not sold there, another price
    pair = replay.pair_of("a pair", store, served, category)
    right, size = pair.pages
    assert size.tolist() == [36, 13, 35, 4] and (size - right).tolist() == [0, 1, 0, 0]
    assert pair.overlap == 87 / 88


@pytest.mark.slow
def test_a_tiny_replay_keeps_the_risks_and_writes_a_page(tmp_path):
    replay.main(["--quick", "--out", str(tmp_path)])
    results = json.loads((tmp_path / "spot_checks.json").read_text("utf-8"))
    assert all(r["error"] * r["replays"] <= most(.01, r["replays"]) for r in results["risks"])
    weeks = results["weeks"]
    assert weeks["strayed"] > 0 and weeks["rogues called match"] == 0 and weeks["false certificates"] < .2
    page = (tmp_path / "spot_checks.md").read_text("utf-8")
    assert "two departments moved, called match | 200 |" in page and "| 100% | 100.0% |" in page
