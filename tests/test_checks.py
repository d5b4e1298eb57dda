"""Checks: verdicts that help, answers right and wrong, records of a run."""

import json
import math
import sys
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch.nn.functional import cosine_similarity, normalize

from ldf_utils.data.images import luminance
from ldf_utils.data.scenes import open_sets, render
from ldf_utils.notebook import exercises, run_record
from ldf_utils.training.config import TrainConfig
from ldf_utils.training.schedule import learning_rate

# ------------------------------------------------------------------ verdicts


@exercises.exercise("Add one")
def check_add_one(answer, number):
    yield exercises.expect_shape("the sum", answer(number), ())
    yield exercises.expect_close("the sum", answer(number), number + 1, hint="add one")


def test_a_right_answer_is_praised(capsys):
    verdict = check_add_one(lambda x: x + 1, 2.0)
    assert verdict and verdict.hint is None
    assert capsys.readouterr().out == "Well done: Add one.\n"


@pytest.mark.parametrize(
    ("answer", "hint"),
    [
        (..., "in place of the three dots"),
        (None, "in place of the three dots"),
        (lambda x: x, "found 2, expected 3; add one"),
        (lambda x: torch.tensor([x]), "has shape (1,); expected ()"),
        (lambda x: "three", "is a str; expected a tensor"),
        (lambda x: math.nan, "not finite"),
        (lambda x: 1 / 0, "raised ZeroDivisionError: division by zero"),
        (lambda: 1, "raised TypeError"),
    ],
)
def test_a_wrong_answer_gets_one_hint_and_no_exception(answer, hint, capsys):
    verdict = check_add_one(answer, 2.0)
    assert not verdict and hint in verdict.hint
    printed = capsys.readouterr().out
    assert printed.startswith("Not yet: Add one.\n  ") and hint in printed


def test_only_the_first_hint_is_shown():
    @exercises.exercise("Two faults")
    def check(answer):
        yield exercises.expect(False, "the first")
        yield exercises.expect(False, "the second")

    assert check(0).hint == "the first"


def test_a_verdict_shows_nothing_twice_in_a_notebook():
    assert exercises.Verdict("a")._ipython_display_() is None


def test_expectations():
    assert exercises.expect(True, "x") is None and exercises.expect(False, "x") == "x"
    assert exercises.expect_close("a", torch.ones(3), torch.ones(3)) is None
    found = exercises.expect_close("a", torch.tensor([1.0, 5.0]), torch.tensor([1.0, 2.0]))
    assert found == "a: found 5, expected 2 (at the largest difference, element 1)"
    assert exercises.expect_close("a", 1.0005, 1.0, tolerance=1e-3) is None
    assert exercises.expect_between("a", 3, 1, 2, "hint") == "a is 3; expected 1 to 2; hint"
    assert exercises.expect_between("a", 1.5, 1, 2) is None


# ------------------------------------------------------------------ exercises


def direction_loss(image_infrared, image_visible, text_infrared, text_visible):
    cosine_infrared = cosine_similarity(image_infrared, text_infrared, dim=0)
    cosine_visible = cosine_similarity(image_visible, text_visible, dim=0)
    return 0.5 * (1 - cosine_infrared) + 0.5 * (1 - cosine_visible)


def angle_loss(fused, infrared, visible):
    cosines = cosine_similarity(fused, infrared, dim=0), cosine_similarity(fused, visible, dim=0)
    return 1 - 0.5 * sum(cosines)


def schedule(step, steps, warmup):
    config = TrainConfig(steps=steps, warmup=warmup / steps, learning_rate=1.0)
    return learning_rate(step, config)


def noisy(infrared, visible):
    noise = torch.randn(visible.shape, generator=torch.Generator().manual_seed(0))
    return (visible + 0.3 * noise).clamp(0, 1)


def right_fusion(infrared, visible):
    """Bright and sharp, and right: no cheat."""
    return render(3, (96, 128), seed=1, time="night").oracle


