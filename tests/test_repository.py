"""The repository as a whole: imports in one direction, nothing local, files that agree."""

import ast
import importlib.metadata
import importlib.util
import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

import ldf_utils

ROOT = Path(__file__).resolve().parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
ADDRESS = PROJECT["urls"]["Repository"]
PYTHONS = ("3.11", "3.12", "3.13")

# What conda-forge calls a package, where it differs.
CONDA_NAMES = {
    "torch": "pytorch-cpu",
    "matplotlib": "matplotlib-base",
    "open_clip_torch": "open-clip-torch",
}


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


def requirements(*groups: str) -> dict[str, Requirement]:
    """The requirements of the project and of groups of optional ones, by name."""
    lines = list(PROJECT["dependencies"])
    for group in groups:
        lines += PROJECT["optional-dependencies"][group]
    return {requirement.name: requirement for requirement in map(Requirement, lines)}


# ------------------------------------------------------------------ the package


def module_order() -> list[str]:
    """The list at the top of ``ldf_utils/__init__.py``."""
    listed = re.search(r"``files``.*?``\.", ldf_utils.__doc__, flags=re.DOTALL)
    return re.findall(r"``(\w+)``", listed[0])


def modules_of(path: Path) -> set[str]:
    """The modules of ldf_utils that a file imports."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {name.name for name in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            if node.module == "ldf_utils":
                found |= {f"ldf_utils.{name.name}" for name in node.names}
            else:
                found.add(node.module)
    return {name.split(".")[1] for name in found if name.startswith("ldf_utils.")}


def package_files() -> list[tuple[str, Path]]:
    """Module name and file; the files of a sub-package count as that module."""
    package = ROOT / "ldf_utils"
    return [
        (path.relative_to(package).with_suffix("").parts[0], path)
        for path in sorted(package.rglob("*.py"))
        if path != package / "__init__.py"
    ]


def test_every_module_has_its_place_in_the_order():
    order = module_order()
    assert len(order) == len(set(order)) > 10
    assert {name for name, _ in package_files()} <= set(order)


@pytest.mark.parametrize(
    ("name", "path"),
    package_files(),
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_module_imports_only_from_those_above_it(name, path):
    order = module_order()
    above = set(order[: order.index(name)]) | {name}
    below = modules_of(path) - above
    assert not below, f"{path.name} imports {sorted(below)}, which stand(s) below {name}"


def test_the_package_does_not_import_the_tools():
    for _, path in package_files():
        text = path.read_text()
        assert not re.search(r"^\s*(from|import) (tools|data_download)\b", text, re.MULTILINE)


def test_versions_agree():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert PROJECT["dynamic"] == ["version"], "the version stands in ldf_utils/__init__.py alone"
    assert ldf_utils.__version__ == citation["version"]


# ------------------------------------------------------------------ nothing local


def test_no_path_of_a_machine(texts):
    pattern = re.compile(r"(?<![\w.:/*-])/(?:work|root|home|Users|opt)/[\w.]")
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


# ------------------------------------------------------------------ one address


def test_the_address_of_the_repository_is_the_same_everywhere(texts):
    owner, repo = ADDRESS.split("github.com/")[1].split("/")
    for name, text in texts.items():
        for found in re.findall(r"github(?:\.com)?/" + re.escape(owner) + r"/([\w.-]+)", text):
            assert found.removesuffix(".git") == repo, name
    assert f"{owner}/{repo}" in texts["CITATION.cff"]


# ------------------------------------------------------------------ dependencies


def pins() -> dict[str, list[Requirement]]:
    """The lines of the lock by canonical name; a package may have one line for each Python."""
    found: dict[str, list[Requirement]] = {}
    for line in (ROOT / "constraints.txt").read_text().splitlines():
        if line and not line.startswith("#"):
            pin = Requirement(line)
            found.setdefault(canonicalize_name(pin.name), []).append(pin)
    return found


def test_the_lock_pins_every_direct_dependency_within_its_range():
    locked = pins()
    for pin in (pin for lines in locked.values() for pin in lines):
        (specifier,) = pin.specifier
        assert specifier.operator == "==" and pin.url is None
    for name, wanted in requirements("notebooks", "test", "dev").items():
        for pin in locked.get(canonicalize_name(name), []):
            (specifier,) = pin.specifier
            assert specifier.version in wanted.specifier, f"{pin} is not in {wanted}"
        assert canonicalize_name(name) in locked, f"{name} is not locked: make lock"


def test_the_lock_is_transitive():
    """Whatever the installed packages of the tutorial require here is in the lock."""
    locked = pins()
    todo = list(requirements("notebooks", "test").values())
    seen: set[tuple[str, frozenset[str]]] = set()
    while todo:
        requirement = todo.pop()
        name = canonicalize_name(requirement.name)
        key = (name, frozenset(requirement.extras))
        if key in seen:
            continue
        seen.add(key)
        lines = [pin for pin in locked.get(name, []) if not pin.marker or pin.marker.evaluate()]
        assert len(lines) == 1, f"{name}: {len(lines)} lines of the lock for this Python: make lock"
        for line in importlib.metadata.requires(name) or []:
            further = Requirement(line)
            extras = requirement.extras or {""}
            if not further.marker or any(further.marker.evaluate({"extra": e}) for e in extras):
                todo.append(further)
    assert len(seen) > 100


def test_the_conda_environment_lists_the_same_packages():
    environment = yaml.safe_load((ROOT / "environment.yml").read_text())
    assert environment["channels"] == ["conda-forge"]
    plain = [entry for entry in environment["dependencies"] if isinstance(entry, str)]
    (by_pip,) = [entry["pip"] for entry in environment["dependencies"] if isinstance(entry, dict)]
    found = {}
    for entry in [*plain, *by_pip]:
        name, specifier = re.fullmatch(r"([\w-]+)((?:>=|=).+)?", entry).groups()
        found[name] = specifier or ""
    assert found.pop("python").removeprefix("=") in PYTHONS
    assert found.pop("pip") == ""
    wanted = {
        CONDA_NAMES.get(name, name): str(requirement.specifier)
        for name, requirement in requirements("notebooks").items()
    }
    assert found == wanted


def test_what_is_imported_is_required():
    """Every third-party module of the package is one that pyproject.toml asks for."""
    provided = {"PIL": "pillow", "open_clip": "open_clip_torch", "IPython": "ipywidgets"}
    allowed = set(requirements()) | {"ldf_utils", "data_download"}
    for _, path in package_files():
        for node in ast.walk(ast.parse(path.read_text())):
            names = []
            if isinstance(node, ast.Import):
                names = [name.name for name in node.names]
            elif isinstance(node, ast.ImportFrom) and node.level == 0:
                names = [node.module or ""]
            for name in {name.split(".")[0] for name in names}:
                known = name in sys.stdlib_module_names or provided.get(name, name) in allowed
                assert known, f"{path.name} imports {name}, which pyproject.toml does not require"


# ------------------------------------------------------------------ documents


def targets() -> set[str]:
    return set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), flags=re.MULTILINE))


@pytest.mark.parametrize("name", ["README.md", "CONTRIBUTING.md"])
def test_documented_commands_exist(name):
    text = (ROOT / name).read_text()
    code = re.findall(r"^ {4}.*$|`[^`\n]+`", text, re.MULTILINE)
    code += re.findall(r"^```.*?^```", text, re.MULTILINE | re.DOTALL)
    commands = set(re.findall(r"\bmake ([a-z]+)", "\n".join(code)))
    assert commands and commands <= targets()
    for module in set(re.findall(r"python -m ([\w.]+)", text)):
        assert importlib.util.find_spec(module), f"python -m {module}"


@pytest.mark.parametrize("name", ["README.md", "CONTRIBUTING.md"])
def test_links_to_files_lead_somewhere(name):
    for target in re.findall(r"\]\(([^)#\s]+)[^)]*\)", (ROOT / name).read_text()):
        if not re.match(r"\w+:", target):
            assert (ROOT / target).exists(), f"{name} links to {target}"


def test_the_readme_has_the_two_commands_and_pictures_with_alt_texts():
    text = (ROOT / "README.md").read_text()
    assert "make tutorial" in text and "make test" in text
    assert not re.search(r"!\[\s*\]\(", text), "a picture without alt text"


def test_the_license_is_apache_2():
    text = (ROOT / "LICENSE").read_text()
    assert "Apache License" in text and "Version 2.0, January 2004" in text
    assert "END OF TERMS AND CONDITIONS" in text
    assert PROJECT["license"] == {"text": "Apache-2.0"}


def test_the_citation_names_this_work_and_the_paper():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
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


# ------------------------------------------------------------------ make and CI

needs_make = pytest.mark.skipif(
    shutil.which("make") is None or shutil.which("bash") is None, reason="needs make and bash"
)

FAKE_PYTHON = """\
#!/usr/bin/env bash
# Stands for a Python: answers the questions of the Makefile, installs nothing.
echo "python $*" >> "$FAKE_LOG"
case "$1" in
  --version) echo "Python $FAKE_VERSION" ;;
  -c) [ "$FAKE_VERSION" != 3.9.2 ] ;;
  -m) case "$2" in
        venv) mkdir -p .venv/bin && cp "$0" .venv/bin/python ;;
        pip) [ "$3" = --version ] || [ -z "$FAKE_PIP_FAILS" ] ;;
      esac ;;
