"""Records of a run: metrics, environment, paths, memory."""

import json
import math
import sys
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from ldf_utils.notebook import run_record


@pytest.fixture
def run(tmp_path, monkeypatch):
    monkeypatch.setenv("LDF_RUN_DIR", str(tmp_path / "run"))
    return tmp_path / "run"


def test_metrics_of_notebooks_are_merged(run, capsys):
    run_record.record_metrics("04_training", EN=torch.tensor(7.125), SD=np.float32(40.5), steps=300)
    run_record.record_metrics("05_evaluation", sets={"RoadScene": {"EN": 7.0}})
    records = json.loads((run / "metrics.json").read_text())
    assert records == {
        "04_training": {"metrics": {"EN": 7.125, "SD": 40.5, "steps": 300}},
        "05_evaluation": {"metrics": {"sets": {"RoadScene": {"EN": 7.0}}}},
    }
    printed = capsys.readouterr().out
    assert "EN: 7.125" in printed and "RoadScene EN 7" in printed
    assert str(run) not in printed, "no path of the machine in a published notebook"


def test_recording_again_replaces_the_notebook_own_numbers(run):
    run_record.record_metrics("04_training", EN=1.0, old=2.0)
    run_record.update_metrics(run, "04_training", seconds=3.0)
    run_record.record_metrics("04_training", EN=4.0)
    assert run_record.read_metrics(run)["04_training"] == {"metrics": {"EN": 4.0}, "seconds": 3.0}


@pytest.mark.parametrize("value", [math.nan, math.inf, torch.tensor(math.nan)])
def test_numbers_that_are_none_are_not_recorded(run, value):
    with pytest.raises(ValueError, match="metric 'EN' is (nan|inf); it must be finite"):
        run_record.record_metrics("04_training", EN=value)
    assert not (run / "metrics.json").exists()


def test_a_metric_that_is_no_number_is_named(run):
    with pytest.raises(ValueError, match=r"metric 'EN\.a'.*got list"):
        run_record.record_metrics("04_training", EN={"a": [1, 2]})
    with pytest.raises(ValueError, match="at least one number"):
        run_record.record_metrics("04_training")


def test_a_damaged_record_is_named(run):
    run.mkdir()
    (run / "metrics.json").write_text("{")
    with pytest.raises(ValueError, match=r"metrics\.json must be JSON"):
        run_record.read_metrics(run)


def test_the_run_folder(tmp_path, monkeypatch):
    monkeypatch.delenv("LDF_RUN_DIR", raising=False)
    checkout = tmp_path / "checkout"
    (checkout / "ldf_utils").mkdir(parents=True)
    (checkout / "pyproject.toml").touch()
    (checkout / "notebooks").mkdir()
    monkeypatch.chdir(checkout / "notebooks")
    assert run_record.run_dir() == checkout / "runs" / "tutorial"
    assert run_record.run_dir().is_dir()
    assert not (checkout / "notebooks" / "runs").exists()
    monkeypatch.setenv("LDF_RUN_DIR", str(tmp_path / "named"))
    assert run_record.run_dir() == tmp_path / "named"


def test_short_paths_tell_nothing_of_the_machine(run, tmp_path):
    assert run_record.short_path(run / "fused" / "TNO" / "a.png") == "fused/TNO/a.png"
    assert run_record.short_path("/data/sets/TNO") == "sets/TNO"
    assert run_record.short_path("/data") == "data"


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="the C library of Linux only")
def test_freed_memory_goes_back_to_the_system():
    def resident():
        with open("/proc/self/statm") as file:
            return int(file.read().split()[1])

    pieces = [bytearray(60_000) for _ in range(2000)]  # 120 MB in pieces that malloc keeps
    for piece in pieces:
        piece[::4096] = b"x" * len(piece[::4096])
    last = bytearray(60_000)  # above them on the heap, so that the heap cannot shrink by itself
    del pieces, piece
    before = resident()
    run_record.release_memory()
    assert resident() < before - 10_000, "10,000 pages are 40 MB"
    assert len(last) == 60_000


def test_the_environment_report(monkeypatch, capsys, tmp_path):
    monkeypatch.setenv("LDF_DATA_DIR", str(tmp_path / "data"))
    run_record.environment_report()
    printed = capsys.readouterr().out
    for part in (f"torch {torch.__version__}", "open_clip 3", "threads", "folder 'data'"):
        assert part in printed
    assert str(tmp_path) not in printed and printed.count("\n") == 2
    monkeypatch.delenv("LDF_DATA_DIR")
    assert run_record.environment()["pairs"] == "rendered"
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda: "a large GPU")
    assert run_record.environment()["accelerator"] == "a large GPU"


def test_metadata_of_a_missing_package(monkeypatch):
    def missing(name):
        raise run_record.importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(
        run_record,
        "importlib",
        SimpleNamespace(
            metadata=SimpleNamespace(
                version=missing,
                PackageNotFoundError=run_record.importlib.metadata.PackageNotFoundError,
            )
        ),
    )
    assert run_record.environment()["open_clip"] == "not installed"


def test_records_of_notebooks_that_run_side_by_side_are_all_kept(run):
    names = [f"{n:02d}" for n in range(24)]
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda name: run_record.update_metrics(run, name, seconds=1.0), names))
    assert sorted(run_record.read_metrics(run)) == names
