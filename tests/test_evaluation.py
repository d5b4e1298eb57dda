"""Evaluation: folders of results to rows, means, ranks, a table, a CSV file and an exit code."""

import csv
import math
import re
import shutil
from pathlib import Path

import pytest
import torch
from rendered_helpers import write_crops
from scipy import stats

from ldf_utils.data.images import luminance, read_image, write_image
from ldf_utils.data.pairs import PairFolder
from ldf_utils.data.truth import Truth
from ldf_utils.evaluation import (
    EvaluationWarning,
    compare_ranks,
    evaluate,
    evaluate_set,
    format_table,
    mean_intervals,
    mean_ranks,
    mean_rows,
    metric_agreement,
    report,
    write_report,
)
from ldf_utils.evaluation import __main__ as command
from ldf_utils.metrics import METRICS, TRUTH, USUAL, measure, measure_against_oracle
from ldf_utils.networks.checkpoint import load_network
from ldf_utils.training.distributed import Team

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


def published_rows(path):
    """The means of a published table, as rows of one image."""
    with open(path, newline="") as file:
        for row in csv.DictReader(file):
            yield {"method": row["method"], "image": "all"} | {
                name: float(row[name]) for name in USUAL
            }


def test_published_mean_ranks_of_ten_rivals(shared_dir):
    path = shared_dir / "data" / "TNO" / "rivals_mean_01_21.csv"
    with open(path, newline="") as file:
        published = {row["method"]: float(row["mean_rank"]) for row in csv.DictReader(file)}
    assert mean_ranks(list(published_rows(path))) == pytest.approx(published)


@pytest.mark.slow
def test_published_means_of_ld_lite(shared_dir):
    """The authors' student network, run here, against its row in the table of ten rivals."""
    network = load_network(shared_dir / "weights" / "LD-Lite" / "final.pt")

    def fuse(pair):
        with torch.no_grad():
            return network(pair.infrared[None], pair.luminance[None])

    tno = PairFolder(shared_dir / "data" / "TNO")
    (mean,) = mean_rows(evaluate_set(tno, [], extra={"LD-Lite": fuse}, progress=False))
    table = published_rows(shared_dir / "data" / "TNO" / "rivals_mean_01_21.csv")
    (expected,) = [row for row in table if row["method"] == "LD-Lite"]
    for name in USUAL:
        assert mean[name] == pytest.approx(expected[name], rel=1e-5)


def test_jobs_give_the_same_rows(set_dir):
    pairs = PairFolder(set_dir)
    threads = torch.get_num_threads()
    alone = evaluate_set(pairs, extra={"average": average}, progress=False)
    together = evaluate_set(pairs, extra={"average": average}, jobs=3, progress=False)
    for one, other in zip(alone, together, strict=True):  # the number of threads moves last digits
        named = ("method", "image")
        assert [one.pop(key) for key in named] == [other.pop(key) for key in named]
        assert other == pytest.approx(one, rel=1e-9)
    assert torch.get_num_threads() == threads
    with pytest.raises(ValueError, match="jobs must be >= 1"):
        evaluate_set(pairs, jobs=0)


def test_cache_measures_only_what_is_new(set_dir, tmp_path, monkeypatch):
    asked = []

    def counted(*arguments):
        asked.append(arguments[3])
        return measure(*arguments)

    monkeypatch.setattr(evaluate, "measure", counted)
    cache = tmp_path / "cache"

    def run(metrics):
        asked.clear()
        return evaluate_set(PairFolder(set_dir), metrics=metrics, cache=cache, progress=False)

    first = run(["EN", "PSNR"])
    assert asked == [["EN", "PSNR"]] * 6
    assert run(["EN", "PSNR"]) == first and asked == []
    more = run(["SD", "EN"])
    assert asked == [["SD"]] * 6
    assert [row["EN"] for row in more] == [row["EN"] for row in first]
    write_image(torch.rand(1, 48, 60), set_dir / "fused_dim" / "a.png")
    run(["EN"])
    assert asked == [["EN"]]
    for path in cache.rglob("*.json"):
        path.write_text("damaged")
    assert next(row["EN"] for row in run(["EN"])) == first[0]["EN"] and len(asked) == 6


