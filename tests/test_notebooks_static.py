"""The committed notebooks: form, order of cells, texts of figures, no trace of a machine."""

import ast
import re
from pathlib import Path

import nbformat
import pytest

from tools import cells
from tools.notebook_files import (
    NOTEBOOKS,
    STAMP,
    code_cells,
    declared_parameters,
    sources_hash,
    tagged,
)

NAMES = (
    "00_start_here",
    "01_clip_prompt_embedding",
    "02_fusion_direction",
    "03_losses",
    "03b_artifacts",
    "04_training",
    "05_evaluation",
    "06_detection",
    "07_your_own_cameras",
    "08_say_it",
    "09_scaling_out",
)
MOST_BYTES = 1_500_000
MOST_LINES = 20

PATHS = sorted(NOTEBOOKS.glob("*.ipynb"))


@pytest.fixture(params=PATHS, ids=lambda path: path.stem)
def path(request) -> Path:
    return request.param


@pytest.fixture
def notebook(path) -> nbformat.NotebookNode:
    return nbformat.read(path, as_version=4)


def outputs_of(notebook):
    return [output for cell in code_cells(notebook) for output in cell.outputs]


def texts_of(notebook):
    """All that a reader can read: sources, and outputs but for pictures."""
    for cell in notebook.cells:
        yield cell.source
        for output in cell.get("outputs", []):
            yield str(output.get("text", ""))
            yield "\n".join(output.get("traceback", []))
            for kind, value in output.get("data", {}).items():
                if not kind.startswith("image/"):
                    yield str(value)


