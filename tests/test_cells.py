"""The generated cells of the notebooks: badges, and the set-up for Colab."""

import importlib.metadata
import importlib.util
import re
import subprocess
import sys
import tomllib
import types

import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

import data_download.tour
from ldf_utils.notebook import colab
from tools import cells
from tools.notebook_files import ROOT, STAMP, read_notebook, sources_hash, write_notebook


@pytest.fixture(autouse=True)
def notebook(tmp_path):
    """A notebook without generated cells, in `tmp_path`."""
    parameters = new_code_cell("size = 3  # how many", metadata={"tags": ["parameters"]})
    made = [new_markdown_cell("# Title\n\nPromise."), parameters, new_code_cell("1")]
    write_notebook(new_notebook(cells=made), tmp_path / "00_a.ipynb")


def test_generated_cells_are_written_once_and_checked(tmp_path, capsys):
    arguments = ["--notebooks", str(tmp_path)]
    assert cells.main([*arguments, "--check"]) == 1
    assert "0 cells tagged 'badges'" in capsys.readouterr().err
    assert cells.main(arguments) == 0
    assert cells.main([*arguments, "--check"]) == 0
    notebook = read_notebook(tmp_path / "00_a.ipynb")
    tags = [cell.metadata.get("tags", [""])[0] for cell in notebook.cells]
    assert tags[:4] == ["", "badges", "setup", "parameters"]
    unchanged = (tmp_path / "00_a.ipynb").read_bytes()
    assert cells.main(arguments) == 0
    assert (tmp_path / "00_a.ipynb").read_bytes() == unchanged


def test_a_changed_address_is_found_and_corrected(tmp_path, monkeypatch, capsys):
    arguments = ["--notebooks", str(tmp_path)]
    cells.main(arguments)
    monkeypatch.setattr(cells, "repository", lambda: "https://github.com/someone/fork")
    assert cells.main([*arguments, "--check"]) == 1
    assert capsys.readouterr().err.count("out of date") == 2
    cells.main(arguments)
    text = (tmp_path / "00_a.ipynb").read_text()
    assert "someone/fork" in text and "language-driven-fusion" not in text
    assert cells.main([*arguments, "--check"]) == 0


def test_the_set_up_cell_knows_every_requirement():
    """A new requirement is either installed on Colab, or the set-up cell installs it."""
    on_colab = {
        *("torch", "torchvision", "numpy", "pillow", "matplotlib", "ipywidgets", "tqdm", "scipy"),
        *("huggingface_hub", "safetensors", "requests", "filelock", "pandas", "jinja2", "urllib3"),
        *("tifffile", "scikit-image", "packaging", "pyyaml", "psutil", "pycocotools"),
    }
    with open(ROOT / "pyproject.toml", "rb") as file:
        project = tomllib.load(file)["project"]
    required = project["dependencies"] + project["optional-dependencies"]["video"]
    names = {re.match(r"[\w-]+", line)[0] for line in required}
    lacking = set(colab.LACKS.values())
    assert lacking <= names, "remove from LACKS what is required no more"
    unknown = names - on_colab - lacking
    assert not unknown, "add it to LACKS and run `python -m tools.cells`, or add it above"


def test_the_set_up_cell_does_nothing_here(monkeypatch):
    def forbidden(*_, **__):
        raise AssertionError("the set-up cell did something outside of Colab and Binder")

    monkeypatch.delenv("BINDER_LAUNCH_HOST", raising=False)
    monkeypatch.setattr(subprocess, "run", forbidden)
    monkeypatch.setattr(data_download.tour, "use", forbidden)
    exec(cells.setup_source(), {})


def test_the_set_up_cell_installs_only_what_colab_lacks(monkeypatch, tmp_path):
    calls, toured = [], []
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(data_download.tour, "use", lambda: toured.append(len(calls)))
    monkeypatch.setitem(sys.modules, "google.colab", types.ModuleType("google.colab"))
    monkeypatch.setattr(subprocess, "run", lambda command, check: calls.append(command))
    found = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name: None if name == "pooch" else found(name)
    )
    exec(cells.setup_source(), {})
    package, lacking = calls
    assert package[-2:] == ["--no-deps", f"git+{cells.repository()}"]
    *_, package_, torch, numpy = lacking
    assert package_ == "pooch" and lacking[-4] == "-q"
    for name, kept in (("torch", torch), ("numpy", numpy)):
        version = importlib.metadata.version(name)
        assert kept == f"{name}=={version}", "what is there stays at its version"
    assert toured == [2], "the real pairs come once everything is installed"


def test_the_set_up_cell_asks_for_a_restart_when_a_loaded_package_has_changed(monkeypatch):
    toured, versions = [], {"pillow": ["11.0.0", "12.0.0"]}
    real, found = importlib.metadata.version, importlib.util.find_spec

    def version(name):
        return versions[name].pop(0) if name in versions else real(name)

    monkeypatch.setattr(data_download.tour, "use", lambda: toured.append(1))
    monkeypatch.setitem(sys.modules, "google.colab", types.ModuleType("google.colab"))
    monkeypatch.setattr(subprocess, "run", lambda command, check: None)
    monkeypatch.setattr(importlib.metadata, "version", version)
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name: None if name == "pooch" else found(name)
    )
    with pytest.raises(RuntimeError, match="pillow changed while in use: restart the session"):
        exec(cells.setup_source(), {})
    assert not toured


def test_the_set_up_cell_fetches_the_tour_on_binder_and_installs_nothing(monkeypatch):
    calls = []
    monkeypatch.setenv("BINDER_LAUNCH_HOST", "https://mybinder.org/")
    monkeypatch.setattr(subprocess, "run", lambda *_, **__: calls.append("process"))
    monkeypatch.setattr(data_download.tour, "use", lambda: calls.append("tour"))
    exec(cells.setup_source(), {})
    assert calls == ["tour"]


def test_outputs_stay_current_when_a_generated_cell_changes_and_stale_ones_stay_stale(tmp_path):
    path = tmp_path / "00_a.ipynb"
    for stamp_is_right in (True, False):
        notebook = read_notebook(path)
        notebook.metadata[STAMP] = sources_hash(notebook) if stamp_is_right else "stale"
        assert cells.update(notebook, path.name)
        assert (notebook.metadata[STAMP] == sources_hash(notebook)) == stamp_is_right


def test_what_installs_on_colab_needs_nothing_that_colab_lacks():
    """It is imported before anything of the list is there."""
    code = (
        "import sys\n"
        f"sys.modules |= dict.fromkeys({sorted(colab.LACKS)!r})\n"
        "from ldf_utils.notebook import colab\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT)
