"""Evaluation: folders of results to rows, means, ranks, a table, a CSV file and an exit code."""

import csv
import math

import pytest
import torch

from ldf_utils import evaluation
from ldf_utils.evaluation import (
    EvaluationWarning,
    evaluate_set,
    format_table,
    mean_ranks,
    mean_rows,
)
from ldf_utils.images import PairFolder, write_image
from ldf_utils.metrics import METRICS, USUAL, measure

STEMS = ("a", "b", "c")


def average(pair):
    return (pair.infrared + pair.luminance) / 2


def flat(pair):
    return torch.full_like(pair.infrared, 0.5)


def write_set(folder, generator, size):
    """Three pairs and the results of two methods."""
    for index, stem in enumerate(STEMS):
        size = (size[0], size[1] + min(index, 1))
        infrared = torch.rand(1, *size, generator=generator)
        visible = torch.rand(3, *size, generator=generator)
        write_image(infrared, folder / "ir" / f"{stem}.png")
        write_image(visible, folder / "vi" / f"{stem}.png")
        write_image(infrared, folder / "fused_copy" / f"{stem}.png")
        write_image(visible * 0.5, folder / "fused_dim" / f"{stem}.png")


@pytest.fixture
def set_dir(tmp_path, generator):
    """A set of pictures large enough for the usual metrics."""
    write_set(tmp_path, generator, (48, 60))
    return tmp_path


def test_a_row_for_every_method_and_image(set_dir):
    rows = evaluate_set(PairFolder(set_dir), extra={"average": average}, progress=False)
    assert [(row["method"], row["image"]) for row in rows] == [
        (method, stem) for method in ("copy", "dim", "average") for stem in STEMS
    ]
    assert all(list(row) == ["method", "image", *USUAL] for row in rows)


def test_values_are_those_of_the_metrics(set_dir):
    pairs = PairFolder(set_dir)
    rows = evaluate_set(pairs, ["copy"], ["MI", "SD"], progress=False)
    for row, pair in zip(rows, pairs, strict=True):
        expected = measure(pair.infrared[None], pair.infrared[None], pair.luminance[None], USUAL)
        assert list(row) == ["method", "image", "MI", "SD"]
        assert row["MI"] == pytest.approx(expected["MI"].item(), rel=1e-12)
        assert row["SD"] == pytest.approx(expected["SD"].item(), rel=1e-12)


def test_a_function_measures_as_its_saved_pictures_would(set_dir):
    pairs = PairFolder(set_dir)
    for pair in pairs:
        write_image(average(pair), set_dir / "fused_saved" / f"{pair.name}.png")
    rows = evaluate_set(pairs, ["saved"], extra={"function": average}, progress=False)
    saved, function = rows[:3], rows[3:]
    for one, other in zip(saved, function, strict=True):
        assert {**one, "method": ""} == {**other, "method": ""}


def test_means_and_ranks(set_dir):
    rows = evaluate_set(
        PairFolder(set_dir), ["copy"], ["EN", "SD"], extra={"flat": flat}, progress=False
    )
    copy, constant = mean_rows(rows)
    assert copy["method"] == "copy" and copy["image"] == "mean"
    assert copy["EN"] == pytest.approx(sum(row["EN"] for row in rows[:3]) / 3)
    assert constant["EN"] == constant["SD"] == 0
    assert mean_ranks(rows) == {"copy": 1.0, "flat": 2.0}


def test_equal_values_share_a_rank():
    rows = [
        {"method": "a", "image": "1", "EN": 5.0, "SD": 3.0},
        {"method": "b", "image": "1", "EN": 5.0, "SD": 2.0},
        {"method": "c", "image": "1", "EN": 4.0, "SD": 4.0},
    ]
    assert mean_ranks(rows) == {"a": 1.75, "c": 2.0, "b": 2.25}


def test_ranks_compare_only_shared_images():
    rows = [
        {"method": "a", "image": "1", "EN": 5.0},
        {"method": "a", "image": "2", "EN": 0.0},
        {"method": "b", "image": "1", "EN": 4.0},
    ]
    assert mean_ranks(rows) == {"a": 1.0, "b": 2.0}
    with pytest.raises(ValueError, match="no image"):
        mean_ranks(rows[1:])


def test_published_means_of_two_methods(shared_dir):
    """The true means of DenseFuse and U2Fusion over 21 TNO pairs, from the table of ten rivals."""
    with open(shared_dir / "data" / "TNO" / "rivals_mean_01_21.csv", newline="") as file:
        published = {row["method"]: row for row in csv.DictReader(file)}
    names = list(USUAL)
    rows = evaluate_set(PairFolder(shared_dir / "data" / "TNO"), metrics=names, progress=False)
    for row in mean_rows(rows):
        for name in names:
            assert row[name] == pytest.approx(float(published[row["method"]][name]), rel=1e-6)