def test_cache_keeps_what_json_has_not(set_dir, tmp_path):
    """An infinite PSNR: three equal pictures."""
    for pair in PairFolder(set_dir):
        for folder in ("vi", "fused_same"):
            write_image(pair.infrared, set_dir / folder / f"{pair.name}.png")
    for _ in range(2):
        rows = evaluate_set(
            PairFolder(set_dir), ["same"], ["PSNR"], cache=tmp_path / "cache", progress=False
        )
        assert all(row["PSNR"] == math.inf for row in rows)
    assert math.isnan(mean_intervals(rows)["same"]["PSNR"].low)


def made_up_rows(generator, ahead, images=40):
    """Two methods, the first ahead by so many of its standard deviations; images vary far more."""
    hard = 5 * torch.randn(images, generator=generator)
    for method, lead in (("first", ahead), ("second", 0.0)):
        noise = torch.randn(images, generator=generator)
        for image in range(images):
            value = (hard[image] + noise[image] + lead).item()
            yield {"method": method, "image": str(image), "EN": value, "SD": value}


def test_intervals_of_means_have_the_known_width(generator):
    rows = list(made_up_rows(generator, 0.0, images=400))
    interval = mean_intervals(rows)["first"]["EN"]
    values = torch.tensor([row["EN"] for row in rows[:400]])
    expected = 1.96 * values.std(correction=0).item() / 20
    assert interval.mean == pytest.approx(values.mean().item(), abs=1e-5)
    assert (interval.high - interval.low) / 2 == pytest.approx(expected, rel=0.1)
    assert mean_intervals(rows) == mean_intervals(rows)
    assert mean_intervals(rows, seed=1) != mean_intervals(rows)
    narrow = mean_intervals(rows, level=0.5)["first"]["EN"]
    assert interval.low < narrow.low < narrow.high < interval.high


def test_methods_that_can_and_that_cannot_be_told_apart(generator):
    clear = compare_ranks(list(made_up_rows(generator, 2.0)))
    assert [(d.better, d.worse, d.clear) for d in clear.differences] == [("first", "second", True)]
    assert clear.warnings() == []
    assert clear.ranks["first"].mean == clear.ranks["first"].high == 1
    doubt = compare_ranks(list(made_up_rows(generator, 0.02)))
    assert not doubt.differences[0].clear
    assert len(doubt.warnings()) == 1 and "can't be told apart from" in doubt.warnings()[0]


def test_equal_methods_share_ranks_in_every_draw():
    rows = [
        {"method": method, "image": str(image), "EN": 0.1 * image, "PSNR": math.inf}
        for method in "ab"
        for image in range(7)
    ]
    comparison = compare_ranks(rows)
    (difference,) = comparison.differences
    assert (difference.difference.low, difference.difference.high) == (0, 0)
    assert not difference.clear


def test_report_is_one_file_with_all_that_is_promised(set_dir, tmp_path):
    pairs = PairFolder(set_dir)
    extra = {"<average>": average}
    rows = evaluate_set(pairs, metrics=["EN", "VIF"], extra=extra, progress=False)
    path = write_report(tmp_path / "r.html", pairs, rows, extra, problems=["one & only"])
    text = path.read_text(encoding="utf-8")
    assert text.count("<figure>") == 3 * 5  # pairs; infrared, visible and three methods
    assert text.count('alt="enlarged detail of the ') == 15
    assert 'alt="mean ranks: ' in text and "EN [bit] ↑" in text
    assert "entropy of the gray levels" in text and "https://doi.org/10.1109/TIP.2005" in text
    assert "&lt;average&gt;" in text and "<average>" not in text and "one &amp; only" in text
    assert 'src="http' not in text and "<script" not in text


