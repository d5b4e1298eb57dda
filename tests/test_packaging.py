"""Dependencies and what is built: the lock, conda's list, Binder, and the files of the package."""

import ast
import importlib.metadata
import os
import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

import ldf_utils

ROOT = Path(__file__).resolve().parent.parent
SETTINGS = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
PROJECT = SETTINGS["project"]
PYTHONS = ("3.11", "3.12", "3.13", "3.14")

# What conda-forge calls a package, where it differs.
CONDA_NAMES = {
    "torch": "pytorch-cpu",
    "matplotlib": "matplotlib-base",
    "opencv-python-headless": "opencv",
    "open_clip_torch": "open-clip-torch",
}


def requirements(*groups: str) -> dict[str, Requirement]:
    """The requirements of the project and of groups of optional ones, by name."""
    lines = list(PROJECT["dependencies"])
    for group in groups:
        lines += PROJECT["optional-dependencies"][group]
    return {requirement.name: requirement for requirement in map(Requirement, lines)}


def pins() -> dict[str, list[Requirement]]:
    """The lines of the lock by canonical name; a package may have one line for each Python."""
    found: dict[str, list[Requirement]] = {}
    for line in (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines():
        if line and not line.startswith("#"):
            pin = Requirement(line)
            found.setdefault(canonicalize_name(pin.name), []).append(pin)
    return found


def test_the_lock_pins_every_direct_dependency_within_its_range():
    locked = pins()
    for pin in (pin for lines in locked.values() for pin in lines):
        (specifier,) = pin.specifier
        assert specifier.operator == "==" and pin.url is None
    for name, wanted in requirements("notebooks", "test", "dev", "world", "video", "onnx").items():
        for pin in locked.get(canonicalize_name(name), []):
            (specifier,) = pin.specifier
            assert specifier.version in wanted.specifier, f"{pin} is not in {wanted}"
        assert canonicalize_name(name) in locked, f"{name} is not locked: make lock"


def test_the_lock_is_transitive():
    """Whatever the installed packages of the tutorial require here is in the lock."""
    locked = pins()
    if (
        str(locked["torch"][0].specifier)
        != f"=={importlib.metadata.version('torch')}".split("+")[0]
    ):
        pytest.skip("other versions than those of the lock are installed")
    todo = list(requirements("notebooks", "test", "video", "onnx", "cameras").values())
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


def test_pre_commit_uses_the_locked_linter():
    settings = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text(encoding="utf-8"))
    hooks = [hook for repository in settings["repos"] for hook in repository["hooks"]]
    assert len(hooks) == 2
    for hook in hooks:
        assert hook["additional_dependencies"] == [str(pins()["ruff"][0])]


def test_the_conda_environment_lists_the_same_packages():
    environment = yaml.safe_load((ROOT / "environment.yml").read_text(encoding="utf-8"))
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
        for name, requirement in requirements("notebooks", "video", "cameras").items()
    }
    assert found == wanted


def imported(path: Path) -> set[str]:
    """The first names of the modules that a file imports, wherever in it."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {name.name.split(".")[0] for name in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            found.add(node.module.split(".")[0])
    return found


@pytest.mark.parametrize(
    ("package", "groups"),
    [
        ("ldf_utils", ("video", "onnx", "cameras")),
        ("data_download", ("video",)),
        ("tools", ("notebooks",)),
        ("experiments", ("notebooks", "test", "world")),
    ],
)
def test_what_is_imported_is_required(package, groups):
    """Every third-party module is one that pyproject.toml asks for."""
    provided = {"PIL": "pillow", "open_clip": "open_clip_torch", "IPython": "ipywidgets"}
    provided |= {"skimage": "scikit-image", "yaml": "pyyaml", "drjit": "mitsuba"}
    provided |= {"cycler": "matplotlib", "pygments": "nbconvert"}
    provided |= {"nbclient": "nbconvert", "nbformat": "nbconvert", "traitlets": "nbconvert"}
    allowed = set(requirements(*groups)) | {"ldf_utils", "data_download"}
    if package in {"tools", "experiments"}:
        allowed |= {"tools", "experiments"}
    for path in (ROOT / package).rglob("*.py"):
        for name in imported(path) - sys.stdlib_module_names:
            known = provided.get(name, name) in allowed
            assert known, f"{path.name} imports {name}, which pyproject.toml does not require"


def can_build() -> bool:
    """Whether pip and a setuptools that knows the settings of pyproject.toml are installed."""
    versions = {d.metadata["Name"]: d.version for d in importlib.metadata.distributions()}
    return "pip" in versions and Version(versions.get("setuptools", "0")).major >= 77


@pytest.mark.slow
@pytest.mark.skipif(not can_build(), reason="needs pip, and setuptools 77 or newer")
def test_the_wheel_holds_the_packages_with_their_data_and_nothing_else(tmp_path):
    if not (ROOT / ".git").exists() or shutil.which("git") is None:
        pytest.skip("not a git checkout")
    source = tmp_path / "source"
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=True)
    tracked = [name for name in listed.stdout.decode().split("\0") if (ROOT / name).is_file()]
    for name in filter(None, tracked):
        (source / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(ROOT / name, source / name)
    command = "pip wheel --quiet --no-deps --no-build-isolation --wheel-dir".split()
    subprocess.run([sys.executable, "-m", *command, tmp_path, source], check=True)
    (wheel,) = tmp_path.glob("*.whl")
    assert f"-{ldf_utils.__version__}-" in wheel.name
    held = {name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name}
    packages = ("ldf_utils/", "data_download/")
    wanted = {name for name in tracked if name.startswith(packages)}
    assert held == wanted - {"data_download/README.md"}
    assert {"ldf_utils/py.typed", "data_download/py.typed"} <= held


def test_binder_installs_the_package_and_stops_at_the_first_error():
    script = (ROOT / "postBuild").read_text(encoding="utf-8")
    assert re.search(r"^set -e", script, flags=re.MULTILINE)
    assert "pip install" in script and "--no-deps" in script
    assert os.access(ROOT / "postBuild", os.X_OK)
    assert not (ROOT / "binder").exists(), "a binder folder would hide environment.yml"
