"""The notebook runner on small notebooks: success, failing cell, dead kernel, time-out, refresh."""

import html
import io
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import nbformat
import psutil
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

from ldf_utils.notebook.run_record import read_metrics, update_metrics
from tools import notebooks, parallel, runner
from tools.notebook_files import NOTEBOOKS, NotebookError, code_cells, heading_above, read_notebook
from tools.progress import Progress, tree_memory
from tools.runner import run_notebook

# A PNG of one pixel with alt text, as ldf_utils.notebook.figures gives it, without loading torch.
FIGURE = """\
import base64
from IPython.display import display
png = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAAAAAA6fptVAAAACklEQVR4nGNgAAAAAgABSK+kcQAAAABJRU5ErkJggg=="
)
display({"image/png": png, "text/plain": "One pixel is enough"}, raw=True,
        metadata={"image/png": {"alt": 'A "black" <pixel>'}})
"""


def write(folder: Path, name: str, *code: str, parameters: bool = True) -> Path:
    made = [new_markdown_cell(f"# Notebook {name}\n\nIt promises *much*: $\\tilde V_f$.")]
    if parameters:
        made.append(new_code_cell("size = 3  # how many", metadata={"tags": ["parameters"]}))
    made.append(new_markdown_cell("## The middle\n\n$$L = \\frac{1}{2}[1 - \\cos(a, b)]$$"))
    made += [new_code_cell(source) for source in code]
    folder.mkdir(exist_ok=True)
    path = folder / f"{name}.ipynb"
    nbformat.write(new_notebook(cells=made), path)
    return path


@pytest.fixture
def log():
    return io.StringIO()


@pytest.fixture
def progress(log):
    return Progress(log)


def test_a_good_notebook(tmp_path, progress, log):
    source = write(
        tmp_path / "in",
        "00_good",
        FIGURE,
        "import os, pathlib\npathlib.Path('made.txt').write_text(os.environ['LDF_RUN_DIR'])",
        "import ipywidgets\nipywidgets.IntSlider()",
        "block = bytearray(200_000_000)\nsize",
    )
    before = dict(os.environ)
    run_dir = tmp_path / "out"
    outcome = run_notebook(source, run_dir / source.name, run_dir, progress=progress)

    assert (outcome.status, outcome.cells, outcome.cells_run) == ("done", 5, 5), outcome.error
    assert outcome.error is None and outcome.seconds > 0
    assert 200 < outcome.peak_memory_mb < 1500, "the kernel holds a block of 200 MB"
    assert (run_dir / "made.txt").read_text() == str(run_dir), "outputs land in the run folder"
    changed = {name for name, _ in os.environ.items() ^ before.items()}
    assert changed <= {"PYDEVD_USE_FRAME_EVAL"}, "but for a variable that old debuggers set"

    executed = read_notebook(run_dir / source.name)
    code = code_cells(executed)
    assert [cell.execution_count for cell in code] == [1, 2, 3, 4, 5]
    assert code[-1].outputs[0].data["text/plain"] == "3"
    assert code[3].outputs == [], "a widget leaves nothing in the file"
    text = (run_dir / source.name).read_text()
    assert "papermill" not in text and "widget" not in text.replace("ipywidgets", "")
    assert str(tmp_path) not in text

    record = read_metrics(run_dir)["00_good"]
    assert record["status"] == "done"
    assert record["seconds"] == outcome.seconds
    assert record["peak_memory_mb"] == outcome.peak_memory_mb
    said = log.getvalue()
    assert "cell 2/5  The middle" in said and "done, 5 of 5 cells" in said


def test_parameters_reach_the_notebook(tmp_path, progress):
    source = write(tmp_path, "00_good", "print(size * 2)")
    outcome = run_notebook(
        source, tmp_path / "o.ipynb", tmp_path, parameters={"size": 21}, progress=progress
    )
    executed = read_notebook(tmp_path / "o.ipynb")
    assert code_cells(executed)[-1].outputs[0].text == "42\n"
    assert outcome.cells == outcome.cells_run == 3


def test_an_undeclared_parameter_is_an_error(tmp_path, progress):
    source = write(tmp_path, "00_good", "print(size)")
    with pytest.raises(NotebookError, match=r"parameters \['sise'\].*declares, \['size'\]"):
        run_notebook(
            source, tmp_path / "o.ipynb", tmp_path, parameters={"sise": 1}, progress=progress
        )
    assert not (tmp_path / "o.ipynb").exists()


