"""The generated cells of the notebooks: badges, and the set-up for Colab."""

import importlib.util
import re
import subprocess
import sys
import tomllib
import types

import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

from tools import cells
from tools.notebook_files import ROOT, read_notebook, write_notebook


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
        *("tifffile", "scikit-image", "packaging", "pyyaml", "psutil"),
    }
    with open(ROOT / "pyproject.toml", "rb") as file:
        required = tomllib.load(file)["project"]["dependencies"]
    names = {re.match(r"[\w-]+", line)[0] for line in required}
    lacking = set(cells.COLAB_LACKS.values())
    assert lacking <= names, "remove from COLAB_LACKS what is required no more"
    unknown = names - on_colab - lacking
    assert not unknown, "add it to COLAB_LACKS and run `python -m tools.cells`, or add it above"


def test_the_set_up_cell_does_nothing_here(monkeypatch):
    def forbidden(*_, **__):
        raise AssertionError("the set-up cell started a process outside of Colab")

    monkeypatch.setattr(subprocess, "run", forbidden)
    exec(cells.setup_source(), {})


def test_the_set_up_cell_installs_only_what_colab_lacks(monkeypatch, tmp_path):
    calls = []
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(sys.modules, "google.colab", types.ModuleType("google.colab"))
    monkeypatch.setattr(subprocess, "run", lambda command, check: calls.append(command))
    found = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name: None if name == "pooch" else found(name)
    )
    exec(cells.setup_source(), {})
    package, lacking = calls
    assert package[-2:] == ["--no-deps", f"git+{cells.repository()}"]
    assert lacking[-1] == "pooch" and not {"torch", "numpy"} & set(lacking)
    assert re.fullmatch(r"torch==\S+\nnumpy==\S+\n", (tmp_path / "keep.txt").read_text())
    assert "keep.txt" in lacking, "what is there stays at its version"