def test_detail_is_where_the_structure_is():
    infrared = torch.zeros(1, 64, 96, dtype=torch.uint8)
    infrared[:, 40:48, 10:20] = 200
    rows, columns = report._detail(infrared, torch.zeros_like(infrared))
    assert infrared[:, rows, columns].sum() == infrared.sum()
    assert (rows.stop - rows.start, columns.stop - columns.start) == (16, 24)


def test_a_picture_without_a_partner_is_reported_and_left_out(set_dir):
    (set_dir / "vi" / "b.png").unlink()
    problems = []
    pairs = PairFolder(set_dir, problems.append)
    assert pairs.names == ["a", "c"] and pairs.fused_methods() == ["copy", "dim"]
    assert len(problems) == 1 and "b.png: no partner" in problems[0]
    assert {row["image"] for row in evaluate_set(pairs, progress=False)} == {"a", "c"}


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


@pytest.fixture(autouse=True)
def in_a_folder_of_its_own(tmp_path_factory, monkeypatch):
    """The command line keeps its cache under the current folder."""
    monkeypatch.chdir(tmp_path_factory.mktemp("work"))


def test_command_line_chooses_and_writes_a_page(set_dir, tmp_path, capsys):
    page = tmp_path / "page.html"
    options = ["--methods", "dim", "--metrics", "MI", "SD", "--html", str(page), "--jobs", "2"]
    assert command.main([str(set_dir), *options]) == 0
    out = capsys.readouterr().out
    assert "MI [nat] ↑" in out and "EN" not in out and "copy" not in out
    assert page.read_text(encoding="utf-8").startswith("<!doctype html>")
    assert len(list(Path("runs/evaluation_cache").rglob("*.json"))) == 3
    assert command.main([str(set_dir), "--no-cache", "--methods", "nobody"]) == 2
    assert "no folder fused_nobody" in capsys.readouterr().err


def test_command_line_warns_of_methods_that_cannot_be_told_apart(set_dir, capsys):
    for stem in STEMS:
        source = set_dir / "fused_copy" / f"{stem}.png"
        (set_dir / "fused_again").mkdir(exist_ok=True)
        (set_dir / "fused_again" / source.name).write_bytes(source.read_bytes())
    assert command.main([str(set_dir), "--metrics", "EN", "SD"]) == 0
    assert "warning: again can't be told apart from copy" in capsys.readouterr().out


def test_command_line_writes_the_table(set_dir, tmp_path, capsys):
    path = tmp_path / "new" / "table.csv"
    assert command.main([str(set_dir), "--csv", str(path)]) == 0
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
    assert command.main([str(set_dir), "--csv", str(path)]) == 1
    assert len(read(path)) == 5 + 2
    captured = capsys.readouterr()
    assert "fused_copy" in captured.err and "1 problem(s), 5 result(s)" in captured.err


def test_command_line_without_anything_to_measure_exits_with_2(tmp_path, capsys):
    assert command.main([str(tmp_path / "nowhere")]) == 2
    assert "no such folder" in capsys.readouterr().err


def test_one_result_of_two_is_missing_among_real_pairs(shared_dir, capsys):
    """M3FD has a pair that LDFusion has no published result for."""
    assert command.main([str(shared_dir / "data" / "M3FD")]) == 1
    captured = capsys.readouterr()
    assert captured.err.count("no result for the pair") == 1
    assert "LDFusion" in captured.out


