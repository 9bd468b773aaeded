"""HTML that is read by keyboard and by ear too: what Sphinx and Furo leave out, added where each tag is written."""
import re
from functools import cache
from types import SimpleNamespace

from docutils import nodes
from sphinx.addnodes import toctree
from sphinx.environment.adapters.toctree import global_toctree_for_doc
from sphinx.writers.html5 import HTML5Translator

SCROLLS = {"table-wrapper", "math-wrapper", "cell_output"}  # boxes with a scroll bar of their own
LIST_TAGS = re.compile(r"^<(/?)d[ld]\b")  # how Sphinx opens and closes a signature's lines


def reached(html: str) -> str:
    "Code that a keyboard reaches, since it may scroll."
    return html.replace("<pre>", '<pre tabindex="0">')


class ReadableTranslator(HTML5Translator):
    "Sphinx' own writer of HTML, with what axe-core asks for besides."

    def starttag(self, node, tagname, suffix="\n", empty=False, **attributes):
        "What may scroll can have the focus; a caption of the sidebar is a heading of the second level."
        if isinstance(node, nodes.Element) and SCROLLS & set(node["classes"]): attributes["tabindex"] = 0
        if attributes.get("ROLE") == "heading": attributes["aria-level"] = 2
        return super().starttag(node, tagname, suffix, empty, **attributes)

    def visit_entry(self, node):
        "An empty corner of a table heads nothing: it is a cell."
        super().visit_entry(node)
        if self.context[-1] == "</th>\n" and not node.astext().strip():
            self.body[-1] = self.body[-1].replace("<th", "<td", 1)
            self.context[-1] = "</td>\n"

    def visit_Text(self, node):
        "Between a parameter and its words Sphinx puts two hyphens, for its smart quotes to make a dash of."
        if node.astext() == " -- ": self.body.append(" \N{EN DASH} ")
        else: super().visit_Text(node)

    def visit_literal_block(self, node):
        start = len(self.body)
        try: super().visit_literal_block(node)
        finally: self.body[start:] = map(reached, self.body[start:])

    def visit_desc_parameterlist(self, node):
        self.signature_start = len(self.body)
        super().visit_desc_parameterlist(node)

    def depart_desc_parameterlist(self, node):
        "Parameters one a line are plain boxes: a list of definitions without terms is none."
        super().depart_desc_parameterlist(node)
        if not node.get("multi_line_parameter_list"): return
        lines = [LIST_TAGS.sub(r"<\1div", tag) for tag in self.body[self.signature_start:]]
        self.body[self.signature_start:] = ['<div class="sig-lines">\n' if tag == "<div>\n" else tag for tag in lines]


def source_pages(app, pagename, templatename, context, doctree):
    "The pages of source code have no nodes: viewcode writes their body as a whole."
    if pagename.startswith("_modules/"): context["body"] = reached(context["body"])


def title_alone(toc: nodes.Element) -> nodes.Element:
    "A page's table of contents without its headings; the pages below it stay."
    toc = toc.deepcopy()
    for item in toc.children:
        if len(item) > 1: item[1][:] = list(item.findall(toctree))
    return toc


@cache
def titles(env) -> SimpleNamespace:
    "What the sidebar is made of, once for all pages: Sphinx copies every heading of every page for each."
    kept = {name: getattr(env, name) for name in ("master_doctree", "toctree_includes", "config", "metadata", "titles")}
    return SimpleNamespace(tocs={name: title_alone(toc) for name, toc in env.tocs.items()}, **kept)


def sidebar(app, pagename, templatename, context, doctree):
    "Furo asks for the titles of all pages, in each of them."
    def drawn(**options) -> str:
        tree = global_toctree_for_doc(titles(app.env), pagename, app.builder, tags=app.tags, **options)
        return app.builder.render_partial(tree)["fragment"]
    context["toctree"] = drawn


def setup(app):
    app.set_translator("html", ReadableTranslator)
    app.connect("html-page-context", source_pages)
    app.connect("html-page-context", sidebar, priority=100)  # before Furo
    return {"parallel_read_safe": True, "parallel_write_safe": True}
