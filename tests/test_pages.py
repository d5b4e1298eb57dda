"""The pages of the committed notebooks: equations, links, alt texts, and a look in Chromium."""

import html
import json
import re
import shutil
import subprocess
from html.parser import HTMLParser

import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output

from tools import equations, pages
from tools.notebook_files import NOTEBOOKS, find_notebooks, read_notebook, write_notebook
from tools.run_index import metric_tables, write_index
from tools.runner import Outcome

pytestmark = pytest.mark.xdist_group("pages")  # they share the pages, which take a while to write

PATHS = find_notebooks(NOTEBOOKS)
CHROMIUM = next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome", "chrome"))),
    None,
)


class Page(HTMLParser):
    """What a page links to, loads, names, and shows as images."""

    def __init__(self, text):
        super().__init__()
        self.links, self.loads, self.names, self.images, self.tags = [], [], set(), [], set()
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        values = dict(attrs)
        self.tags.add(tag)
        self.names |= {values.get("id"), values.get("name")}
        if tag == "a" and "href" in values:
            self.links.append(values["href"])
        if tag == "img":
            self.images.append(values)
        self.loads += [values[key] for key in ("src", "data", "poster") if key in values]
        if tag == "link":
            self.loads.append(values.get("href", ""))


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A folder with the pages of all committed notebooks and the index."""
    folder = tmp_path_factory.mktemp("run")
    names = [path.stem for path in PATHS]
    for path in PATHS:
        shutil.copy(path, folder / path.name)
        pages.write_page(folder / path.name, names)
    (folder / "metrics.json").write_text(
        json.dumps({"00_start_here": {"metrics": {"EN": 6.5, "sets": {"TNO": {"SD": 30.25}}}}})
    )
    write_index(folder, [Outcome(name, "done", 3, 3, 60.0, 900.0) for name in names])
    return folder


@pytest.fixture(params=[*(path.stem for path in PATHS), "index"])
def text(request, run):
    return (run / f"{request.param}.html").read_text(encoding="utf-8")


def test_every_equation_is_rendered(text):
    assert text.count('<span class="katex">') >= ("<h2>Metrics</h2>" not in text)
    reasons = re.findall(r'class="katex-error" title="([^"]*)"', text)
    assert not reasons
    assert "<math" not in re.sub(r'<span class="katex-mathml">.*?</math>', "", text)


def test_every_link_leads_somewhere(text, run):
    page = Page(text)
    for link in page.links:
        file, _, fragment = link.partition("#")
        assert not file.endswith(".ipynb"), "a browser shows a notebook as raw JSON"
        if file.startswith(("https://", "http://")):
            continue
        target = page
        if file:
            assert (run / file).is_file(), f"{link} leads nowhere"
            target = Page((run / file).read_text(encoding="utf-8")) if fragment else page
        assert not fragment or fragment in target.names, f"{link} leads nowhere"


def test_nothing_is_fetched_and_no_script_runs(text, run):
    page = Page(text)
    assert "script" not in page.tags
    assert "@import" not in text
    for address in [*page.loads, *re.findall(r"url\(([^)]*)\)", text)]:
        address = address.strip("\"' ")
        assert address.startswith("data:") or (run / address).is_file(), address


def test_images_keep_their_alt_texts(run):
    for path in PATHS:
        figures = [
            output.metadata["image/png"]["alt"]
            for cell in read_notebook(path).cells
            for output in cell.get("outputs", [])
            if "image/png" in output.get("data", {})
        ]
        shown = [image.get("alt") for image in Page(path_of(run, path).read_text()).images]
        assert [alt for alt in shown if alt in figures] == figures
        assert all(shown), "an image without an alt text"


def path_of(run, path):
    return run / f"{path.stem}.html"


def test_captions_are_shown(run):
    for path in PATHS:
        text = html.unescape(path_of(run, path).read_text(encoding="utf-8"))
        for cell in read_notebook(path).cells:
            for output in cell.get("outputs", []):
                caption = output.get("data", {}).get("text/markdown", "")
                if caption.startswith("*") and not set("$`[_\\<") & set(caption):
                    assert f"<em>{caption[1:-1]}</em>" in text


@pytest.mark.parametrize(
    ("tex", "part"),
    [
        (r"\tilde{V}_f", "accent"),
        (r"Z \setminus W", "∖"),
        (r"\overline{(\partial_h F)^2}", "overline-line"),
        (r"\begin{cases} a & t < W \\[2ex] b & t \ge W \end{cases}", "delimsizing"),
        (r"\tfrac12\bigl[1 - \cos(a, b)\bigr]", "size1"),
        (r"\begin{aligned} a &= b \\ c &= d \end{aligned}", "col-align-r"),
        (r"\sum_{i=1}^{n} \lVert x_i \rVert^2 \in [0, 1]", "op-limits"),
    ],
)
@pytest.mark.parametrize("display", [True, False])
def test_an_equation(tex, part, display):
    rendered = equations.render_equation(tex, display)
    assert equations.ERROR_CLASS not in rendered
    assert part in rendered or (part, display) == ("op-limits", False)
    assert ("katex-display" in rendered) == display
    visible = re.sub(r"<annotation.*?</annotation>", "", rendered)
    assert "2ex" not in re.sub(r"<[^>]*>", "", visible) and "\\" not in visible
    assert "<math" in rendered, "for screen readers"


def test_an_equation_that_cannot_be_read_is_shown_as_tex_with_the_reason():
    for tex, reason in (
        (r"a < \nonsense{b}", "Undefined control sequence"),
        (r"\frac{a", "end of"),
    ):
        rendered = equations.render_equation(tex, display=False)
        assert f'class="{equations.ERROR_CLASS}"' in rendered and reason in rendered
        assert rendered.endswith(f">{html.escape(tex)}</code>")


def test_the_style_sheet_holds_its_fonts():
    style = equations.style()
    assert style.count("data:font/woff2;base64,") == len(list(equations.KATEX.rglob("*.woff2")))
    assert "url(fonts" not in style


def test_links_to_notebooks_lead_to_pages_or_become_text():
    body = (
        '<a href="04_t.ipynb#A-b">Notebook <em>04</em></a>, <a class="x" href="./05_e.ipynb">05</a>'
    )
    assert (
        pages.link_pages(body, ["04_t"]) == '<a href="04_t.html#A-b">Notebook <em>04</em></a>, 05'
    )
    away = '<a href="https://host/04_t.ipynb">raw</a>'
    assert pages.link_pages(away, ["04_t"]) == away


def test_a_page_of_a_partial_run_has_no_dead_links(tmp_path):
    cells = [new_markdown_cell("# One\n\nSee [two](01_two.ipynb) and [three](02_three.ipynb).")]
    write_notebook(new_notebook(cells=cells), tmp_path / "00_one.ipynb")
    (tmp_path / "01_two.html").write_text("of an earlier run")
    text = pages.write_page(tmp_path / "00_one.ipynb", ["00_one"]).read_text()
    assert 'href="01_two.html"' in text and "02_three" not in text and "three." in text


def test_texts_of_a_page_are_escaped(tmp_path):
    figure = new_output(
        "display_data",
        data={"image/png": "iVBORw0KGgo=", "text/plain": "One <pixel>"},
        metadata={"image/png": {"alt": 'A "black" <pixel>'}},
    )
    cells = [new_markdown_cell("# a < b"), new_code_cell("1", outputs=[figure])]
    write_notebook(new_notebook(cells=cells), tmp_path / "00_a.ipynb")
    page = Page(pages.write_page(tmp_path / "00_a.ipynb", ["00_a"]).read_text())
    assert [image["alt"] for image in page.images] == ['A "black" <pixel>']
    index = write_index(tmp_path, [Outcome("00_a", "failed", 1, 0, 1.0, 1.0, "E: <b> & 'c'")])
    page = Page(index.read_text())
    assert [image["alt"] for image in page.images] == ['A "black" <pixel>']
    assert "b" not in page.tags and "pixel" not in page.tags


def test_metric_tables_show_numbers_and_names_of_mappings():
    tables = dict(metric_tables({"EN": 6.51234, "n": 3, "sets": {"TNO": {"SD": 1.0}, "<b>": {}}}))
    assert list(tables) == ["", "sets"]
    assert "6.512" in tables[""] and "<td>3</td>" in tables[""]
    assert "&lt;b&gt;" in tables["sets"] and "nan" not in tables["sets"].lower()


MEASURE = """
<script>
document.fonts.ready.then(() => {
  const boxes = [...document.querySelectorAll(".katex-display > .katex")]
    .map((element) => element.getBoundingClientRect().height);
  const code = [...document.querySelectorAll(".highlight pre")];
  const count = (pre) => pre.textContent.trimEnd().split("\\n").length;
  const outside = (element) => element.getBoundingClientRect().right > innerWidth;
  const found = {
    width: innerWidth,
    page: document.documentElement.scrollWidth,
    fonts: [...document.fonts].filter((font) => font.status === "loaded").length,
    failed: [...document.fonts].filter((font) => font.status === "error").length,
    heights: boxes,
    code: code.length,
    scrolled: code.filter((pre) => pre.scrollWidth > pre.clientWidth + 1).length,
    lines: Math.max(...code.map((pre) => pre.offsetHeight / count(pre))),
    broken: [...document.images].filter((image) => !image.naturalWidth).length,
    outside: [...document.images].filter(outside).length,
  };
  const result = document.createElement("output");
  result.textContent = JSON.stringify(found);
  document.body.replaceChildren(result);
});
</script>
"""


@pytest.mark.slow
@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium or Chrome on the PATH to open pages in")
@pytest.mark.parametrize("width", [660, 1200])
@pytest.mark.parametrize("path", PATHS, ids=lambda path: path.stem)
def test_in_a_browser_code_scrolls_and_equations_have_their_fonts(path, width, run, tmp_path):
    page = tmp_path / "page.html"
    page.write_text(path_of(run, path).read_text(encoding="utf-8") + MEASURE, encoding="utf-8")
    command = [
        CHROMIUM,
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        f"--window-size={width},900",
    ]
    command += [f"--user-data-dir={tmp_path / 'profile'}", "--virtual-time-budget=20000"]
    done = subprocess.run(
        [*command, "--dump-dom", page.as_uri()], capture_output=True, text=True, timeout=120
    )
    match = re.search(r"<output>(.*?)</output>", done.stdout, flags=re.DOTALL)
    assert match, done.stderr[-2000:]
    found = json.loads(html.unescape(match[1]))
    assert found["page"] <= found["width"] <= width, "the page as a whole scrolls sideways"
    assert found["failed"] == 0 and found["fonts"] >= 3, "KaTeX draws with its own fonts"
    assert all(10 < height < 160 for height in found["heights"]), found["heights"]
    assert found["code"] > 5 and found["lines"] < 30, "a line of code takes one line"
    assert width < 1200 or found["scrolled"] == 0, "100 characters fit where there is room"
    assert found["broken"] == found["outside"] == 0
