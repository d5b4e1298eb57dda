"""The site: a page of every committed notebook with its outputs, and an index.

    python -m tools.site FOLDER

Nothing is executed; the pages show what is committed. Links to other files of the repository lead
to where it is published. A workflow publishes the folder on GitHub Pages.
"""

from __future__ import annotations

import argparse
import re
import shutil
from collections.abc import Sequence
from pathlib import Path

import jinja2

from ldf_utils.data.cli import run_command
from ldf_utils.data.files import write_text
from tools.cells import live_addresses, repository
from tools.equations import style
from tools.notebook_files import NOTEBOOKS, ROOT, find_notebooks, read_notebook
from tools.pages import link_pages, markdown_to_html, title_and_promise, write_page

_TEASER = ROOT / "docs" / "teaser.png"
_COURSE = 6
"""Notebooks 00 to 05 are the course; the others go further."""


def _link_files(body: str) -> str:
    """Let links to files of the repository lead to where it is published."""
    return re.sub(
        r'href="(?:\.\./)+([^"#]+)',
        lambda match: f'href="{repository()}/blob/main/{match[1]}',
        body,
    )


def write_site(folder: Path) -> list[Path]:
    """Write the site.

    Args:
        folder: is made if it does not exist; files of the same names are replaced.

    Returns:
        The pages, the index last.

    Raises:
        NotebookError: if there is no notebook.
    """
    paths = find_notebooks(NOTEBOOKS)
    names = [path.stem for path in paths]
    folder.mkdir(parents=True, exist_ok=True)
    written, rows = [], []
    for path in paths:
        shutil.copyfile(path, folder / path.name)
        page = write_page(folder / path.name, names)
        write_text(page, _link_files(page.read_text(encoding="utf-8")))
        (folder / path.name).unlink()
        title, promise = title_and_promise(read_notebook(path))
        colab, binder = live_addresses(path.name)
        rows.append(
            {
                "page": page.name,
                "title": title,
                "promise": markdown_to_html(promise),
                "colab": colab,
                "binder": binder,
                "course": int(path.stem[:2]) < _COURSE,
            }
        )
        written.append(page)
    shutil.copyfile(_TEASER, folder / _TEASER.name)
    template = Path(__file__).with_suffix(".html.j2").read_text(encoding="utf-8")
    index = jinja2.Template(template, autoescape=True, trim_blocks=True, lstrip_blocks=True)
    body = index.render(rows=rows, repository=repository(), katex=style())
    written.append(write_text(folder / "index.html", _link_files(link_pages(body, names))))
    return written


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m tools.site",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("folder", type=Path, help="folder to write")
    written = write_site(parser.parse_args(argv).folder)
    print(f"{len(written)} pages; open {written[-1]}")
    return 0


if __name__ == "__main__":
    run_command(main)
