"""The notebooks as files: find them, look into them, clean them, write them."""

from __future__ import annotations

import ast
import hashlib
import re
from collections.abc import Sequence
from pathlib import Path

import nbformat
from nbformat import NotebookNode
from papermill.execute import remove_error_markers

from ldf_utils.data.files import atomic_path

ROOT = Path(__file__).resolve().parent.parent
NOTEBOOKS = ROOT / "notebooks"
WIDGET_VIEW = "application/vnd.jupyter.widget-view+json"

STAMP = "executed_sources_sha256"
"""The metadata entry of a committed notebook that says which code its outputs come from."""


class NotebookError(ValueError):
    """A notebook or a folder is not as expected; the text says what to do."""


def find_notebooks(folder: Path, only: Sequence[str] = ()) -> list[Path]:
    """List the notebooks of a folder in their order, or those whose names start as given.

    Raises:
        NotebookError: if there is none, or none that starts so.
    """
    paths = sorted(path for path in folder.glob("*.ipynb") if path.name[0].isdigit())
    if not paths:
        raise NotebookError(f"{folder}: found no notebook, expected NN_name.ipynb")
    missing = [start for start in only if not any(p.name.startswith(start) for p in paths)]
    if missing:
        raise NotebookError(
            f"{folder}: no notebook starts with {missing}; there are {[p.stem for p in paths]}"
        )
    return [path for path in paths if not only or path.name.startswith(tuple(only))]


def read_notebook(path: Path) -> NotebookNode:
    """Read a notebook in the current format."""
    return nbformat.read(path, as_version=4)


def write_notebook(notebook: NotebookNode, path: Path) -> None:
    """Write a notebook, atomically."""
    with atomic_path(path) as temporary:
        nbformat.write(notebook, temporary)


def code_cells(notebook: NotebookNode) -> list[NotebookNode]:
    """List the code cells that hold code, in order."""
    return [c for c in notebook.cells if c.cell_type == "code" and c.source.strip()]


def tagged(notebook: NotebookNode, tag: str) -> list[NotebookNode]:
    """List the cells with this tag, in order."""
    return [cell for cell in notebook.cells if tag in cell.metadata.get("tags", [])]


def declared_parameters(notebook: NotebookNode, name: str = "notebook") -> list[str]:
    """List the names assigned in the cell tagged ``parameters``.

    Raises:
        NotebookError: unless there is exactly one such cell.
    """
    cells = tagged(notebook, "parameters")
    if len(cells) != 1:
        raise NotebookError(
            f"{name}: found {len(cells)} cells tagged 'parameters', expected one; tag the cell "
            "that assigns the defaults (without it papermill silently passes nothing)"
        )
    names = []
    for statement in ast.parse(cells[0].source).body:
        if isinstance(statement, ast.Assign):
            names += [target.id for target in statement.targets if isinstance(target, ast.Name)]
        elif isinstance(statement, ast.AnnAssign) and isinstance(statement.target, ast.Name):
            names.append(statement.target.id)
    return names


def heading_above(notebook: NotebookNode, cell: NotebookNode) -> str:
    """Return the nearest heading above a cell, or the cell's first line where there is none."""
    heading = ""
    for other in notebook.cells:
        if other is cell:
            break
        if other.cell_type == "markdown":
            found = re.findall(r"^#{1,4} +(.+?) *#*$", other.source, flags=re.MULTILINE)
            heading = found[-1] if found else heading
    return heading or cell.source.strip().splitlines()[0][:60]


def clean(notebook: NotebookNode) -> NotebookNode:
    """Remove, in place, what viewers cannot show and what changes from run to run.

    Widget views and state (GitHub refuses to show them), papermill's records and cell timings are
    removed, and the kernel gets its plain name.
    """
    notebook = remove_error_markers(notebook)
    for key in ("widgets", "papermill"):
        notebook.metadata.pop(key, None)
    notebook.metadata["kernelspec"] = {
        "display_name": "Python 3",
        "language": "python",
        "name": "python3",
    }
    notebook.metadata["language_info"] = {"name": "python", "file_extension": ".py"}
    for cell in notebook.cells:
        for key in ("papermill", "execution"):
            cell.metadata.pop(key, None)
        if not cell.metadata.get("tags", True):
            del cell.metadata["tags"]
        if cell.cell_type == "code":
            cell.outputs = [o for o in cell.outputs if WIDGET_VIEW not in o.get("data", {})]
    return notebook


def sources_hash(notebook: NotebookNode) -> str:
    """Return the SHA-256 of a notebook's code, which its outputs belong to."""
    sources = "\0".join(cell.source for cell in notebook.cells if cell.cell_type == "code")
    return hashlib.sha256(sources.encode()).hexdigest()