def test_a_notebook_without_parameters_cell_is_an_error(tmp_path, progress):
    source = write(tmp_path, "00_bare", "1", parameters=False)
    with pytest.raises(NotebookError, match="found 0 cells tagged 'parameters', expected one"):
        run_notebook(source, tmp_path / "o.ipynb", tmp_path, progress=progress)


def test_a_failing_cell_is_named_and_the_rest_is_kept(tmp_path, progress, log):
    source = write(tmp_path, "01_bad", "print('before')", "total = 1\n1 / 0", "print('never')")
    run_dir = tmp_path / "out"
    outcome = run_notebook(source, run_dir / source.name, run_dir, progress=progress)
    assert (outcome.status, outcome.cells, outcome.cells_run) == ("failed", 4, 2)
    for part in ("cell 3 of 4", "'The middle'", "'total = 1'", "ZeroDivisionError: division by"):
        assert part in outcome.error
    assert "01_bad: cell 3 of 4" in log.getvalue()
    code = code_cells(read_notebook(run_dir / source.name))
    assert code[1].outputs[0].text == "before\n"
    assert code[2].outputs[0].ename == "ZeroDivisionError"
    assert code[3].outputs == []


def test_a_dead_kernel_is_a_failure_with_its_place(tmp_path, progress):
    source = write(tmp_path, "02_dead", "print('before')", "import os\nos.kill(os.getpid(), 9)")
    run_dir = tmp_path / "out"
    outcome = run_notebook(source, run_dir / source.name, run_dir, progress=progress)
    assert outcome.status == "failed" and outcome.cells_run == 2
    assert "cell 3 of 3" in outcome.error and "DeadKernelError" in outcome.error
    code = code_cells(read_notebook(run_dir / source.name))
    assert code[1].outputs[0].text == "before\n"
    assert code[2].outputs[0].ename == "DeadKernelError", "the page shows where it ended"


def test_a_cell_that_takes_too_long_is_a_failure(tmp_path, progress):
    source = write(tmp_path, "03_slow", "import time\ntime.sleep(60)")
    outcome = run_notebook(
        source, tmp_path / "o.ipynb", tmp_path / "out", cell_seconds=2, progress=progress
    )
    assert outcome.status == "failed" and outcome.seconds < 30
    assert "cell 2 of 2" in outcome.error and "more than 2 seconds" in outcome.error


def test_old_numbers_of_a_notebook_do_not_survive_a_failure(tmp_path, progress):
    update_metrics(tmp_path, "01_bad", metrics={"EN": 7.0}, error="old")
    source = write(tmp_path / "in", "01_bad", "1 / 0")
    run_notebook(source, tmp_path / source.name, tmp_path, progress=progress)
    record = read_metrics(tmp_path)["01_bad"]
    assert "metrics" not in record and record["status"] == "failed"
    assert "ZeroDivisionError" in record["error"]


def test_the_whole_run_goes_on_after_a_failure_and_exits_with_1(tmp_path, capsys):
    folder = tmp_path / "in"
    write(folder, "00_bad", "1 / 0")
    write(
        folder,
        "01_good",
        FIGURE,
        "from pathlib import Path\nPath('fused/set').mkdir(parents=True)\n"
        "Path('fused/set/a.png').write_bytes(png)",
    )
    run = tmp_path / "run"
    code = notebooks.main(["tutorial", "--notebooks", str(folder), "--folder", str(run)])
    said = capsys.readouterr().out
    assert code == 1
    assert "FAILED 00_bad: cell 2 of 2" in said and "1 of 2 notebooks done" in said
    for name in ("00_bad.ipynb", "00_bad.html", "01_good.ipynb", "01_good.html", "metrics.json"):
        assert (run / name).is_file(), name
    index = (run / "index.html").read_text()
    for part in ("Notebook 00_bad", "Notebook 01_good", "ZeroDivisionError", "01_good.html"):
        assert part in index
    assert 'src="fused/set/a.png"' in index
    assert (run / "figures" / "01_good-1.png").is_file()
    assert 'A "black" <pixel>' in html.unescape(index), "alt text in the gallery"
    assert {name: record["status"] for name, record in read_metrics(run).items()} == {
        "00_bad": "failed",
        "01_good": "done",
    }