def test_missing_and_broken_results_are_reported_and_the_rest_is_measured(set_dir):
    (set_dir / "fused_copy" / "a.png").unlink()
    (set_dir / "fused_copy" / "b.png").write_bytes(b"not a picture")
    write_image(torch.rand(1, 10, 10), set_dir / "fused_dim" / "c.png")
    problems = []
    rows = evaluate_set(PairFolder(set_dir), on_problem=problems.append, progress=False)
    assert [(row["method"], row["image"]) for row in rows] == [
        ("copy", "c"),
        ("dim", "a"),
        ("dim", "b"),
    ]
    missing, broken, wrong = problems
    assert "fused_copy" in missing and "'a'" in missing and "no result" in missing
    assert "b.png" in broken and "not a picture" in broken
    assert "c.png is 10 x 10 pixels, its sources are 62 x 48" in wrong


def test_an_unreadable_source_is_reported_once(set_dir):
    (set_dir / "ir" / "b.png").write_bytes(b"")
    problems = []
    rows = evaluate_set(PairFolder(set_dir), on_problem=problems.append, progress=False)
    assert {row["image"] for row in rows} == {"a", "c"}
    (problem,) = problems
    assert "every method" in problem and "b.png" in problem


def test_a_metric_that_needs_a_larger_picture_is_reported(tmp_path, generator):
    write_set(tmp_path, generator, (20, 24))
    problems = []
    rows = evaluate_set(PairFolder(tmp_path), ["dim"], on_problem=problems.append, progress=False)
    assert len(problems) == 3 and "too small for VIF (from 41 x 41)" in problems[0]
    assert all(math.isnan(row["VIF"]) and row["SSIM"] > 0 for row in rows)
    (mean,) = mean_rows(rows)
    assert math.isnan(mean["VIF"]) and mean["SSIM"] > 0
    assert mean_ranks(rows) == {"dim": 1.0}
    assert "nan" in format_table(rows)


def test_by_default_a_problem_is_a_warning(set_dir):
    (set_dir / "fused_dim" / "a.png").unlink()
    with pytest.warns(EvaluationWarning, match="fused_dim"):
        evaluate_set(PairFolder(set_dir), progress=False)


def test_wrong_names_are_refused(set_dir):
    pairs = PairFolder(set_dir)
    with pytest.raises(ValueError, match="no folder fused_nobody; results are there of copy, dim"):
        evaluate_set(pairs, ["nobody"])
    with pytest.raises(ValueError, match="unknown metric"):
        evaluate_set(pairs, metrics=["nothing"])
    with pytest.raises(ValueError, match="both"):
        evaluate_set(pairs, extra={"dim": flat})
    with pytest.raises(ValueError, match="nothing to measure"):
        evaluate_set(pairs, [])


def test_a_function_must_keep_the_size(set_dir):
    problems = []
    rows = evaluate_set(
        PairFolder(set_dir),
        [],
        extra={"small": lambda pair: pair.infrared[..., ::2]},
        on_problem=problems.append,
        progress=False,
    )
    assert rows == [] and len(problems) == 3
    assert "shape (1, 48, 30)" in problems[0]


def test_table_marks_directions_and_the_best(set_dir):
    text = format_table(evaluate_set(PairFolder(set_dir), progress=False))
    head, first, _ = text.splitlines()
    for name in USUAL:
        assert METRICS[name].header in head
    assert first.startswith("copy") and "*" in first


def read(path):
    with open(path, newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_command_line_writes_the_table(set_dir, tmp_path, capsys):
    path = tmp_path / "new" / "table.csv"
    assert evaluation.main([str(set_dir), "--csv", str(path)]) == 0
    rows = read(path)
    assert list(rows[0])[:4] == ["method", "image", "EN", "SD"]
    assert [(row["method"], row["image"]) for row in rows] == [
        (method, image) for method in ("copy", "dim") for image in (*STEMS, "mean")
    ]
    assert float(rows[3]["SD"]) == pytest.approx(sum(float(row["SD"]) for row in rows[:3]) / 3)
    assert "EN [bit] ↑" in capsys.readouterr().out


def test_command_line_finishes_the_rest_and_exits_with_1(set_dir, tmp_path, capsys):
    (set_dir / "fused_copy" / "a.png").unlink()
    path = tmp_path / "table.csv"
    assert evaluation.main([str(set_dir), "--csv", str(path)]) == 1
    assert len(read(path)) == 5 + 2
    captured = capsys.readouterr()
    assert "fused_copy" in captured.err and "1 problem(s), 5 result(s)" in captured.err


def test_command_line_without_anything_to_measure_exits_with_2(tmp_path, capsys):
    assert evaluation.main([str(tmp_path / "nowhere")]) == 2
    assert "no such folder" in capsys.readouterr().err


def test_one_result_of_two_is_missing_among_real_pairs(shared_dir, capsys):
    """M3FD has a pair that LDFusion has no published result for."""
    assert evaluation.main([str(shared_dir / "data" / "M3FD")]) == 1
    captured = capsys.readouterr()
    assert captured.err.count("no result for the pair") == 1
    assert "LDFusion" in captured.out
