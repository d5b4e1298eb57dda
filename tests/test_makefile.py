"""What a user meets with make: installation, the targets, and the same commands in CI."""

import importlib.metadata
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

ROOT = Path(__file__).resolve().parent.parent
PYTHONS = ("3.11", "3.12", "3.13", "3.14")

needs_make = pytest.mark.skipif(
    sys.platform == "win32" or shutil.which("make") is None or shutil.which("bash") is None,
    reason="needs make and bash",
)

FAKE_PYTHON = """\
#!/usr/bin/env bash
# Stands for a Python: answers the questions of the installation, installs nothing.
echo "python $*" >> "$FAKE_LOG"
case "$1" in
  --version) echo "Python $FAKE_VERSION" ;;
  -c) [ "$FAKE_VERSION" != 3.9.2 ] ;;
  -m) case "$2" in
        venv) mkdir -p .venv/bin && cp "$0" .venv/bin/python ;;
        uv) [ -z "$FAKE_UV_FAILS" ] ;;
        pip) [ "$3" = --version ] || [ -z "$FAKE_PIP_FAILS" ] ;;
      esac ;;
esac
"""
INSTALL = "-m pip install --constraint constraints.txt -e .[notebooks,test,video,onnx,cameras]"


def targets() -> set[str]:
    """The targets of the Makefile that a user calls."""
    return set(
        re.findall(
            r"^([a-z]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), flags=re.MULTILINE
        )
    )


@pytest.fixture
def make(tmp_path):
    """Call make in a bare copy, with a stand-in for Python: returns (exit code, output, log)."""
    (tmp_path / "tools").mkdir()
    for name in ("Makefile", "pyproject.toml", "constraints.txt", "tools/install.sh"):
        shutil.copy(ROOT / name, tmp_path / name)
    fake = tmp_path / "bin" / "fakepython"
    fake.parent.mkdir()
    fake.write_text(FAKE_PYTHON)
    fake.chmod(0o755)

    def call(*arguments, version="3.12.1", pip_fails=False, uv_fails=False):
        log = tmp_path / "log"
        log.write_text("")
        environment = {
            "PATH": f"{fake.parent}{os.pathsep}{os.environ['PATH']}",
            "FAKE_LOG": str(log),
            "FAKE_VERSION": version,
            "FAKE_PIP_FAILS": "1" if pip_fails else "",
            "FAKE_UV_FAILS": "1" if uv_fails else "",
        }
        done = subprocess.run(
            ["make", *arguments],
            cwd=tmp_path,
            env=environment,
            capture_output=True,
            text=True,
            timeout=60,
        )
        return done.returncode, done.stdout + done.stderr, log.read_text(encoding="utf-8")

    call.folder = tmp_path
    return call


@needs_make
def test_it_installs_once_and_again_when_the_requirements_change(make):
    code, output, log = make("test", "PYTHON=fakepython")
    assert code == 0
    assert "-m venv --clear .venv" in log and INSTALL in log
    assert log.rstrip().splitlines()[-1].startswith("python -m pytest")
    assert [line[:3] for line in output.splitlines() if line[1:3] == "/3"] == ["1/3", "2/3", "3/3"]
    code, _, log = make("test", "PYTHON=fakepython")
    assert code == 0 and "install" not in log, "installed a second time"
    later = (make.folder / ".venv" / ".installed").stat().st_mtime + 5
    os.utime(make.folder / "pyproject.toml", (later, later))
    _, _, log = make("test", "PYTHON=fakepython")
    assert INSTALL in log and "venv --clear" not in log


@needs_make
def test_a_broken_installation_is_done_again(make):
    code, _, _ = make("test", "PYTHON=fakepython", pip_fails=True)
    assert code != 0 and not (make.folder / ".venv" / ".installed").exists()
    code, _, log = make("test", "PYTHON=fakepython")
    assert code == 0 and INSTALL in log