def test_refresh_replaces_only_what_ran(tmp_path, progress, monkeypatch):
    monkeypatch.setenv("LDF_DATA_DIR", str(tmp_path))
    good = write(tmp_path / "in", "00_good", "import os\nprint(os.environ.get('LDF_DATA_DIR'))")
    bad = write(tmp_path / "in", "01_bad", "1 / 0")
    untouched = bad.read_bytes()
    outcomes = notebooks.refresh([good, bad], tmp_path / "run", progress=progress)
    assert [outcome.status for outcome in outcomes] == ["done", "failed"]
    assert bad.read_bytes() == untouched
    assert (tmp_path / "run" / "01_bad.ipynb").is_file(), "the attempt is kept elsewhere"
    code = code_cells(read_notebook(good))
    assert code[-1].outputs[0].text == "None\n", "no real pictures in committed notebooks"
    assert "injected" not in good.read_text()


def test_an_interrupt_ends_the_run_and_keeps_the_pages(tmp_path, monkeypatch, progress):
    def interrupted(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(runner.papermill, "execute_notebook", interrupted)
    sources = [write(tmp_path / "in", name, "1") for name in ("00_a", "01_b")]
    outcomes = notebooks.tutorial(sources, tmp_path / "run", progress=progress)
    assert [outcome.status for outcome in outcomes] == ["interrupted"]
    assert notebooks.summary(outcomes, 2, progress, 1.0) == 130
    assert (tmp_path / "run" / "index.html").is_file()


def test_notebooks_run_side_by_side(tmp_path, progress, log):
    """The first waits for what the second writes; with one after the other it would fail."""
    waits = """\
import pathlib, time
for _ in range(600):
    if pathlib.Path('written.txt').is_file():
        break
    time.sleep(0.1)
print(pathlib.Path('written.txt').read_text())"""
    sources = [
        write(tmp_path / "in", "00_waits", waits),
        write(tmp_path / "in", "01_writes", "open('written.txt', 'w').write('from 01')"),
    ]
    run = tmp_path / "run"
    outcomes = notebooks.tutorial(sources, run, jobs=2, progress=progress)
    assert [(o.name, o.status) for o in outcomes] == [("00_waits", "done"), ("01_writes", "done")]
    assert "from 01" in (run / "00_waits.html").read_text()
    assert set(read_metrics(run)) == {"00_waits", "01_writes"}
    said = log.getvalue()
    assert said.index("[2/2] 01_writes") < said.index("done, 2 of 2 cells"), "begun beside 00"
    assert all(40 < outcome.peak_memory_mb < 500 for outcome in outcomes)


@pytest.mark.parametrize(
    ("waiting", "running", "chosen"),
    [
        (["00_a", "04_training", "05_evaluation"], [], "04_training"),
        (["00_a", "05_evaluation"], ["04_training"], "00_a"),
        (["05_evaluation", "06_detection"], ["04_training"], None),
        (["05_evaluation", "06_detection"], ["00_a"], "05_evaluation"),
        (["08_b", "09_scaling_out"], [], "08_b"),
        (["09_scaling_out"], ["08_b"], None),
        (["09_scaling_out"], [], "09_scaling_out"),
        (["00_a"], ["09_scaling_out"], None),
        ([], ["00_a"], None),
    ],
)
def test_a_notebook_begins_when_what_it_needs_is_there(waiting, running, chosen):
    assert parallel.next_notebook(waiting, running) == chosen


def test_the_notebooks_that_wait_exist():
    names = {path.stem for path in NOTEBOOKS.glob("*.ipynb")}
    assert {*parallel.NEEDS, *set().union(*parallel.NEEDS.values()), *parallel.ALONE} <= names


def test_what_jupyterlab_left_in_the_default_folder_moves_aside(tmp_path, monkeypatch):
    monkeypatch.setattr(notebooks, "RUNS", tmp_path)
    (tmp_path / "tutorial" / "scenes").mkdir(parents=True)
    notebooks.fresh_folder(tmp_path / "tutorial")
    assert (tmp_path / "tutorial-previous" / "scenes").is_dir()
    (tmp_path / "training").mkdir()
    (tmp_path / "training" / "network.pt").write_text("days of work")
    with pytest.raises(NotebookError, match="not from an earlier run"):
        notebooks.fresh_folder(tmp_path / "training")


def test_an_earlier_run_moves_aside_and_a_foreign_folder_is_refused(tmp_path):
    run = tmp_path / "run"
    notebooks.fresh_folder(run)
    (run / "metrics.json").write_text("{}")
    (run / "network.pt").write_text("old")
    notebooks.fresh_folder(run)
    assert list(run.iterdir()) == []
    assert (tmp_path / "run-previous" / "network.pt").read_text() == "old"
    (run / "thesis.tex").write_text("dear to somebody")
    with pytest.raises(NotebookError, match="not from an earlier run"):
        notebooks.fresh_folder(run)
    assert (run / "thesis.tex").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["tutorial", "--notebooks", "{tmp}/empty"], "found no notebook"),
        (["tutorial", "--notebooks", "{tmp}/in", "--only", "07"], r"no notebook starts with"),
    ],
)
def test_wrong_arguments_exit_with_2(tmp_path, capsys, arguments, message):
    write(tmp_path / "in", "00_a", "1")
    (tmp_path / "empty").mkdir()
    arguments = [argument.format(tmp=tmp_path) for argument in arguments]
    assert notebooks.main([*arguments, "--folder", str(tmp_path / "run")]) == 2
    assert re.search(message, capsys.readouterr().err)


