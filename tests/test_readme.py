"""What the README promises is there."""
import re

import nbs

README = (nbs.ROOT / "README.md").read_text(encoding="utf-8")


def test_links_lead_somewhere():
    targets = re.findall(r"\]\((?!\w+:|#)([^)#\s]+)", README)
    assert targets
    assert not [t for t in targets if not (nbs.ROOT / t).exists()]


def test_make_targets_exist():
    text = README + (nbs.ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    named = set(re.findall(r"(?:^|`)make ([a-z]+)", text, re.M))
    makefile = (nbs.ROOT / "Makefile").read_text(encoding="utf-8")
    assert {"demo", "test"} <= named
    assert not named - set(re.findall(r"^([a-z]+):", makefile, re.M))
