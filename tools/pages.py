"""HTML pages of executed notebooks.

The pages load nothing from a network and run no script: equations are rendered by KaTeX while the
page is written, figures are inside and keep the alt text of their metadata, and links to other
notebooks lead to their pages.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from jinja2 import pass_context
from nbconvert import HTMLExporter
from nbconvert.filters.markdown_mistune import IPythonRenderer, MarkdownWithMath
from nbformat import NotebookNode
from pygments.formatters import HtmlFormatter

from ldf_utils.data.files import write_text
from tools.equations import render_equation, style
from tools.notebook_files import read_notebook

# nbconvert's classic template without the scripts it would fetch from a network. Code keeps its
# lines and scrolls sideways, where Bootstrap would break it within words.
_TEMPLATE = """
{%- extends 'index.html.j2' -%}
{%- block html_head_js -%}{%- endblock -%}
{%- block html_head_js_mathjax -%}{%- endblock -%}
{%- block html_head_css -%}
<meta name="viewport" content="width=device-width, initial-scale=1">
<style>{{ resources.katex }}</style>
<style>{{ resources.code }}</style>
<style>
#notebook-container { padding: 1em 2em; max-width: 70em; width: auto; box-shadow: none; }
.rendered_html img, .output_png img { max-width: 100%; height: auto; }
div.input_area, div.output_subarea { overflow-x: auto; max-width: 100%; }
.highlight pre, .output_area pre, .rendered_html pre, .rendered_html pre code {
  white-space: pre; word-break: normal; overflow-wrap: normal; overflow-x: auto;
}
.output_area pre { white-space: pre-wrap; }
.highlight pre { font-size: 12.5px; }
.text_cell_render p, .text_cell_render li, .output_markdown p { max-width: 54em; }
a, .rendered_html a, .rendered_html a:visited { color: #1d5a94; }
.katex { font-size: 1.1em; }
.katex-display { overflow-x: auto; overflow-y: hidden; padding: 0.2em 0; }
summary { display: list-item; cursor: pointer; font-weight: bold; }
nav { max-width: 70em; margin: 0 auto; padding: 0.6em 2em; font-family: sans-serif; }
@media (max-width: 800px) {
  #notebook-container, nav { padding-left: 1em; padding-right: 1em; }
  div.input, div.output_area { flex-direction: column; }
  .prompt { text-align: left; padding: 0; min-width: 0; }
}
</style>
{%- endblock -%}
"""


# The one light style of Pygments whose colors all have a contrast of at least 4.5 on light gray.
_CODE_STYLE = HtmlFormatter(style="xcode").get_style_defs(".highlight")


def markdown_to_html(source: str, **options: Any) -> str:
    """Convert Markdown with equations to HTML; the options are those of nbconvert's renderer."""
    return MarkdownWithMath(renderer=_Renderer(escape=False, **options)).render(source)


class _Renderer(IPythonRenderer):
    """Markdown to HTML with rendered equations."""

    def block_math(self, body: str) -> str:
        return render_equation(body, display=True)

    def inline_math(self, body: str) -> str:
        return render_equation(body, display=False)

    def latex_environment(self, name: str, body: str) -> str:
        return render_equation(rf"\begin{{{name}}}{body}\end{{{name}}}", display=True)


class PageExporter(HTMLExporter):
    """nbconvert's classic pages with rendered equations, without scripts and without a network."""

    def __init__(self, **kwargs: Any):
        super().__init__(template_name="classic", **kwargs)
        self.raw_template = _TEMPLATE

    @pass_context
    def markdown2html(self, context: Any, source: str) -> str:
        """Convert Markdown as nbconvert's filter of that name does, with our renderer."""
        return markdown_to_html(
            source,
            attachments=context.get("cell", {}).get("attachments", {}),
            anchor_link_text=self.anchor_link_text,
        )


def title_and_promise(notebook: NotebookNode) -> tuple[str, str]:
    """Return the heading of the first cell (plain) and the first paragraph under it (Markdown)."""
    source = next((c.source for c in notebook.cells if c.cell_type == "markdown"), "")
    title = re.search(r"^# +(.+)$", source, flags=re.MULTILINE)
    paragraphs = [p.strip() for p in source.split("\n\n")]
    promise = next((p for p in paragraphs if p and not p.startswith(("#", "[!", "!["))), "")
    return (title[1].strip() if title else "Untitled"), promise.strip("*")


def link_pages(body: str, names: Sequence[str]) -> str:
    """Let links to notebooks lead to their pages; a link to a notebook without one becomes text.

    Args:
        body: HTML.
        names: the stems of the notebooks that have pages.
    """

    def link(match: re.Match[str]) -> str:
        start, name, fragment, end, text = match.groups()
        return f"{start}{name}.html{fragment or ''}{end}{text}</a>" if name in names else text

    return re.sub(
        r'(<a [^>]*href=")(?:\./)?([\w-]+)\.ipynb(#[^"]*)?("[^>]*>)(.*?)</a>',
        link,
        body,
        flags=re.DOTALL,
    )


def write_page(path: Path, names: Sequence[str]) -> Path:
    """Write the HTML page of an executed notebook beside it.

    Args:
        path: the notebook.
        names: the stems of all notebooks of the run, for the links to the next and the previous.

    Returns:
        The page.
    """
    notebook = read_notebook(path)
    notebook.metadata["title"], _ = title_and_promise(notebook)
    # Badges open the notebook elsewhere, and are pictures from a network.
    notebook.cells = [c for c in notebook.cells if "badges" not in c.metadata.get("tags", [])]
    resources = {"katex": style(), "code": _CODE_STYLE}
    body, _ = PageExporter().from_notebook_node(notebook, resources=resources)
    at = names.index(path.stem)
    links = ['<a href="index.html">All notebooks</a>']
    if at > 0:
        links.append(f'<a href="{names[at - 1]}.html">Previous: {names[at - 1]}</a>')
    if at + 1 < len(names):
        links.append(f'<a href="{names[at + 1]}.html">Next: {names[at + 1]}</a>')
    nav = "<nav>" + " · ".join(links) + "</nav>"
    body = re.sub(r"(<body[^>]*>)", lambda m: m[1] + nav, body, count=1)
    # Icon fonts that the classic template declares in vain: they lie in no folder of ours.
    body = re.sub(r"@font-face\s*\{[^}]*url\(['\"]?\.\./[^}]*\}", "", body)
    # What can be scrolled sideways can be reached by keyboard.
    body = re.sub(r"<pre(?=[ >])(?![^>]*tabindex)", '<pre tabindex="0"', body)
    others = [page.stem for page in path.parent.glob("*.html")]
    return write_text(path.with_suffix(".html"), link_pages(body, [*names, *others]))