def test_a_data_folder_that_is_not_there_is_said_before_anything_runs(
    tmp_path, capsys, monkeypatch
):
    write(tmp_path / "in", "00_a", "1")
    monkeypatch.setenv("LDF_DATA_DIR", str(tmp_path / "nowhere"))
    arguments = ["tutorial", "--notebooks", str(tmp_path / "in"), "--folder", str(tmp_path / "run")]
    assert notebooks.main(arguments) == 2
    assert "found no folder" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def test_memory_that_processes_share_counts_once():
    """Four processes that share a block of 200 MB use that block once."""
    if not sys.platform.startswith("linux"):
        pytest.skip("proportional set sizes are Linux's")
    code = """
import mmap, os, time
block = mmap.mmap(-1, 200_000_000)
block.write(bytes(200_000_000))
for _ in range(3):
    if not os.fork():
        sum(block[i] for i in range(0, len(block), 4096))
        os.write(1, b"read\\n")
        time.sleep(60)
        os._exit(0)
time.sleep(60)
"""
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE) as process:
        assert [process.stdout.readline() for _ in range(3)] == [b"read\n"] * 3
        tree = psutil.Process(process.pid)
        children = tree.children()
        resident = sum(one.memory_info().rss for one in (tree, *children))
        used, not_measured = tree_memory(tree), tree_memory(tree, at_least=10**10)
        for one in (*children, tree):
            one.kill()
    assert len(children) == 3 and resident > 800e6
    assert 200e6 < used < 350e6
    assert used < not_measured <= resident + 10e6


def test_the_kernel_environment(tmp_path, monkeypatch):
    (tmp_path / "data").mkdir()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("LDF_DATA_DIR", "data")
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setenv("LDF_CLIP", "mini")
    with runner.kernel_environment(tmp_path, {"HF_HUB_OFFLINE": "1", "LDF_CLIP": None}):
        assert os.environ["LDF_DATA_DIR"] == str(tmp_path / "data"), "it holds in another folder"
        assert os.environ["OMP_NUM_THREADS"] == str(runner.thread_count())
        assert os.environ["HF_HUB_OFFLINE"] == "1"
        assert "LDF_CLIP" not in os.environ
    assert os.environ["LDF_DATA_DIR"] == "data" and os.environ["LDF_CLIP"] == "mini"
    assert "OMP_NUM_THREADS" not in os.environ


def test_the_number_of_threads_that_the_user_set_is_kept(tmp_path, monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    with runner.kernel_environment(tmp_path, {}):
        assert os.environ["OMP_NUM_THREADS"] == os.environ["MKL_NUM_THREADS"] == "3"


class Terminal(io.StringIO):
    def isatty(self):
        return True


def test_progress_renews_a_line_on_a_terminal_and_adds_lines_to_a_log(monkeypatch):
    for stream, carriage_returns in ((Terminal(), True), (io.StringIO(), False)):
        progress = Progress(stream, every=0)
        progress.start()
        progress.cell("cell 1/2  Idea")
        progress.tick()
        progress.end()
        assert ("\r" in stream.getvalue()) == carriage_returns
        assert "cell 1/2  Idea" in stream.getvalue()
        assert ("still in cell 1/2" in stream.getvalue()) == (not carriage_returns)


def test_the_place_of_a_cell_is_the_nearest_heading():
    first, second = new_code_cell("a = 1\nb"), new_code_cell("c")
    notebook = new_notebook(
        cells=[
            first,
            new_markdown_cell("## One\n\ntext\n\n### Two"),
            new_markdown_cell("x"),
            second,
        ]
    )
    assert heading_above(notebook, first) == "a = 1"
    assert heading_above(notebook, second) == "Two"


def test_metrics_file_is_json(tmp_path):
    update_metrics(tmp_path, "00_a", status="done", error=None)
    assert json.loads((tmp_path / "metrics.json").read_text()) == {"00_a": {"status": "done"}}