RIGHT = {
    "check_weighted_average": lambda i, v, weight: weight * i + (1 - weight) * v,
    "check_recolor": lambda visible, fused: (visible + fused - luminance(visible)).clamp(0, 1),
    "check_zero_shot": lambda image, texts: int((normalize(texts, dim=1) @ image).argmax()),
    "check_modality_gap": lambda p, s: (p.mean(0) - s.mean(0)).norm(),
    "check_direction_loss": direction_loss,
    "check_preferred_rule": "maximum",
    "check_angle_loss": angle_loss,
    "check_entropy_threshold": 5.25,
    "check_prediction": {"brightness": "down", "sharpness": "up"},
    "check_schedule": schedule,
    "check_share": lambda pairs, rank, count: [
        k % pairs for k in range(rank, -(-pairs // count) * count, count)
    ],
    "check_ring": lambda parameters, processes: 8 * parameters * (processes - 1) / processes,
    "check_standard_deviation": lambda picture: picture.std(correction=0),
    "check_cheating_rule": noisy,
}

# What a notebook has measured and hands to the check along with the answer.
GIVEN = {
    "check_preferred_rule": {"cosines": {"average": -0.1, "maximum": 0.2, "pyramid": 0.1}},
    "check_entropy_threshold": {
        "infrared_bits": torch.linspace(4, 7, 64),
        "visible_bits": torch.linspace(3.5, 7, 64),
        "share": 0.5,
    },
    "check_prediction": {
        "before": {"brightness": 0.5, "sharpness": 9.0},
        "after": {"brightness": 0.3, "sharpness": 9.5},
    },
}

WRONG = [
    ("check_weighted_average", lambda i, v, w: (1 - w) * i + w * v, "share of the infrared"),
    ("check_weighted_average", lambda i, v, w: w * i + v, "do not add up"),
    ("check_weighted_average", torch.maximum, "TypeError"),
    ("check_recolor", lambda v, f: v + f, "old luminance is still in it"),
    ("check_recolor", lambda v, f: v * f / luminance(v), "scales the chroma"),
    ("check_recolor", lambda v, f: f.expand(3, -1, -1), "gray"),
    ("check_recolor", lambda v, f: v + f - v.mean(0, keepdim=True), "no plain mean"),
    ("check_recolor", lambda v, f: v + f - luminance(v), "clamp"),
    ("check_recolor", lambda v, f: ..., "in place of the three dots"),
    ("check_zero_shot", lambda image, texts: int((texts @ image).argmax()), "longest"),
    ("check_zero_shot", lambda image, texts: int((texts @ image).argmin()), "farthest"),
    ("check_zero_shot", lambda image, texts: texts @ image, "one index"),
    ("check_modality_gap", lambda p, s: p.mean(0) - s.mean(0), "its length"),
    ("check_modality_gap", lambda p, s: (p.mean(0) - s.mean(0)).square().sum(), "the root"),
    ("check_modality_gap", lambda p, s: torch.cdist(p, s).mean(), "means first"),
    ("check_modality_gap", lambda p, s: 1 - (p @ s.T).mean(), "mean cosine"),
    ("check_modality_gap", lambda p, s: RIGHT["check_modality_gap"](p, s) + 1, "the gap: found"),
    ("check_direction_loss", lambda a, b, c, d: 2 * direction_loss(a, b, c, d), "one half"),
    ("check_direction_loss", lambda a, b, c, d: direction_loss(a, b, d, c), "same source"),
    ("check_direction_loss", lambda a, b, c, d: 1 - direction_loss(a, b, c, d), "mean cosine"),
    ("check_preferred_rule", "median", "expected one of average, maximum, pyramid"),
    ("check_preferred_rule", 1, "expected one of"),
    ("check_preferred_rule", "average", "came 3 of 3, with -0.100; 'maximum' had +0.200"),
    ("check_angle_loss", lambda f, i, v: 2 * angle_loss(f, i, v), "one half"),
    ("check_angle_loss", lambda f, i, v: 1 - angle_loss(f, i, v), "mean cosine"),
    ("check_entropy_threshold", 5.5, "in both sources"),
    ("check_entropy_threshold", 6.9, "lower the threshold"),
    ("check_entropy_threshold", 80.0, "expected 0 to 8"),
    ("check_entropy_threshold", "half", "ValueError"),
    ("check_prediction", {"brightness": "down"}, "with the keys"),
    ("check_prediction", {"brightness": "lower", "sharpness": "up"}, "'up' or 'down'"),
    ("check_prediction", {"brightness": "up", "sharpness": "up"}, "brightness went down"),
    ("check_schedule", lambda step, steps, warmup: 1.0, "does not rise"),
    ("check_schedule", lambda step, steps, warmup: min(1.0, (step + 1) / warmup), "last step"),
    ("check_schedule", lambda step, steps, warmup: 2.0, "expected 0 to 1"),
    ("check_share", lambda pairs, rank, count: range(rank, pairs, count), "twice"),
    ("check_share", lambda pairs, rank, count: range(pairs), "evenly"),
    ("check_share", lambda pairs, rank, count: range(rank, pairs + 1, count), "numbered from 0"),
    ("check_share", lambda pairs, rank, count: [rank] * (pairs // count), "nobody has"),
    ("check_ring", lambda parameters, n: 2 * parameters * (n - 1) / n, "4 bytes"),
    ("check_ring", lambda parameters, n: 4 * parameters * (n - 1) / n, "one way"),
    ("check_ring", lambda parameters, n: 8 * parameters * (n - 1), "all processes"),
    ("check_ring", lambda parameters, n: 8 * parameters, "not 2 N"),
    ("check_standard_deviation", lambda picture: picture.std(), "one less"),
    ("check_standard_deviation", lambda picture: picture.var(correction=0), "root"),
    ("check_cheating_rule", lambda i, v: (i + v) / 2, "wins no metric yet; it is nearest in"),
    ("check_cheating_rule", lambda i, v: v[0], "has shape"),
    ("check_cheating_rule", lambda i, v: 2 * v, "clamp"),
    ("check_cheating_rule", right_fusion, "not a cheat"),
]


@pytest.mark.parametrize("name", RIGHT)
def test_right_answers_pass(name):
    verdict = getattr(exercises, name)(RIGHT[name], **GIVEN.get(name, {}))
    assert verdict, verdict.hint


@pytest.mark.parametrize(("name", "answer", "hint"), WRONG)
def test_wrong_answers_get_the_hint_that_fits(name, answer, hint):
    verdict = getattr(exercises, name)(answer, **GIVEN.get(name, {}))
    assert not verdict and hint in verdict.hint, verdict.hint


def test_every_exercise_has_answers_here():
    known = {name for name in dir(exercises) if name.startswith("check_")}
    assert known == set(RIGHT) == {name for name, _, _ in WRONG}


@pytest.mark.parametrize("name", RIGHT)
def test_an_open_exercise_stops_nothing(name, capsys):
    assert not getattr(exercises, name)(...)
    assert "three dots" in capsys.readouterr().out


# ------------------------------------------------------------------ records


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
    with pytest.raises(ValueError, match="metric 'EN' is (nan|inf); a run that computes this"):
        run_record.record_metrics("04_training", EN=value)
    assert not (run / "metrics.json").exists()


def test_a_metric_that_is_no_number_is_named(run):
    with pytest.raises(ValueError, match=r"metric 'EN\.a'.*found list"):
        run_record.record_metrics("04_training", EN={"a": [1, 2]})
    with pytest.raises(ValueError, match="at least one number"):
        run_record.record_metrics("04_training")


def test_a_damaged_record_is_named(run):
    run.mkdir()
    (run / "metrics.json").write_text("{")
    with pytest.raises(ValueError, match=r"metrics\.json: no JSON"):
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
    monkeypatch.delenv("LDF_DATA_DIR", raising=False)
    sets = open_sets(count=1, size=(32, 32))
    assert sets["GeneratedDay"].folder.is_relative_to(checkout / "runs" / "tutorial" / "scenes")
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
    assert run_record.environment()["pairs"] == "generated"
    monkeypatch.setattr(exercises.torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(exercises.torch.cuda, "get_device_name", lambda: "a large GPU")
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
