"""The index page of a run: its notebooks, fused images, metrics and figures."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jinja2
import pandas as pd
from nbformat import NotebookNode

from ldf_utils.data.files import atomic_path, write_text
from ldf_utils.notebook.run_record import read_metrics
from tools.equations import style
from tools.notebook_files import read_notebook
from tools.pages import link_pages, markdown_to_html, title_and_promise
from tools.runner import Outcome


def figures(notebook: NotebookNode) -> list[tuple[bytes, str, str]]:
    """List the figures of a notebook: PNG, title (the plain text of the output), alt text."""
    found = []
    for cell in notebook.cells:
        for output in cell.get("outputs", []):
            data = output.get("data", {})
            if "image/png" in data:
                alt = output.metadata.get("image/png", {}).get("alt", "")
                png = base64.b64decode(data["image/png"])
                found.append((png, str(data.get("text/plain", "")), alt))
    return found


def fused_samples(folder: Path, most: int = 12) -> list[Path]:
    """List some of the fused images of a run, taken in turn from each folder under ``fused/``."""
    by_folder: dict[Path, list[Path]] = {}
    for path in sorted((folder / "fused").rglob("*.png")):
        by_folder.setdefault(path.parent, []).append(path)
    turns = max((len(paths) for paths in by_folder.values()), default=0)
    chosen = [paths[i] for i in range(turns) for paths in by_folder.values() if i < len(paths)]
    return sorted(chosen[:most])


def metric_tables(metrics: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Return heading and HTML table of the plain numbers, and of each mapping of names.

    Args:
        metrics: name to number or text, to a mapping of those, or to a mapping of mappings.
    """
    plain = {k: v for k, v in metrics.items() if not isinstance(v, Mapping)}
    groups: dict[str, Mapping[str, Any]] = {"": plain} if plain else {}
    groups |= {name: inner for name, inner in metrics.items() if isinstance(inner, Mapping)}
    tables = []
    for name, group in groups.items():
        rows = [v if isinstance(v, Mapping) else {"value": v} for v in group.values()]
        table = pd.DataFrame([dict(row) for row in rows], index=list(group), dtype=object)
        text = table.map(lambda v: f"{v:.4g}" if isinstance(v, float) else str(v))
        tables.append((name, text.where(table.notna(), "").to_html(border=0)))
    return tables


def write_index(folder: Path, outcomes: Sequence[Outcome]) -> Path:
    """Write ``index.html`` of a run.

    Args:
        folder: the folder of the run; the figures are written under ``figures/``.
        outcomes: how the notebooks ended so far.

    Returns:
        The page.
    """
    records = read_metrics(folder)
    notebooks = []
    for outcome in outcomes:
        path = folder / f"{outcome.name}.ipynb"
        notebook = read_notebook(path) if path.is_file() else NotebookNode(cells=[])
        title, promise = title_and_promise(notebook) if path.is_file() else (outcome.name, "")
        pictures = []
        for i, (png, finding, alt) in enumerate(figures(notebook), start=1):
            name = f"figures/{outcome.name}-{i}.png"
            with atomic_path(folder / name) as temporary:
                temporary.write_bytes(png)
            pictures.append({"path": name, "alt": alt, "caption": finding})
        notebooks.append(
            {
                "outcome": outcome,
                "page": path.with_suffix(".html").is_file(),
                "title": title,
                "promise": markdown_to_html(promise),
                "pictures": pictures,
                "tables": metric_tables(records.get(outcome.name, {}).get("metrics", {})),
            }
        )
    fused = [
        {
            "path": path.relative_to(folder).as_posix(),
            "alt": f"Fused image {path.stem} of {path.parent.name}",
            "caption": path.relative_to(folder / "fused").with_suffix("").as_posix(),
        }
        for path in fused_samples(folder)
    ]
    template = Path(__file__).with_suffix(".html.j2").read_text(encoding="utf-8")
    page = jinja2.Template(template, autoescape=True, trim_blocks=True, lstrip_blocks=True)
    body = page.render(notebooks=notebooks, fused=fused, katex=style())
    names = [outcome.name for outcome in outcomes]
    return write_text(folder / "index.html", link_pages(body, names))
