"""The set-up cell where it is needed: an environment with Colab's versions of the packages.

``LDF_COLAB_PYTHON`` names the Python of such an environment; `tests/data/colab.txt` says how to
make one. It is not changed: what the set-up cell installs goes to an environment on top of it. The
repository is this working tree, served over HTTP.
"""

import functools
import http.server
import json
import os
import shutil
import subprocess
import threading
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient
from nbformat.v4 import new_code_cell, new_notebook

from ldf_utils.notebook.colab import LACKS
from tools.cells import repository, setup_source
from tools.notebook_files import NOTEBOOKS, ROOT, read_notebook

COLAB = os.environ.get("LDF_COLAB_PYTHON", "")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        not COLAB, reason="needs LDF_COLAB_PYTHON, an environment of tests/data/colab.txt"
    ),
    pytest.mark.skipif(shutil.which("git") is None, reason="needs git"),
]
PRETEND = (
    "import sys, types\nsys.modules['google.colab'] = types.ModuleType('google.colab')\n"
    "import IPython, ipywidgets, matplotlib, numpy, torch"
)
MOVE = """\
import ipywidgets
from ldf_utils.notebook.widgets import controls
seen, handle = [], ipywidgets.FloatSlider(value=0.5, min=0, max=1)
widget = controls(lambda line: seen.append(line), {"line": handle})
widget.update()
handle.value = 0.25
print("moved", seen)"""
VERSIONS = "import importlib.metadata as m\nprint({0})"


@pytest.fixture(scope="module")
def published(tmp_path_factory):
    """Yield the address of a repository with the files of this working tree."""
    folder = tmp_path_factory.mktemp("served")
    tree, bare = folder / "tree", folder / "tutorial"
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        check=True,
        text=True,
    ).stdout
    for name in filter(None, listed.split("\0")):
        if (ROOT / name).is_file() and not name.startswith("tests/"):
            (tree / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(ROOT / name, tree / name)
    git = ["git", "-c", "user.name=test", "-c", "user.email=test@localhost"]
    for command in (["init", "-q"], ["add", "-A", "-f"], ["commit", "-q", "-m", "the tree"]):
        subprocess.run([*git, *command], cwd=tree, check=True)
    subprocess.run(["git", "clone", "-q", "--bare", tree, bare], check=True)
    subprocess.run(["git", "update-server-info"], cwd=bare, check=True)
    handler = functools.partial(_Silent, directory=str(folder))
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}/tutorial"
    server.shutdown()


class _Silent(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_):
        pass


@pytest.fixture
def colab(tmp_path, monkeypatch):
    """Return a runner of notebooks with a kernel on top of the Colab environment."""
    layer = tmp_path / "layer"
    subprocess.run([COLAB, "-m", "venv", layer], check=True)
    python = layer / "bin" / "python"
    where = "import sysconfig; print(sysconfig.get_path('purelib'))"
    below, above = (
        subprocess.run([p, "-c", where], capture_output=True, text=True, check=True).stdout.strip()
        for p in (COLAB, python)
    )
    (Path(above) / "colab.pth").write_text(below + "\n", encoding="utf-8")
    spec = tmp_path / "jupyter" / "kernels" / "colab"
    spec.mkdir(parents=True)
    argv = [str(python), "-m", "ipykernel_launcher", "-f", "{connection_file}"]
    (spec / "kernel.json").write_text(json.dumps({"argv": argv, "display_name": "Colab"}))
    monkeypatch.setenv("JUPYTER_PATH", str(tmp_path / "jupyter"))
    monkeypatch.setenv("LDF_CLIP", "mini")
    named = ("LDF_DATA_DIR", "LDF_RUN_DIR", "LDF_WEIGHTS_DIR", "PYTHONPATH", "BINDER_LAUNCH_HOST")
    for name in named:
        monkeypatch.delenv(name, raising=False)

    def run(notebook):
        client = NotebookClient(
            notebook,
            kernel_name="colab",
            timeout=900,
            allow_errors=True,
            resources={"metadata": {"path": str(tmp_path)}},
        )
        client.execute()
        outputs = [o for c in notebook.cells if c.cell_type == "code" for o in c.outputs]
        errors = [f"{o.ename}: {o.evalue}" for o in outputs if o.output_type == "error"]
        return outputs, errors

    run.python, run.folder = python, tmp_path
    return run


def set_up(address, *more):
    code = setup_source().replace(repository(), address)
    assert address in code
    return new_notebook(cells=[new_code_cell(c) for c in (PRETEND, code, *more)])


def printed(outputs):
    return "".join(o.get("text", "") for o in outputs)


def test_the_first_notebook_runs_on_colab(colab, published):
    notebook = read_notebook(NOTEBOOKS / "00_start_here.ipynb")
    nbformat.validator.normalize(notebook)
    changed = 0
    for cell in notebook.cells:
        if repository() in cell.source and cell.cell_type == "code":
            cell.source, changed = cell.source.replace(repository(), published), changed + 1
    assert changed == 1
    notebook.cells.insert(0, new_code_cell(PRETEND))
    notebook.cells.append(new_code_cell(MOVE))
    names = ("torch", "numpy", "ipywidgets", *LACKS.values(), "language-driven-fusion-tutorial")
    versions = ", ".join(f"m.version({name!r})" for name in names)
    notebook.cells.append(new_code_cell(VERSIONS.format(versions)))
    outputs, errors = colab(notebook)
    assert errors == []
    torch, numpy, widgets, *_ = printed(outputs).splitlines()[-1].split()
    assert (torch.split("+")[0], numpy, widgets) == ("2.9.0", "2.0.2", "7.7.1"), "kept"
    figures = [o for o in outputs if "image/png" in o.get("data", {})]
    assert len(figures) >= 6
    assert "moved [0.5, 0.25]" in printed(outputs)


def test_a_package_that_changes_while_it_is_loaded_asks_for_a_restart(colab, published):
    """An old platformdirs, which Jupyter has loaded, has to make way for pooch's."""
    pip = [colab.python, "-m", "pip", "install", "-q", "--no-deps", "platformdirs==2.4.0"]
    subprocess.run(pip, check=True)
    notebook = set_up(published, "print('and on')")
    notebook.cells[0].source += "\nimport platformdirs"
    _, errors = colab(notebook)
    assert (
        len(errors) == 1 and "RuntimeError: platformdirs changed while in use: restart" in errors[0]
    )
    outputs, errors = colab(set_up(published, "import open_clip, pooch, av\nprint('and on')"))
    assert errors == [], "after the restart everything is there"
    assert "and on" in printed(outputs)


def test_the_environment_lacks_what_colab_lacks():
    code = "import importlib.util as u, sys; sys.exit(bool({}))"
    found = " or ".join(f"u.find_spec({name!r})" for name in (*LACKS, "papermill"))
    assert subprocess.run([COLAB, "-c", code.format(found)]).returncode == 0
