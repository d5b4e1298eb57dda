"""HTML pages of executed notebooks, and an index of a run.

The pages load nothing from a network and run no script: equations become MathML, which browsers
draw and screen readers speak; figures keep the alt text of their metadata.
"""

from __future__ import annotations

import base64
import html
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import latex2mathml.converter
import nbformat
from jinja2 import pass_context
from nbconvert import HTMLExporter
from nbconvert.filters.markdown_mistune import IPythonRenderer, MarkdownWithMath

from ldf_utils.data.files import atomic_path, write_text
from ldf_utils.notebook.run_record import read_metrics

if TYPE_CHECKING:
    from tools.notebooks import Outcome

# nbconvert's classic template without the scripts it would fetch from a network.
_TEMPLATE = """
{%- extends 'index.html.j2' -%}
{%- block html_head_js -%}{%- endblock -%}
{%- block html_head_js_mathjax -%}{%- endblock -%}
{%- block html_head_css -%}
<style>
#notebook-container { padding: 1em 3em; max-width: 62em; box-shadow: none; }
.rendered_html img, .output_png img { max-width: 100%; height: auto; }
math[display=block] { margin: 0.8em 0; }
summary { display: list-item; cursor: pointer; font-weight: bold; }
nav { max-width: 62em; margin: 0 auto; padding: 0.6em 3em; font-family: sans-serif; }
</style>
{%- endblock -%}
"""

_INDEX_STYLE = """
body { font: 16px/1.5 sans-serif; max-width: 70em; margin: 2em auto; padding: 0 1em; color: #222; }
table { border-collapse: collapse; margin: 0.6em 0; }
th, td { text-align: left; padding: 0.25em 0.9em; border-bottom: 1px solid #ccc; }
td.number, th.number { text-align: right; font-variant-numeric: tabular-nums; }
.failed, .interrupted { color: #a00; font-weight: bold; }
.gallery { display: flex; flex-wrap: wrap; gap: 1em; }
.gallery figure { margin: 0; width: 20em; }
.gallery img { width: 100%; height: auto; border: 1px solid #ddd; }
td p { margin: 0; }
figcaption { font-size: 0.85em; color: #444; }
"""


def to_mathml(tex: str, display: str) -> str:
    """An equation as MathML; its TeX in a code element where it cannot be converted.

    Args:
        tex: the source, without dollar signs.
        display: "inline" or "block".
    """
    try:
        return latex2mathml.converter.convert(tex.strip(), display=display)
    except Exception:  # the converter raises many kinds; the reader still gets the equation
        return f"<code>{html.escape(tex.strip())}</code>"


def markdown_to_html(source: str) -> str:
    """Markdown as HTML, its equations as MathML."""
    return MarkdownWithMath(renderer=_Renderer(escape=False)).render(source)


class _Renderer(IPythonRenderer):
    """Markdown to HTML with equations as MathML."""

    def block_math(self, body: str) -> str:
        return to_mathml(body, "block")

    def inline_math(self, body: str) -> str:
        return to_mathml(body, "inline")

    def latex_environment(self, name: str, body: str) -> str:
        return to_mathml(rf"\begin{{{name}}}{body}\end{{{name}}}", "block")


class PageExporter(HTMLExporter):
    """nbconvert's classic pages with MathML, without scripts and without a network."""

    def __init__(self, **kwargs: Any):
        super().__init__(template_name="classic", **kwargs)
        self.raw_template = _TEMPLATE

    @pass_context
    def markdown2html(self, context, source):
        """As nbconvert's filter of that name, with our renderer."""
        cell = context.get("cell", {})
        renderer = _Renderer(
            escape=False,
            attachments=cell.get("attachments", {}),
            anchor_link_text=self.anchor_link_text,
        )
        return MarkdownWithMath(renderer=renderer).render(source)


def title_and_promise(notebook: nbformat.NotebookNode) -> tuple[str, str]:
    """The heading of the first cell (plain) and the first paragraph under it (Markdown)."""
    source = next((c.source for c in notebook.cells if c.cell_type == "markdown"), "")
    title = re.search(r"^# +(.+)$", source, flags=re.MULTILINE)
    paragraphs = [p.strip() for p in source.split("\n\n")]
    promise = next((p for p in paragraphs if p and not p.startswith(("#", "[!", "!["))), "")
    return (title[1].strip() if title else "Untitled"), promise


def figures(notebook: nbformat.NotebookNode) -> list[tuple[bytes, str, str]]:
    """The figures of a notebook: PNG, title (the plain text of the output), alt text."""
    found = []
    for cell in notebook.cells:
        for output in cell.get("outputs", []):
            data = output.get("data", {})
            if "image/png" in data:
                alt = output.metadata.get("image/png", {}).get("alt", "")
                png = base64.b64decode(data["image/png"])
                found.append((png, str(data.get("text/plain", "")), alt))
    return found


def write_page(path: Path, names: Sequence[str]) -> Path:
    """Write the HTML page of an executed notebook beside it.

    Args:
        path: the notebook.
        names: the stems of all notebooks of the run, for the links to the next and the previous.

    Returns:
        The page.
    """
    notebook = nbformat.read(path, as_version=4)
    title, _ = title_and_promise(notebook)
    notebook.metadata["title"] = title
    body, _ = PageExporter().from_notebook_node(notebook)
    links = ['<a href="index.html">All notebooks</a>']
    at = names.index(path.stem)
    if at > 0:
        links.append(f'<a href="{names[at - 1]}.html">Previous: {names[at - 1]}</a>')
    if at + 1 < len(names):
        links.append(f'<a href="{names[at + 1]}.html">Next: {names[at + 1]}</a>')
    nav = "<nav>" + " · ".join(links) + "</nav>"
    body = re.sub(r"(<body[^>]*>)", lambda m: m[1] + nav, body, count=1)
    return write_text(path.with_suffix(".html"), body)