esac
"""


@pytest.fixture
def make(tmp_path):
    """Call make in a bare copy, with a stand-in for Python: returns (exit code, output, log)."""
    for name in ("Makefile", "pyproject.toml", "constraints.txt"):
        shutil.copy(ROOT / name, tmp_path)
    fake = tmp_path / "bin" / "fakepython"
    fake.parent.mkdir()
    fake.write_text(FAKE_PYTHON)
    fake.chmod(0o755)

    def call(*arguments, version="3.12.1", pip_fails=False):
        log = tmp_path / "log"
        log.write_text("")
        environment = {
            "PATH": f"{fake.parent}{os.pathsep}{os.environ['PATH']}",
            "FAKE_LOG": str(log),
            "FAKE_VERSION": version,
            "FAKE_PIP_FAILS": "1" if pip_fails else "",
        }
        done = subprocess.run(
            ["make", *arguments],
            cwd=tmp_path,
            env=environment,
            capture_output=True,
            text=True,
            timeout=60,
        )
        return done.returncode, done.stdout + done.stderr, log.read_text()

    call.folder = tmp_path
    return call


@needs_make
def test_make_installs_once_and_again_when_the_requirements_change(make):
    code, _, log = make("test", "PYTHON=fakepython")
    assert code == 0
    assert "-m venv --clear .venv" in log
    assert "-m pip install --quiet -c constraints.txt -e .[notebooks,test]" in log
    assert log.rstrip().endswith("-m pytest")
    code, _, log = make("test", "PYTHON=fakepython")
    assert code == 0 and "install" not in log, "installed a second time"
    later = (make.folder / ".venv" / ".installed").stat().st_mtime + 5
    os.utime(make.folder / "pyproject.toml", (later, later))
    _, _, log = make("test", "PYTHON=fakepython")
    assert "pip install" in log and "venv --clear" not in log


@needs_make
def test_a_broken_installation_is_done_again(make):
    code, _, _ = make("test", "PYTHON=fakepython", pip_fails=True)
    assert code != 0 and not (make.folder / ".venv" / ".installed").exists()
    code, _, log = make("test", "PYTHON=fakepython")
    assert code == 0 and "pip install" in log


@needs_make
def test_a_python_too_old_is_named_with_what_to_do(make):
    code, output, log = make("tutorial", "PYTHON=fakepython", version="3.9.2")
    assert code != 0 and "pip install" not in log
    assert "Python 3.11, 3.12 or 3.13 is needed" in output
    assert "fakepython, Python 3.9.2" in output
    assert "make tutorial PYTHON=" in output


@needs_make
@pytest.mark.parametrize(
    ("target", "command"),
    [
        ("tutorial", "-m tools.notebooks tutorial"),
        ("notebooks", "-m tools.notebooks refresh"),
        ("lab", "-m jupyter lab --notebook-dir=notebooks"),
        ("lint", "-m ruff check ."),
    ],
)
def test_targets_call_what_they_say(make, target, command):
    code, _, log = make(target, "PYTHON=fakepython")
    assert code == 0 and f"python {command}" in log


@needs_make
def test_make_help_names_every_target(make):
    code, output, log = make("help")
    assert code == 0 and log == ""
    for target in targets():
        assert f"make {target}" in output
    assert {"tutorial", "test", "lab", "notebooks", "lint", "clean", "help"} <= targets()


@needs_make
def test_ci_calls_make_test_with_the_real_pairs_beside_the_repository(tmp_path):
    checkout = tmp_path / "checkout"
    (checkout / ".ci").mkdir(parents=True)
    shutil.copy(ROOT / ".ci" / "run", checkout / ".ci" / "run")
    (checkout / "Makefile").write_text(
        "test:\n\t@echo data=$$LDF_DATA_DIR weights=$$LDF_WEIGHTS_DIR; exit $${CODE:-0}\n"
    )
    environment = {
        name: value for name, value in os.environ.items() if not name.startswith(("LDF_", "MAKE"))
    }

    def ci(**extra):
        return subprocess.run(
            ["bash", ".ci/run"],
            cwd=checkout,
            env={**environment, **extra},
            capture_output=True,
            text=True,
        )

    assert ci().stdout == "data= weights=\n", "without the folder nothing is set"
    (tmp_path / "shared" / "data").mkdir(parents=True)
    assert ci().stdout == f"data={tmp_path.resolve()}/shared/data weights=\n"
    (tmp_path / "shared" / "weights").mkdir()
    assert ci().stdout.endswith(f"weights={tmp_path.resolve()}/shared/weights\n")
    assert ci(CODE="3").returncode != 0, "a failing test fails CI"
    assert os.access(ROOT / ".ci" / "run", os.X_OK)


def test_workflows_run_the_same_commands():
    workflows = {
        path.stem: yaml.safe_load(path.read_text())
        for path in (ROOT / ".github" / "workflows").glob("*.yml")
    }
    steps = {
        name: [step.get("run", "") for job in flow["jobs"].values() for step in job["steps"]]
        for name, flow in workflows.items()
    }
    assert "bash .ci/run" in steps["test"] and "make tutorial" in steps["tutorial"]
    matrix = workflows["test"]["jobs"]["test"]["strategy"]["matrix"]["python"]
    assert set(matrix) <= set(PYTHONS) and {"3.11", "3.13"} <= set(matrix)
    on = workflows["tutorial"].get("on", workflows["tutorial"].get(True))  # YAML reads on as true
    assert on["schedule"]


def test_binder_installs_the_package_and_stops_at_the_first_error():
    script = (ROOT / "postBuild").read_text()
    assert re.search(r"^set -e", script, flags=re.MULTILINE)
    assert "pip install" in script and "--no-deps" in script
    assert os.access(ROOT / "postBuild", os.X_OK)
    assert not (ROOT / "binder").exists(), "a binder folder would hide environment.yml"


def test_supported_pythons_agree():
    assert Version(PROJECT["requires-python"].removeprefix(">=")) == Version(PYTHONS[0])
    makefile = (ROOT / "Makefile").read_text()
    low, high = (tuple(map(int, PYTHONS[i].split("."))) for i in (0, -1))
    assert f"{low} <= sys.version_info[:2] <= {high}" in makefile
