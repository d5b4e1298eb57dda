"""What a reader sees in a browser: pages that everyone can read, notebooks that run in JupyterLab.

By default one notebook runs in JupyterLab; ``LDF_BROWSER_NOTEBOOKS=all`` runs every one.
"""

import os
import re
import shutil

import pytest
from browser_helpers import (
    QUIET,
    chromium,
    copy_interactive,
    errors_of,
    jupyterlab,
    move_all,
    run_all,
    violations,
)

from tools import pages, site
from tools.notebook_files import NOTEBOOKS, find_notebooks
from tools.run_index import write_index
from tools.runner import Outcome

pytestmark = pytest.mark.slow
STEMS = [path.stem for path in find_notebooks(NOTEBOOKS)]
CHOSEN = os.environ.get("LDF_BROWSER_NOTEBOOKS", "00")


def test_the_pages_meet_wcag_2_2_aa(tmp_path):
    with chromium() as browser:
        for stem in STEMS:
            shutil.copy(NOTEBOOKS / f"{stem}.ipynb", tmp_path)
            pages.write_page(tmp_path / f"{stem}.ipynb", STEMS)
        write_index(tmp_path, [Outcome(stem, "done", 3, 3, 60.0, 900.0) for stem in STEMS])
        found = {}
        for stem in [*STEMS, "index"]:
            page = browser.new_page()
            errors = errors_of(page)
            page.goto((tmp_path / f"{stem}.html").as_uri())
            found[stem] = violations(page) + errors
            page.close()
    assert not any(found.values()), {k: v for k, v in found.items() if v}


def test_the_site_leads_to_its_pages_and_to_the_published_files(tmp_path):
    written = site.write_site(tmp_path)
    assert [p.stem for p in written] == [*STEMS, "index"]
    for page in written:
        text = page.read_text(encoding="utf-8")
        for address in re.findall(r'href="([^"#]+)', text):
            here = (tmp_path / address).is_file()
            published = address.startswith(("https://", "http://"))
            assert here or published, f"{page.name} leads to {address}"
    assert not list(tmp_path.glob("*.ipynb"))


@pytest.mark.parametrize(
    "stem", [s for s in STEMS if CHOSEN == "all" or s.startswith(tuple(CHOSEN.split(",")))]
)
def test_a_notebook_runs_in_jupyterlab_and_its_widgets_change_the_picture(stem, tmp_path):
    copy_interactive(stem, tmp_path)
    with chromium() as browser, jupyterlab(tmp_path) as address:
        page = browser.new_page(viewport={"width": 1400, "height": 1000})
        errors = errors_of(page)
        cells = run_all(page, address, stem)
        assert not [error for cell in cells for error in cell["errors"]]
        assert all(cell["count"] for cell in cells), "not every cell was run"
        widgets, still = move_all(page)
        page.screenshot(path=str(tmp_path / f"{stem}.png"))
        assert widgets >= 1
        assert not still, "widgets that changed no picture"
        assert [e for e in errors if not QUIET.search(e)] == []
