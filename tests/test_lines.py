"""The compiled loop and the careful reader agree on every line, and what they take together adds up."""
import json
import random
from collections import Counter
from collections.abc import Iterator
from decimal import Decimal

import pytest

from scrapeopt.core.price_text import PriceFormat
from scrapeopt.storage.plain_lines import PLAIN, scan_lines
from scrapeopt.storage.scrape_lines import Expected, careful_rows, read_block, read_scrape
from scrapeopt.storage.text_blocks import MAX_LINE, whole_lines

FORMATS = [PriceFormat(), PriceFormat(0), PriceFormat(3), PriceFormat(2, "1.234,56"), PriceFormat(4, "1234.56", True),
           PriceFormat(2, None, False, (Decimal("9.99"), Decimal(-1)))]
PRICES = ['"3.50"', "3.5", "12", '"007.50"', '"99999.99"', "100000", '"3."', '".5"', "3.499", "0", '"0.00"', "null",
          '""', '" 2.00"',
          '"1,50"', '"1.290"', "-3", "1e2", "9.99", "true", '"\\u0033.50"', '"3.50\u00a0"', "2.089999999999998",
          "01", "+3", "3.50 ", "{}", "[3]", "NaN", "21474836.48", '"3.50', "1.", "-0", "1234567890123456789012"]
IDS = ['"888141"', "17", "12.0", '" 7"', '"7 "', '"caf\u00e9"', '""', '" "', "null", '"a\\"b"', '"a\\u0041"', "-5",
          "01", "[]",
       '"a\tb"', '"x\x7f"', '"' + "y" * 300 + '"', "123456789012345678", "1234567890123456789", '"tom & jerry"', "1e3"]
TEXTS = ['"Pantry"', '"Cr\u00e8me br\u00fbl\u00e9e"', '" Milk "', '"a\\nb"', '"\u200b"', '"\u00a0x"', "6", "6.5",
          "null", '""', "true", '"a\x7fb"',
         '"\U0001f95b"', '"tab\\t"', "[1]", '"12\\" pizza"']
ANY = [*PRICES, *TEXTS, '{"deep": [1, {"er": null}]}', "false", "-0.5e-7", '"\ud7ff"', "0123", "[", '{"a" 1}']
FIELDS = {"product_id": IDS, "price": PRICES, "category": TEXTS, "name": TEXTS, "was_price": ANY, "unit_price": ANY,
          "promo": ANY, "store_id": ['"0041"', "41", '"0042"', "null", '" 0041"'], "currency": ['"AUD"', '"NZD"',
          "null", '""'],
          "rating": ANY, "scraped_at": ANY, "caf\u00e9": ANY, 'pro\\u006do': ANY}


def odd_line(chance: random.Random) -> bytes:
    "A line that is plain in most parts; sometimes torn, or with a byte of it changed."
    keys = ["product_id", "price", *chance.sample(list(FIELDS), chance.randint(0, 4))]
    if chance.random() < .1: chance.shuffle(keys)
    values = (chance.choice(FIELDS[k][:1 if chance.random() < .85 else None]) for k in keys)
    space = chance.choice(["", "", " ", " ", "\t", "  "])
    pairs = (f'{space}"{k}"{chance.choice(["", space])}:{space}{v}' for k, v in zip(keys, values, strict=True))
    text = f",{space}".join(pairs)
    line = f"{{{text}}}".encode() + chance.choice([b"", b"", b"", b"\r", b" ", b",", b"}", b"x", b"\x0b"])
    kind, place = chance.random(), chance.randrange(len(line))
    if kind < .05: return line[:place]
    if kind < .15: return line[:place] + bytes([chance.randrange(256)]).replace(b"\n", b"") + line[place + 1:]
    return chance.choice([b"", b" ", b"\xff", b"null", b"[]", b"{}"]) if kind < .17 else line


def blocks(lines: int, seed: int) -> Iterator[tuple[bytes, Expected]]:
    "Blocks of odd lines, for stores of companies that write their prices in different ways."
    chance = random.Random(seed)
    for begin in range(0, lines, 2_000):
        rows = [odd_line(chance) for _ in range(min(2_000, lines - begin))]
        yield b"\n".join(rows), Expected("0041", "AUD", FORMATS[begin // 2_000 % len(FORMATS)])


def check_agreement(lines: int, seed: int) -> Counter[str]:
    "Read odd lines with the loop and without it; how many were of which kind."
    seen: Counter[str] = Counter()
    for block, expected in blocks(lines, seed):
        rows, bad = read_block(block, 1, expected, {})
        alone, bad_alone = careful_rows(enumerate(block.split(b"\n"), 1), expected, {})
        differ = (pair for pair in zip(rows.to_pylist(), alone.to_pylist(), strict=False) if pair[0] != pair[1])
        assert rows.equals(alone), next(differ)
        assert bad == bad_alone
        found = read_scrape([block], expected)
        blank = sum(not line.strip() for line in block.split(b"\n"))
        assert found.lines + blank == block.count(b"\n") + 1
        shown = {(r["product_id"], r["price"]) for r in alone.to_pylist()}
        assert set(zip(found.products, found.prices.tolist(), strict=True)) <= shown  # no price that no line showed
        plain = scan_lines(block, "0041", "AUD", expected.prices.decimals).kinds == PLAIN
        seen.update(lines=block.count(b"\n") + 1, plain=int(plain.sum()), taken=len(rows), bad=len(bad))
    return seen


@pytest.mark.parametrize("seed", range(3))
def test_the_loop_and_the_careful_reader_agree(seed):
    seen = check_agreement(12_000, seed)
    assert min(seen["plain"], seen["taken"], seen["bad"]) > 1_000


@pytest.mark.drill
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("seed", range(100, 110))
def test_the_loop_and_the_careful_reader_agree_on_a_million_lines(seed):
    print(check_agreement(100_000, seed))


def test_lines_that_never_end_are_one_bad_line_each():
    row = b'{"product_id": "1", "price": 2, "x": "' + b"y" * 3 * MAX_LINE + b'"}'
    pieces = [row[i:i + 2**22] for i in range(0, len(row), 2**22)]
    found = read_scrape(list(whole_lines([*pieces, b'\n{"product_id": "2", "price": 3}'])), Expected("1"))
    assert (found.products, found.bad_lines) == (["2"], 1) and "longer than a million bytes" in found.first_bad


def test_what_gave_way_is_told_with_its_own_text():
    rows = [json.dumps({"product_id": str(k % 50), "price": 1 + k // 50}) for k in range(150)]
    for size in (1, 7, 200):
        parts, bad = ["\n".join(rows[i:i + size]).encode() + b"\n" for i in range(0, 150, size)], []
        found = read_scrape(parts, Expected("1"), bad.extend)
        assert (len(found.rows), found.replaced, found.several) == (50, 100, 50)
        assert (found.put_aside, found.bad_lines) == (100, 0) and [b.raw for b in bad] == rows[:100]
        assert found.first_several == "product 0 has the prices 1.00, 2.00, 3.00: the last counts"