@needs_make
def test_a_python_too_old_is_named_with_what_to_do(make):
    code, output, log = make("tutorial", "PYTHON=fakepython", version="3.9.2")
    assert code != 0 and "pip install" not in log
    assert "Python 3.11, 3.12, 3.13 or 3.14 is needed" in output
    assert "fakepython, Python 3.9.2" in output
    assert "make tutorial PYTHON=" in output


@needs_make
@pytest.mark.skipif(
    sys.platform != "linux"
    or any(Path(name).exists() for name in ("/dev/kfd", "/proc/driver/nvidia/version"))
    or shutil.which("nvidia-smi") is not None,
    reason="needs Linux without a GPU",
)
def test_without_a_gpu_the_cpu_build_of_torch_is_taken_where_it_can_be_had(make):
    code, output, log = make("install", "PYTHON=fakepython")
    assert code == 0 and "No GPU seen: taking the CPU build of torch" in output
    assert "cannot be had" not in output
    before, _, after = log.partition("--constraint constraints.txt torch torchvision")
    assert "--torch-backend=cpu" in before and INSTALL in after

    (make.folder / ".venv" / ".installed").unlink()
    code, output, log = make("install", "PYTHON=fakepython", uv_fails=True)
    assert code == 0 and INSTALL in log
    assert "It cannot be had here: going on with the default build of torch" in output
    # The wheels of CUDA one by one, each with its version and system: together they fill a disk.
    singly = [line for line in log.splitlines() if " --no-deps " in line]
    wanted = re.findall(
        r"^(?:nvidia-.*|triton=.*|torch=.*)$",
        (ROOT / "constraints.txt").read_text(encoding="utf-8"),
        flags=re.MULTILINE,
    )
    assert len(wanted) > 10 and [line.partition("--no-deps ")[2] for line in singly] == wanted


@needs_make
def test_the_tutorial_begins_with_the_tour_unless_other_pairs_are_named(make):
    for chosen in ("", "real", "rendered"):
        arguments = [f"DATA={chosen}"] if chosen else []
        code, _, log = make("tutorial", "PYTHON=fakepython", *arguments)
        wanted = f"tools.notebooks tutorial --data {chosen or 'tour'} --jobs 2"
        assert code == 0 and log.rstrip().endswith(wanted)
    code, output, log = make("tutorial", "PYTHON=fakepython", "DATA=mine")
    assert code != 0 and 'got "mine"' in output and "LDF_DATA_DIR" in output and log == ""


@needs_make
def test_help_names_every_target(make):
    code, output, log = make("help")
    assert code == 0 and log == ""
    for target in targets():
        assert f"make {target}" in output
    wanted = {"install", "tutorial", "test", "quick", "types", "lab", "notebooks", "lint", "help"}
    assert wanted <= targets()


@needs_make
def test_lab_writes_where_the_tutorial_does(make):
    code, output, log = make("lab", "PYTHON=fakepython")
    assert code == 0 and "-m jupyter lab --notebook-dir=notebooks" in log
    assert ("--allow-root" in log) == ("--allow-root" in output) == (os.geteuid() == 0)
    (make.folder / "bin" / "fakepython").write_text('#!/bin/sh\necho "runs=$LDF_RUN_DIR"\n')
    shutil.copy(make.folder / "bin" / "fakepython", make.folder / ".venv" / "bin" / "python")
    _, output, _ = make("lab", "PYTHON=fakepython")
    assert f"runs={make.folder.resolve()}/runs/tutorial" in output


# ------------------------------------------------------------------ CI


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


@pytest.fixture(scope="module")
def workflows() -> dict:
    """The workflows by name."""
    folder = ROOT / ".github" / "workflows"
    return {
        path.stem: yaml.safe_load(path.read_text(encoding="utf-8")) for path in folder.glob("*.yml")
    }


def commands(job: dict) -> str:
    """The commands of a job, one after the other."""
    return "\n".join(step.get("run", "") for step in job["steps"])


