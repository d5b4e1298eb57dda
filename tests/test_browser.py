"""What a reader sees in a browser: pages that everyone can read, notebooks that run in JupyterLab.

By default one notebook runs in JupyterLab; ``LDF_BROWSER_NOTEBOOKS=all`` runs every one.
"""

import os
import re
import shutil

import nbformat
import pytest
from browser_helpers import (
    QUIET,
    chromium,
    copy_interactive,
    errors_of,
    jupyterlab,
    move_all,
    pictures,
    run_all,
    violations,
    wait_for_another_picture,
)

from tools import pages, site
from tools.notebook_files import NOTEBOOKS, find_notebooks, write_notebook
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


def test_the_prompt_studio_trains_and_stops_in_jupyterlab(tmp_path):
    code = [
        "from ldf_utils.clip.loading import load_clip",
        "from ldf_utils.data.sets import open_sets",
        "from ldf_utils.notebook.studio import PromptStudio",
        "pair = open_sets(split='train')['RenderedDay'][0]",
        "sources = pair.infrared[None], pair.luminance[None]",
        "PromptStudio(load_clip('mini'), sources, 'a dark image', seconds=600).show()",
    ]
    cell = nbformat.v4.new_code_cell("\n".join(code))
    notebook = nbformat.v4.new_notebook(cells=[cell])
    notebook.metadata.kernelspec = {"name": "python3", "display_name": "Python 3"}
    write_notebook(notebook, tmp_path / "studio.ipynb")
    with chromium() as browser, jupyterlab(tmp_path) as address:
        page = browser.new_page(viewport={"width": 1400, "height": 1000})
        errors = errors_of(page)
        assert not run_all(page, address, "studio")[0]["errors"]
        typed, trained, compared = page.locator(".jp-Notebook .widget-interact").all()
        assert len(pictures(typed)) == 2 and not pictures(trained) and len(pictures(compared)) == 1
        field = typed.locator("input")
        field.fill("a blury image")
        field.press("Enter")
        typed.get_by_text("Did you mean “a blurry image”?").wait_for(timeout=120_000)
        field.fill("a bright image")
        field.press("Enter")
        typed.locator("img").nth(1).wait_for(timeout=120_000)
        play, stop = trained.locator(".widget-play button").all()[:2]
        play.focus()
        play.press("Enter")
        trained.locator("img").wait_for(timeout=120_000)
        assert wait_for_another_picture(page, trained), "the training goes on"
        before = pictures(compared)
        stop.press("Enter")
        assert wait_for_another_picture(page, compared, before)
        chosen = compared.locator("select").nth(1).evaluate("e => e.selectedOptions[0].text")
        assert chosen == "retrained"
        page.screenshot(path=str(tmp_path / "studio.png"))
        assert [e for e in errors if not QUIET.search(e)] == []
