"""The generated cells of the notebooks: the badges, and the set-up for Colab and Binder.

Both name the published repository, whose address stands in ``pyproject.toml`` and nowhere else.

    python -m tools.cells           # write them into notebooks/*.ipynb
    python -m tools.cells --check   # list the notebooks that disagree; exit code 1
"""

from __future__ import annotations

import argparse
import sys
import tomllib
from collections.abc import Sequence
from pathlib import Path

import nbformat
from nbformat import NotebookNode

from ldf_utils.data.cli import run_command
from tools.notebook_files import (
    NOTEBOOKS,
    ROOT,
    STAMP,
    find_notebooks,
    read_notebook,
    sources_hash,
    tagged,
    write_notebook,
)

BADGES = "badges"
SETUP = "setup"

_SETUP = """\
# Set-up: does nothing outside of Colab and Binder. Colab gets what it lacks (torch and numpy stay);
# both get a few real pairs (15 MB), or without a network go on with the rendered ones.
import os
import sys

colab = "google.colab" in sys.modules
if colab:
    import importlib
    import subprocess

    pip = [sys.executable, "-m", "pip", "install", "-q", "--no-deps"]
    subprocess.run([*pip, "git+{address}"], check=True)
    importlib.invalidate_caches()
    from ldf_utils.notebook.colab import install_missing

    install_missing()  # asks for a restart of the session if that is needed
if colab or "BINDER_LAUNCH_HOST" in os.environ:
    from data_download import tour

    tour.use()
"""


def repository() -> str:
    """Return the address of the published repository, from ``pyproject.toml``."""
    with open(ROOT / "pyproject.toml", "rb") as file:
        return tomllib.load(file)["project"]["urls"]["Repository"].rstrip("/")


def live_addresses(name: str) -> tuple[str, str]:
    """Return the addresses at which Colab and Binder open a notebook.

    Args:
        name: the file name of the notebook.
    """
    owner_and_repo = repository().split("github.com/")[1]
    colab = f"https://colab.research.google.com/github/{owner_and_repo}/blob/main/notebooks/{name}"
    binder = f"https://mybinder.org/v2/gh/{owner_and_repo}/main?urlpath=lab/tree/notebooks/{name}"
    return colab, binder


def badges_source(name: str) -> str:
    """Return the Markdown of the badges cell.

    Args:
        name: the file name of the notebook.
    """
    colab, binder = live_addresses(name)
    return (
        "[![Open in Colab](https://colab.research.google.com/assets/colab-badge.svg)]"
        f"({colab}) "
        f"[![Open in Binder](https://mybinder.org/badge_logo.svg)]({binder})"
    )


def setup_source() -> str:
    """Return the code of the set-up cell."""
    return _SETUP.format(address=repository()).rstrip("\n")


def disagreements(notebook: NotebookNode, name: str) -> list[str]:
    """List what is wrong with the generated cells of a notebook.

    Args:
        notebook: the notebook.
        name: its file name.
    """
    problems = []
    for tag, kind, source in (
        (BADGES, "markdown", badges_source(name)),
        (SETUP, "code", setup_source()),
    ):
        cells = tagged(notebook, tag)
        if len(cells) != 1:
            problems.append(f"{name}: found {len(cells)} cells tagged {tag!r}, expected one")
        elif cells[0].cell_type != kind:
            problems.append(
                f"{name}: the cell tagged {tag!r} is {cells[0].cell_type}, expected {kind}"
            )
        elif cells[0].source != source:
            problems.append(f"{name}: the cell tagged {tag!r} is out of date")
    return problems


def update(notebook: NotebookNode, name: str) -> bool:
    """Put the generated cells in place: badges second, set-up before the parameters.

    Outputs that belonged to the code before belong to it afterwards: where they are made, the
    set-up cell does nothing.

    Args:
        notebook: the notebook, changed in place.
        name: its file name.

    Returns:
        Whether anything changed.
    """
    if not disagreements(notebook, name):
        return False
    current = notebook.metadata.get(STAMP) == sources_hash(notebook)
    for tag, cell, place in (
        (BADGES, nbformat.v4.new_markdown_cell(badges_source(name)), lambda: 1),
        (SETUP, nbformat.v4.new_code_cell(setup_source()), lambda: _parameters_index(notebook)),
    ):
        found = tagged(notebook, tag)
        if found and found[0].cell_type == cell.cell_type:
            found[0].source = cell.source
        else:
            notebook.cells = [c for c in notebook.cells if tag not in c.metadata.get("tags", [])]
            cell.metadata["tags"] = [tag]
            notebook.cells.insert(place(), cell)
    if current:
        notebook.metadata[STAMP] = sources_hash(notebook)
    return True


def _parameters_index(notebook: NotebookNode) -> int:
    return next(
        (i for i, c in enumerate(notebook.cells) if "parameters" in c.metadata.get("tags", [])),
        min(3, len(notebook.cells)),
    )


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; 0 if all notebooks agree (or were made to), 1 if one does not."""
    parser = argparse.ArgumentParser(prog="python -m tools.cells", description=__doc__)
    parser.add_argument(
        "--check", action="store_true", help="only list the notebooks that disagree"
    )
    parser.add_argument("--notebooks", type=Path, default=NOTEBOOKS, help="folder of notebooks")
    arguments = parser.parse_args(argv)
    problems = []
    for path in find_notebooks(arguments.notebooks):
        notebook = read_notebook(path)
        if arguments.check:
            problems += disagreements(notebook, path.name)
        elif update(notebook, path.name):
            write_notebook(notebook, path)
            print(f"{path.name}: cells written")
    for problem in problems:
        print(problem, file=sys.stderr)
    return 1 if problems else 0


if __name__ == "__main__":
    run_command(main)
