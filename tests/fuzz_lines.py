"""Bytes by the mutations of a fuzzer that watches which lines of code they reach.

It needs atheris (pip install atheris) and runs as python tests/fuzz_lines.py -max_total_time=600. It stops at the first
input at which the compiled loop and the careful reader differ, counts do not add up, or anything but a sentence comes
out.
"""
import gzip
import sys
import tempfile
from contextlib import suppress
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["scrapeopt.storage.scrape_lines", "scrapeopt.core.price_text",
                                         "scrapeopt.storage.text_blocks"]):
    from scrapeopt.core.errors import InputError
    from scrapeopt.core.price_text import PriceFormat
    from scrapeopt.storage.scrape_lines import Expected, careful_rows, read_block, read_scrape
    from scrapeopt.storage.text_blocks import ScrapedFile

FORMATS = (PriceFormat(), PriceFormat(0, "1.234,56"), PriceFormat(3, "1 234.56", True))
FOLDER = Path(tempfile.mkdtemp())


def one_input(data: bytes) -> None:
    "Read some bytes as the lines of a block, and as a file."
    if not data: return
    expected, text = Expected("0041", "AUD", FORMATS[data[0] % len(FORMATS)]), data[1:]
    rows, bad = read_block(text, 1, expected, {})
    alone, bad_alone = careful_rows(enumerate(text.split(b"\n"), 1), expected, {})
    assert rows.equals(alone) and bad == bad_alone, "the two readers differ"
    found = read_scrape([text], expected)
    blank = sum(not line.strip() for line in text.removeprefix(b"\xef\xbb\xbf").split(b"\n"))
    assert found.lines + blank == text.count(b"\n") + 1, "the counts do not add up"
    path = FOLDER / ("x.jsonl.gz" if data[0] & 128 else "x.jsonl")
    path.write_bytes(gzip.compress(text)[:len(text) + 5] if data[0] & 64 else text)
    with suppress(InputError): read_scrape(ScrapedFile(path, max_mb=1), expected)


if __name__ == "__main__":
    seeds = FOLDER / "seeds"
    seeds.mkdir()
    (seeds / "plain").write_bytes(
        b'\0{"product_id": "1", "price": "3.50", "category": "Pantry", "name": "Oats"}\n'
        b'{"product_id": 2, "price": null, "promo": "2 for 5", "x": [1], "currency": "AUD"}\n')
    atheris.Setup([*sys.argv, str(seeds)], one_input)
    atheris.Fuzz()