def test_the_documented_way_to_measure_as_vifb_does(tmp_path, generator):
    """Channels as a batch, as the page on published results has it."""
    page = Path(__file__).resolve().parent.parent / "docs" / "published_results.md"
    (code,) = re.findall(r"```python\n(.*?)```", page.read_text(encoding="utf-8"), re.DOTALL)
    namespace: dict = {}
    exec(code, namespace)
    pictures = {
        "fused": torch.rand(3, 48, 60, generator=generator),
        "ir": torch.rand(1, 48, 60, generator=generator),
        "vi": torch.rand(3, 48, 60, generator=generator),
    }
    paths = [write_image(x, tmp_path / f"{name}.png") for name, x in pictures.items()]
    found = namespace["as_vifb"](*paths)
    fused, infrared, visible = (read_image(path) for path in paths)
    for name in ("AG", "MI"):
        channels = [
            METRICS[name].function(
                fused[None, c : c + 1], infrared[None], visible[None, c : c + 1], convention="vifb"
            )
            for c in range(3)
        ]
        assert found[name] == pytest.approx(torch.cat(channels).mean().item())


# --- where the truth is known ------------------------------------------------------------------


@pytest.fixture(scope="module")
def known_set(tmp_path_factory):
    """Two rendered nights with their truth, the oracle as a result too, and two poor ones."""
    folder = tmp_path_factory.mktemp("known")
    pairs = write_crops(folder, 2, (64, 80))
    shutil.copytree(folder / "oracle", folder / "fused_oracle")
    for pair in pairs:
        oracle = read_image(pairs.fused_path("oracle", pair.name))
        write_image(0.8 * oracle + 0.1, folder / "fused_near" / f"{pair.name}.png")
        noise = torch.rand(oracle.shape, generator=torch.Generator().manual_seed(0))
        write_image(noise, folder / "fused_noise" / f"{pair.name}.png")
    return folder


def test_the_truth_adds_its_columns(known_set, tmp_path):
    pairs, cache = PairFolder(known_set), tmp_path / "cache"
    rows = evaluate_set(pairs, None, ["EN", "SD"], truth=True, cache=cache, progress=False)
    assert list(rows[0]) == ["method", "image", "EN", "SD", *TRUTH]
    again = evaluate_set(pairs, None, ["EN", "SD"], truth=True, cache=cache, progress=False)
    for one, other in zip(rows, again, strict=True):
        assert one == pytest.approx(other, nan_ok=True)
    pair = pairs[1]
    truth = Truth(known_set, pair.name)
    near = luminance(read_image(known_set / "fused_near" / f"{pair.name}.png"))
    pictures = [picture[None] for picture in (near, truth.oracle, truth.warm.float())]
    row = next(r for r in rows if (r["method"], r["image"]) == ("near", pair.name))
    for name, value in measure_against_oracle(*pictures).items():
        assert row[name] == pytest.approx(value.item(), nan_ok=True)
    assert mean_ranks(rows, TRUTH) != mean_ranks(rows)
    assert list(mean_ranks(rows, TRUTH)) == ["oracle", "near", "noise"]


def test_a_set_without_truth_is_refused(set_dir):
    with pytest.raises(ValueError, match=r"no folder oracle and .* temperature; .*rendered"):
        evaluate_set(PairFolder(set_dir), truth=True)
    with pytest.raises(ValueError, match="truth=True"):
        metric_agreement([{"method": "a", "image": "1", "EN": 1.0}])


def test_a_pair_without_its_map_is_measured_and_reported(known_set, tmp_path):
    folder = shutil.copytree(known_set, tmp_path / "copy")
    name = PairFolder(folder).names[0]
    (folder / "instances" / f"{name}.png").unlink()
    problems = []
    rows = evaluate_set(
        PairFolder(folder), ["near"], ["EN"], truth=True, on_problem=problems.append, progress=False
    )
    assert len(rows) == 2 and rows[0]["EN"] > 0 and math.isnan(rows[0]["PSNR_oracle"])
    (problem,) = problems
    assert "no truth to measure against" in problem and "instances" in problem and name in problem


def ordered(metric, truth):
    """Rows of five methods on three images with these values of EN, CE and a score."""
    for image in range(3):
        for k in range(5):
            yield {
                "method": f"m{k}",
                "image": str(image),
                "EN": metric(k),
                "CE": metric(k),
                "PSNR_oracle": truth(k),
                "Warm_shown": math.nan,
            }