def calls_in(source):
    """Names of the functions called, `exercises.check_x` as ``check_x``, with the call."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Call):
            yield getattr(node.func, "attr", getattr(node.func, "id", "")), node


def test_all_notebooks_are_there():
    assert set(NAMES) <= {path.stem for path in PATHS}


def test_it_is_valid_and_names_the_kernel_plainly(notebook):
    nbformat.validate(notebook)
    assert notebook.metadata.kernelspec.name == "python3"
    assert notebook.metadata.language_info.name == "python"


def test_it_is_small(path):
    size = path.stat().st_size
    assert size < MOST_BYTES, f"{size / 1e6:.2f} MB; show smaller or fewer pictures"


def test_it_is_executed_from_top_to_bottom_without_error(notebook):
    counts = [cell.execution_count for cell in code_cells(notebook)]
    assert counts == list(range(1, len(counts) + 1)), "run `make notebooks`"
    empty = [c for c in notebook.cells if c.cell_type == "code" and not c.source.strip()]
    assert not empty, "a code cell without code"
    assert not [output for output in outputs_of(notebook) if output.output_type == "error"]


def test_its_outputs_belong_to_its_code(notebook):
    assert notebook.metadata.get(STAMP) == sources_hash(notebook), (
        "the code has changed since the outputs were made; run `make notebooks`"
    )


def test_it_has_no_trace_of_a_machine(notebook):
    pattern = re.compile(
        r"(?<![\w.:/-])(/(?:work|home|root|tmp|Users|opt|usr|var|mnt|content)/[^\s'\"]*"
        r"|[A-Za-z]:\\\\?[A-Z]\w+)"
    )
    found = [m[0] for text in texts_of(notebook) for m in pattern.finditer(text)]
    assert not found, "print `run_record.short_path(path)` in place of the path"


def test_it_has_no_widgets_and_no_records_of_the_runner(notebook):
    for metadata in (notebook.metadata, *(cell.metadata for cell in notebook.cells)):
        assert not {"widgets", "papermill", "execution"} & set(metadata)
    assert not tagged(notebook, "injected-parameters")
    kinds = {kind for output in outputs_of(notebook) for kind in output.get("data", {})}
    assert not {kind for kind in kinds if "widget" in kind or "javascript" in kind}


def test_one_parameters_cell_whose_names_are_explained_and_read(notebook):
    names = declared_parameters(notebook)
    (cell,) = tagged(notebook, "parameters")
    assert "interactive" in names
    assert re.search(r"^interactive = False\b", cell.source, flags=re.MULTILINE)
    for line in cell.source.splitlines():
        if re.match(r"\w+\s*(:.*)?=", line):
            assert "#" in line, f"no comment on {line!r}"
    read = {
        node.id
        for other in code_cells(notebook)
        if other is not cell
        for node in ast.walk(ast.parse(other.source))
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load)
    }
    assert set(names) <= read, f"never read: {sorted(set(names) - read)}"


def test_the_first_cells_are_in_order(notebook):
    title, badges, learn, setup, parameters, imports, more = notebook.cells[:7]
    assert title.cell_type == "markdown" and title.source.startswith("# ")
    promise = title.source.split("\n", 1)[-1].strip()
    assert len(promise.split()) >= 8, "the first cell promises what the reader gets"
    assert "badges" in badges.metadata.tags
    assert learn.cell_type == "markdown"
    for phrase in ("minutes", "You will learn", "You need"):
        assert phrase in learn.source
    assert "setup" in setup.metadata.tags
    assert "parameters" in parameters.metadata.tags
    assert re.search(r"\bimport\b", imports.source)
    called = [name for name, _ in calls_in(imports.source)]
    if not called:  # many imports take two cells: those of others, then those of the package
        assert re.search(r"^from ldf_utils\b", more.source, re.MULTILINE)
        called = [name for name, _ in calls_in(more.source)]
    assert "environment_report" in called and "use_style" in called


def test_the_generated_cells_are_up_to_date(path, notebook):
    assert cells.disagreements(notebook, path.name) == [], "run `python -m tools.cells`"


def test_code_cells_are_short(notebook):
    for cell in code_cells(notebook):
        lines = [line for line in cell.source.splitlines() if line.strip()]
        assert len(lines) <= MOST_LINES, f"{len(lines)} lines: {lines[0]} ..."


def test_every_figure_says_its_finding_in_words(notebook):
    figures = 0
    for cell in code_cells(notebook):
        for i, output in enumerate(cell.outputs):
            data = output.get("data", {})
            if not any(kind.startswith("image/") for kind in data):
                continue
            figures += 1
            title = data.get("text/plain", "")
            assert "image/png" in data
            assert not title.startswith("<"), f"{title}: show it with ldf_utils.notebook.figures"
            assert len(title.split()) >= 3, f"title {title!r} is no finding"
            alt = output.metadata.get("image/png", {}).get("alt", "")
            assert len(alt.split()) >= 5, f"{title}: alt text {alt!r}"
            assert alt != title, f"{title}: the alt text says what is seen, not the title again"
            after = cell.outputs[i + 1] if i + 1 < len(cell.outputs) else {}
            assert "text/markdown" in after.get("data", {}), f"{title}: no caption beneath"
    assert figures >= 3


def test_pictures_in_the_text_have_alt_texts(notebook):
    for cell in notebook.cells:
        if cell.cell_type == "markdown":
            assert not re.search(r"!\[\s*\]\(", cell.source)
            for tag in re.findall(r"<img [^>]*>", cell.source):
                assert re.search(r"alt=\"[^\"]+\"", tag), tag


def test_links_lead_to_notebooks_or_to_the_web(path, notebook):
    for cell in notebook.cells:
        for target in re.findall(r"\]\(([^)\s]+)\)", cell.source) * (cell.cell_type == "markdown"):
            if not target.startswith(("https://", "attachment:", "#")):
                file = target.partition("#")[0]
                assert file.endswith(".ipynb") and (path.parent / file).is_file(), target


def test_exercises_have_a_check_and_a_folded_solution(notebook):
    exercises = tagged(notebook, "exercise")
    assert 2 <= len(exercises) <= 4
    for cell in exercises:
        assert "..." in cell.source, "an exercise leaves three dots to fill in"
        assert any(name.startswith("check_") for name, _ in calls_in(cell.source))
        printed = "".join(output.get("text", "") for output in cell.outputs)
        assert "Not yet" in printed, "the committed exercise is open"
        solution = notebook.cells[notebook.cells.index(cell) + 1]
        assert "<details>" in solution.source and "</details>" in solution.source
        (code,) = re.findall(r"```python\n(.*?)```", solution.source, flags=re.DOTALL)
        called, in_solution = (
            {ast.unparse(call.func) for name, call in calls_in(text) if name.startswith("check_")}
            for text in (cell.source, code)
        )
        assert called <= in_solution, "the solution replaces the whole cell, its check included"
        assert "..." not in code
    headings = re.findall(r"^#+ .*Exercise.*$", "\n".join(texts_of(notebook)), flags=re.MULTILINE)
    assert len(headings) >= len(exercises)


def test_it_ends_with_recap_next_references_and_the_metrics(path, notebook):
    text = "\n".join(cell.source for cell in notebook.cells[-5:] if cell.cell_type == "markdown")
    for word in ("Recap", "Next", "References"):
        assert re.search(rf"^#+ .*{word}", text, flags=re.MULTILINE), word
    last = code_cells(notebook)[-1]
    assert notebook.cells[-1] is last, "the last cell records the metrics"
    recorded = [call for name, call in calls_in(last.source) if name == "record_metrics"]
    assert len(recorded) == 1
    named = [*recorded[0].args, *(k.value for k in recorded[0].keywords if k.arg == "notebook")]
    assert isinstance(named[0], ast.Constant) and named[0].value == path.stem


def test_nothing_in_it_is_for_tests_only(notebook):
    """The tests pass smaller numbers through the parameters; there is no branch for them."""
    code = "\n".join(cell.source for cell in code_cells(notebook))
    assert not re.search(
        r"\b(if|not)\s+\w*(test|smoke|fast|quick|ci)_?(mode|run)?\b\s*:", code, re.I
    )
    assert "PYTEST" not in code