def test_ci_looks_at_style_and_types_first_and_at_every_python_and_system(workflows):
    jobs = workflows["test"]["jobs"]
    assert {"make lint", "make types"} <= set(commands(jobs["lint"]).splitlines())
    assert jobs["lint"]["timeout-minutes"] <= 15
    for name in set(jobs) - {"lint"}:
        assert jobs[name]["needs"] == "lint", name
    matrix = jobs["unit"]["strategy"]["matrix"]
    assert set(matrix["python"]) == set(PYTHONS)
    systems = {matrix["os"][0], *(entry["os"] for entry in matrix["include"])}
    assert systems == {"ubuntu-latest", "macos-latest", "windows-latest"}
    assert '-m "not notebook"' in commands(jobs["unit"])
    assert "-m notebook" in commands(jobs["notebooks"])


def test_newest_and_lowest_versions_are_tried_every_week(workflows):
    flow = workflows["versions"]
    on = flow.get("on", flow.get(True))  # YAML reads on as true
    assert on["schedule"]
    assert "--resolution lowest-direct" in commands(flow["jobs"]["lowest"])
    assert "--upgrade" in commands(flow["jobs"]["newest"])
    assert "constraints" not in commands(flow["jobs"]["lowest"]) + commands(flow["jobs"]["newest"])


def test_the_commands_of_the_readme_are_run_every_week(workflows):
    flow = workflows["tutorial"]
    assert flow.get("on", flow.get(True))["schedule"]
    assert "make tutorial" in commands(flow["jobs"]["tutorial"])
    assert "bash .ci/run" in commands(flow["jobs"]["test"])


def test_the_site_the_browser_and_colab_are_run_by_workflows(workflows):
    assert "python -m tools.site site" in commands(workflows["site"]["jobs"]["site"])
    assert workflows["site"]["permissions"]["pages"] == "write"
    flow = workflows["browser"]
    assert flow.get("on", flow.get(True))["schedule"]
    assert flow["jobs"]["browser"]["env"]["LDF_BROWSER_NOTEBOOKS"] == "all"
    assert "tests/test_browser.py" in commands(flow["jobs"]["browser"])
    job = workflows["versions"]["jobs"]["colab"]
    assert job["env"]["LDF_COLAB_PYTHON"] and "tests/test_colab.py" in commands(job)
    assert "tests/data/colab.txt" in commands(job)


def test_the_check_of_addresses_installs_what_the_downloads_need(workflows):
    """No torch for a download; what is loaded belongs to the packages that the job installs."""
    (install,) = re.findall(
        r"^pip install (.+)$", commands(workflows["links"]["jobs"]["links"]), re.M
    )
    needed = set(map(canonicalize_name, install.split()))
    for name in sorted(needed):
        lines = map(Requirement, importlib.metadata.requires(name) or [])
        needed |= {canonicalize_name(line.name) for line in lines}
    code = (
        "import data_download.__main__, sys; print(*{name.split('.')[0] for name in sys.modules})"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    owners = importlib.metadata.packages_distributions()
    loaded = {canonicalize_name(owners[name][0]) for name in done.stdout.split() if name in owners}
    own = canonicalize_name("language-driven-fusion-tutorial")
    assert {"pooch", "requests"} <= loaded
    assert loaded - needed <= {
        own,
        "certifi",
        "urllib3",
        "idna",
        "charset-normalizer",
        "setuptools",
    }


def test_a_release_is_built_from_a_tag_that_equals_the_version(workflows):
    steps = commands(workflows["release"]["jobs"]["release"])
    assert "python -m build" in steps and "GITHUB_REF_NAME" in steps and "gh release" in steps


def test_supported_pythons_agree():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert Version(project["requires-python"].removeprefix(">=")) == Version(PYTHONS[0])
    low, high = (tuple(map(int, PYTHONS[i].split("."))) for i in (0, -1))
    script = (ROOT / "tools" / "install.sh").read_text(encoding="utf-8")
    assert f"{low} <= sys.version_info[:2] <= {high}" in script
    named = f"Python {', '.join(PYTHONS[:-1])} or {PYTHONS[-1]} is needed"
    assert named in script