def test_agreement_by_hand():
    found = metric_agreement(list(ordered(lambda k: k**2, float)))
    assert list(found) == ["EN", "CE"]  # best first; of CE lower is better
    assert (found["EN"].mean, found["EN"].low, found["EN"].high) == pytest.approx((1, 1, 1))
    assert found["CE"].mean == pytest.approx(-1)
    assert metric_agreement(list(ordered(lambda k: 7.0, float)))["EN"].mean == 0
    swapped = metric_agreement(list(ordered(lambda k: [0, 1, 2, 4, 3][k], float)))
    assert swapped["EN"].mean == pytest.approx(1 - 6 * 2 / (5 * 24))  # 1 - 6 sum d^2 / n (n^2 - 1)
    with_oracle = [
        *ordered(float, float),
        *(
            {
                "method": "oracle",
                "image": str(i),
                "EN": -9.0,
                "CE": 9.0,
                "PSNR_oracle": math.inf,
                "Warm_shown": 1.0,
            }
            for i in range(3)
        ),
    ]
    assert metric_agreement(with_oracle)["EN"].mean == pytest.approx(1)
    with pytest.raises(ValueError, match="three methods"):
        metric_agreement([row for row in ordered(float, float) if row["method"] < "m2"])


def test_agreement_is_spearman(generator):
    values = torch.rand(2, 9, generator=generator).round(decimals=1).tolist()  # with ties
    rows = [
        {"method": str(k), "image": "1", "EN": values[0][k], "PSNR_oracle": values[1][k]}
        for k in range(9)
    ]
    expected = stats.spearmanr(*values).statistic
    assert metric_agreement(rows)["EN"].mean == pytest.approx(expected)


def test_command_line_judges_by_the_truth(known_set, tmp_path, capsys):
    page, table = tmp_path / "page.html", tmp_path / "table.csv"
    (known_set / "fused_dark").mkdir(exist_ok=True)
    for pair in PairFolder(known_set):
        write_image(0.2 * pair.infrared, known_set / "fused_dark" / f"{pair.name}.png")
    options = ["--truth", "--metrics", "EN", "AG", "--html", str(page), "--csv", str(table)]
    assert command.main([str(known_set), *options]) == 0
    out = capsys.readouterr().out
    assert "Against the truth:" in out and "PSNR_oracle [dB] ↑" in out
    assert "rank correlation with the truth" in out
    assert set(TRUTH) <= set(read(table)[0])
    text = page.read_text(encoding="utf-8")
    assert "Which metrics agree with it" in text and "defined here" in text
    assert command.main([str(known_set.parent), "--truth"]) == 2


def test_processes_share_a_set_and_the_first_reports_for_all(set_dir, monkeypatch, capsys):
    """Two processes, one after the other, whose exchange is played by a list."""
    (set_dir / "fused_dim" / "b.png").unlink()
    whole, shared = set_dir / "whole.csv", set_dir / "shared.csv"
    options = [str(set_dir), "--metrics", "EN", "SD", "--no-cache", "--csv"]
    assert command.main([*options, str(whole)]) == 1
    said = capsys.readouterr()
    found = {}

    class Played(Team):
        def gather(self, value):
            found[self.rank] = value
            return [found[rank] for rank in sorted(found)]

    for rank in (1, 0):
        team = Played(rank, 2, torch.device("cpu"))
        monkeypatch.setattr(command, "join_team", lambda device, team=team: team)
        code = command.main([*options, str(shared)])
        if rank == 1:
            assert capsys.readouterr().out == "" and not shared.exists()
    assert code == 1 and [len(found[rank][0]) for rank in (0, 1)] == [4, 1]
    assert shared.read_text() == whole.read_text()
    assert capsys.readouterr().err.count("b.png") == said.err.count("b.png") > 0
