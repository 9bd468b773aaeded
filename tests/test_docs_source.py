"""What the documentation makes of a notebook: folded plumbing, words that lead to the glossary, links that hold."""
import re
import sys

import nbformat
import nbs
import pytest

sys.path.insert(0, str(nbs.ROOT / "tools"))
import docs_src

TUTORIALS = [p for p in nbs.NOTEBOOKS if p.parent.name == "tutorials"]
each_tutorial = pytest.mark.parametrize("path", TUTORIALS, ids=nbs.name)


@pytest.mark.parametrize(("text", "linked"), [
    ("Two Ambassadors meet.", "Two {term}`Ambassadors <Ambassador>` meet."),
    ("The ambassador and the Ambassador", "The {term}`ambassador <Ambassador>` and the Ambassador"),
    ("# An Ambassador\n\nHe", None), ("`Ambassador`", None), ("[the Ambassador](x.md)", None),
    ("| Ambassador |", None), ("*Ambassador: a caption.*", None), ("```text\nAmbassador\n```", None),
    ("`ambassador` is the Ambassador", "`ambassador` is the {term}`Ambassador <Ambassador>`"),
    ("A sub-Ambassador, Ambassadorial", None)])
def test_a_word_is_linked_in_plain_prose_alone(text, linked):
    assert docs_src.link_term(text, "Ambassador") == (linked or text)


def test_a_word_is_linked_once_a_page_and_not_in_the_promise():
    cells = [nbformat.v4.new_markdown_cell(text) for text in ("An Ambassador", "The Ambassador", "The Ambassador")]
    page = nbformat.v4.new_notebook(cells=cells)
    docs_src.link_terms(page)
    assert ["{term}" in c.source for c in page.cells] == [False, True, False]


def test_the_words_that_are_not_linked_are_in_the_glossary():
    text = (nbs.ROOT / "docs" / "glossary.md").read_text("utf-8").splitlines()
    assert set(text) >= docs_src.PLAIN_WORDS and "Ambassador" in docs_src.glossary()


WORDS = ("lease", "orphan", "doctor", "certificate", "what-if", "True Overlap", "Range Overlap", "sync window",
         "Ambassador", "Candidate", "Rogue", "outlier", "price week", "policy", "spot check", "sentinel",
         "retired store", "company", "cluster", "regional outlier", "snapshot", "group", "inferred price")


@pytest.mark.parametrize("word", WORDS)
def test_the_glossary_has_the_words_that_readers_meet(word):
    assert word in (nbs.ROOT / "docs" / "glossary.md").read_text("utf-8").splitlines()


def test_folded_cells_that_follow_each_other_are_one():
    def code(source, *outputs): return nbformat.v4.new_code_cell(f"#| code-fold: true\n{source}", outputs=list(outputs))
    said = nbformat.v4.new_output("stream", text="hello")
    page = nbformat.v4.new_notebook(cells=[code("import a"), code("b = 1"), code("print(b)", said), code("c = 2")])
    for cell in page.cells:
        docs_src.echo(cell)
        docs_src.drop_directives(cell)
    docs_src.fold_together(page)
    assert [c.source for c in page.cells] == ["import a\n\nb = 1", "print(b)", "c = 2"]
    assert all(c.metadata["tags"] == ["hide-input"] for c in page.cells)


@pytest.mark.parametrize(("shown", "broken"), [
    ("a word " * 20, True), ("short", False), ("name" + " " * 40 + "stores" + " " * 40 + "groups", False),
    ("name  stores\nA      12\n" + "a word " * 20, True)])
def test_sentences_are_broken_and_tables_are_not(shown, broken):
    cell = nbformat.v4.new_code_cell("print()", outputs=[nbformat.v4.new_output("stream", text=shown)])
    docs_src.break_sentences(nbformat.v4.new_notebook(cells=[cell]))
    assert ("sentences" in cell.metadata.get("tags", [])) == broken


def test_no_page_shows_a_warning_of_python():
    "A reader takes it for a fault of the package; whoever runs the cell should not meet it either."
    shown = [(nbs.name(path), "".join(output.get("text", ""))) for path in nbs.NOTEBOOKS
             for cell in nbs.code(path) for output in cell.get("outputs", []) if output.get("name") == "stderr"]
    assert not [(name, text) for name, text in shown if re.search(r"\w+Warning: ", text)]


@each_tutorial
def test_a_tutorial_begins_with_its_subject(path):
    "What makes folders and processes to work in is folded away: what is shown is what the page is about."
    shown = [c.source for c in docs_src.processed(path).cells if c.cell_type == "code"
             and not set(c.metadata.get("tags", [])) & {"hide-input", "remove-input"}]
    plumbing = re.compile(r"^(import (os|sys|tempfile|subprocess)|from pathlib)\b|\bos\.chdir\(here|tempfile\.", re.M)
    assert shown and not [source for source in shown[:5] if plumbing.search(source)]


def test_links_lead_from_a_folder_to_the_pages_at_the_top():
    assert docs_src.to_page("../../docs/settings.md", "../") == "../settings.md"
    assert docs_src.to_page("../docs/settings.md") == "settings.md"
    assert docs_src.to_page("../02_overlap.ipynb", "../") == "../overlap.ipynb"


def test_every_page_in_docs_is_in_the_sidebar():
    shown = {name for names in docs_src.sidebar().values() for name in names}
    assert {p.stem for p in (nbs.ROOT / "docs").glob("*.md")} <= shown
    assert all((nbs.ROOT / "docs" / f"{name}.md").exists() for name in docs_src.FIGURES)


FILLED = [p for p in (nbs.ROOT / "docs").glob("*.md") if docs_src.FILL in p.read_text("utf-8")]


@pytest.mark.parametrize("path", FILLED, ids=lambda p: p.name)
def test_a_page_that_is_made_of_the_code_says_so_to_whoever_opens_it_in_the_repository(path):
    word = path.read_text("utf-8").partition(docs_src.FILL)[2]
    assert "`make docs` fills it in" in word and f"_build/html/{path.stem}.html" in word