def _metric_tables(metrics: Mapping[str, Any]) -> str:
    """Plain numbers as one table; each mapping of names as a table of its own."""
    parts = []
    plain = {k: v for k, v in metrics.items() if not isinstance(v, Mapping)}
    if plain:
        parts.append(_table(["", "value"], [[k, v] for k, v in plain.items()]))
    for name, inner in metrics.items():
        if not isinstance(inner, Mapping):
            continue
        rows = {k: v if isinstance(v, Mapping) else {"value": v} for k, v in inner.items()}
        columns = list(dict.fromkeys(c for row in rows.values() for c in row))
        body = [[k, *(row.get(c, "") for c in columns)] for k, row in rows.items()]
        parts.append(f"<h4>{html.escape(name)}</h4>" + _table(["", *columns], body))
    return "".join(parts)


def _table(head: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    def cell(value: Any, tag: str) -> str:
        number = isinstance(value, (int, float)) and not isinstance(value, bool)
        text = f"{value:.4g}" if isinstance(value, float) else str(value)
        return f"<{tag}{' class=number' if number else ''}>{html.escape(text)}</{tag}>"

    lines = ["<tr>" + "".join(f"<th>{html.escape(str(h))}</th>" for h in head) + "</tr>"]
    lines += ["<tr>" + "".join(cell(value, "td") for value in row) + "</tr>" for row in rows]
    return "<table>" + "\n".join(lines) + "</table>"


def _picture(path: str, alt: str, caption: str) -> str:
    return (
        f'<figure><a href="{html.escape(path)}"><img loading="lazy" src="{html.escape(path)}" '
        f'alt="{html.escape(alt)}"></a><figcaption>{html.escape(caption)}</figcaption></figure>'
    )


def fused_samples(folder: Path, most: int = 12) -> list[Path]:
    """Some of the fused pictures of a run, taken in turn from each folder under ``fused/``."""
    by_folder: dict[Path, list[Path]] = {}
    for path in sorted((folder / "fused").rglob("*.png")):
        by_folder.setdefault(path.parent, []).append(path)
    turns = max((len(paths) for paths in by_folder.values()), default=0)
    chosen = [paths[i] for i in range(turns) for paths in by_folder.values() if i < len(paths)]
    return sorted(chosen[:most])


def write_index(folder: Path, outcomes: Sequence[Outcome]) -> Path:
    """Write ``index.html`` of a run: the pages, the figures, fused pictures, the metrics.

    Args:
        folder: the folder of the run; the figures are written under ``figures/``.
        outcomes: what became of the notebooks so far.

    Returns:
        The page.
    """
    records = read_metrics(folder)
    rows, gallery, numbers = [], [], []
    for outcome in outcomes:
        path = folder / f"{outcome.name}.ipynb"
        title, promise, shown = outcome.name, "", []
        if path.is_file():
            notebook = nbformat.read(path, as_version=4)
            title, promise = title_and_promise(notebook)
            shown = figures(notebook)
        link = f'<a href="{outcome.name}.html">{html.escape(title)}</a>'
        state = html.escape(outcome.status + (f" — {outcome.error}" if outcome.error else ""))
        rows.append(
            f"<tr><td>{link}<small>{markdown_to_html(promise)}</small></td>"
            f'<td class="number">{outcome.seconds / 60:.1f}</td>'
            f'<td class="number">{outcome.peak_memory_mb:.0f}</td>'
            f'<td class="number">{outcome.cells_run} of {outcome.cells}</td>'
            f'<td class="{outcome.status}">{state}</td></tr>'
        )
        pictures = []
        for i, (png, finding, alt) in enumerate(shown, start=1):
            name = f"figures/{outcome.name}-{i}.png"
            with atomic_path(folder / name) as temporary:
                temporary.write_bytes(png)
            pictures.append(_picture(name, alt, finding))
        if pictures:
            gallery.append(
                f'<h3>{html.escape(title)}</h3><div class="gallery">{"".join(pictures)}</div>'
            )
        if metrics := records.get(outcome.name, {}).get("metrics"):
            numbers.append(f"<h3>{html.escape(title)}</h3>{_metric_tables(metrics)}")
    fused = [
        _picture(
            path.relative_to(folder).as_posix(),
            f"Fused picture {path.stem} of {path.parent.name}",
            path.relative_to(folder / "fused").with_suffix("").as_posix(),
        )
        for path in fused_samples(folder)
    ]
    sections = [
        "<h2>Notebooks</h2><table><tr><th>Notebook</th><th class=number>Minutes</th>"
        "<th class=number>Peak memory, MB</th><th class=number>Cells</th><th>State</th></tr>"
        + "\n".join(rows)
        + "</table>"
    ]
    if fused:
        sections.append(f'<h2>Fused pictures</h2><div class="gallery">{"".join(fused)}</div>')
    if numbers:
        sections.append(
            '<h2>Metrics</h2><p>Also in <a href="metrics.json">metrics.json</a>.</p>'
            + "\n".join(numbers)
        )
    if gallery:
        sections.append("<h2>Figures</h2>" + "\n".join(gallery))
    return write_text(
        folder / "index.html",
        '<!DOCTYPE html>\n<html lang="en">\n<head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        "<title>Language-driven image fusion: a run of the tutorial</title>"
        f"<style>{_INDEX_STYLE}</style></head>\n<body>\n"
        "<h1>Language-driven infrared and visible image fusion</h1>\n"
        "<p>What one run of the tutorial has left: a page of each notebook, the fused pictures "
        "and the numbers.</p>\n" + "\n".join(sections) + "\n</body>\n</html>\n",
    )
