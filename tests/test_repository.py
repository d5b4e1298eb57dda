"""The repository as a whole: imports in one direction, nothing local, documents that agree."""

import importlib.util
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import yaml

import ldf_utils

ROOT = Path(__file__).resolve().parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
ADDRESS = PROJECT["urls"]["Repository"]


@pytest.fixture(scope="session")
def tracked() -> list[Path]:
    """The files that git tracks."""
    if not (ROOT / ".git").exists() or shutil.which("git") is None:
        pytest.skip("not a git checkout")
    names = subprocess.run(
        ["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout
    return [ROOT / name for name in names.split("\0") if name and (ROOT / name).is_file()]


@pytest.fixture(scope="session")
def texts(tracked) -> dict[str, str]:
    """The tracked files that are text, by path from the root."""
    found = {}
    for path in tracked:
        try:
            found[path.relative_to(ROOT).as_posix()] = path.read_text(encoding="utf-8")
        except UnicodeDecodeError:
            continue
    return found


# ------------------------------------------------------------------ the package


def modules() -> list[Path]:
    """The files of ldf_utils."""
    return sorted((ROOT / "ldf_utils").rglob("*.py"))


def test_imports_go_one_way_and_in_no_circle():
    """The contracts stand in pyproject.toml; every room has its place in one."""
    # In a process of its own: it turns off all loggers of the one that it runs in.
    code = "import sys, importlinter.cli as c; sys.exit(c.lint_imports(cache_dir=None))"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, encoding="utf-8"
    )
    output = done.stdout
    assert done.returncode == 0, output + done.stderr
    assert "Contracts: 3 kept, 0 broken." in output
    (files,) = re.findall(r"Analyzed (\d+) files", output)
    assert int(files) >= len(modules())


def test_the_tree_has_few_rooms():
    """The rooms of the package, and beside it the downloads, the experiments and the tools."""
    tops = {path.relative_to(ROOT / "ldf_utils").parts[0] for path in modules()}
    # data, clip, networks, metrics, losses, training, registration, video, fusion, evaluation,
    # detection, notebook, demo: what the design names, and video.
    assert len(tops - {"__init__.py"}) + 3 <= 16, sorted(tops)


def test_versions_agree():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert PROJECT["dynamic"] == ["version"], "the version stands in ldf_utils/__init__.py alone"
    assert ldf_utils.__version__ == citation["version"]


# ------------------------------------------------------------------ nothing local


def test_no_path_of_a_machine(texts):
    pattern = re.compile(r"(?<![\w.:/*-])/(?:work|root|home|Users|opt(?!/homebrew))/[\w.]")
    found = {
        f"{name}: {line.strip()[:80]}"
        for name, text in texts.items()
        if not name.endswith(".ipynb") and name != "tests/test_repository.py"
        for line in text.splitlines()
        if pattern.search(line)
    }
    assert not found


def test_no_address_of_a_package_index(texts):
    hosts = ("pypi" + ".org", "python" + "hosted", "pytorch.org/" + "whl", "index" + "-url")
    hosts += ("find" + "-links", "conda.anaconda" + ".org", "/simple" + "/")
    found = [f"{name}: {host}" for name, text in texts.items() for host in hosts if host in text]
    assert not found


def test_files_are_small(tracked):
    large = {}
    for path in tracked:
        limit = 10_000_000 if "weights" in path.parts else 1_500_000
        if path.stat().st_size > limit:
            large[path.relative_to(ROOT).as_posix()] = path.stat().st_size
    assert not large


def test_the_fusion_network_is_small():
    weights = list((ROOT / "ldf_utils" / "weights").glob("fusion*.pt"))
    assert weights, "no fusion network ships with the package"
    assert all(path.stat().st_size <= 2_000_000 for path in weights)


def test_runs_are_not_tracked(tracked):
    names = [path.relative_to(ROOT).as_posix() for path in tracked]
    assert not [name for name in names if name.startswith(("runs/", ".venv/"))]


def test_style_and_format():
    for command in (["check"], ["format", "--check"]):
        done = subprocess.run(
            [sys.executable, "-m", "ruff", *command, "."],
            cwd=ROOT,
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.slow
def test_types():
    """What `make types` runs, so that the README's test command holds it as well."""
    done = subprocess.run(
        [sys.executable, "-m", "mypy", "--no-pretty"], cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr


# ------------------------------------------------------------------ one address


def test_the_address_of_the_repository_is_the_same_everywhere(texts):
    owner, repo = ADDRESS.split("github.com/")[1].split("/")
    for name, text in texts.items():
        for found in re.findall(r"github(?:\.com)?/" + re.escape(owner) + r"/([\w.-]+)", text):
            assert found.removesuffix(".git") == repo, name
    assert f"{owner}/{repo}" in texts["CITATION.cff"]


# ------------------------------------------------------------------ documents


def targets() -> set[str]:
    return set(
        re.findall(
            r"^([a-z]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), flags=re.MULTILINE
        )
    )


@pytest.mark.parametrize("name", ["README.md", "CONTRIBUTING.md"])
def test_documented_commands_exist(name):
    text = (ROOT / name).read_text(encoding="utf-8")
    code = re.findall(r"^ {4}.*$|`[^`\n]+`", text, re.MULTILINE)
    code += re.findall(r"^```.*?^```", text, re.MULTILINE | re.DOTALL)
    commands = set(re.findall(r"\bmake ([a-z]+)", "\n".join(code)))
    assert commands and commands <= targets()
    for module in set(re.findall(r"python -m ([\w.]+)", text)) - {"experiments.NAME"}:
        assert importlib.util.find_spec(module), f"python -m {module}"


@pytest.mark.parametrize(
    "path",
    [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))],
    ids=lambda path: path.name,
)
def test_links_to_files_lead_somewhere(path):
    for target in re.findall(r"\]\(([^)#\s]+)[^)]*\)", path.read_text(encoding="utf-8")):
        if not re.match(r"\w+:", target):
            assert (path.parent / target).exists(), f"{path.name} links to {target}"


def test_the_readme_has_the_two_commands_and_pictures_with_alt_texts():
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    assert "make tutorial" in text and "make test" in text
    assert not re.search(r"!\[\s*\]\(", text), "a picture without alt text"


def test_the_license_is_apache_2():
    text = (ROOT / "LICENSE").read_text(encoding="utf-8")
    assert "Apache License" in text and "Version 2.0, January 2004" in text
    assert "END OF TERMS AND CONDITIONS" in text
    assert PROJECT["license"] == "Apache-2.0"


def test_the_citation_names_this_work_and_the_paper():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    for field in ("cff-version", "message", "title", "authors", "version", "license"):
        assert citation[field], field
    assert citation["repository-code"] == ADDRESS and citation["license"] == "Apache-2.0"
    (paper,) = citation["references"]
    assert [author["family-names"] for author in paper["authors"]] == [
        "Wang",
        "Miao",
        "Zhou",
        "Zhang",
        "Qiao",
    ]
    assert "2402.16267" in paper["url"]
