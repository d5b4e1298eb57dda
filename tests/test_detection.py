"""Boxes, average precision and the command: hand-made cases, pycocotools, and what goes wrong."""

import contextlib
import csv
import io
import json

import numpy as np
import pytest
import torch
from pycocotools.cocoeval import COCOeval

from ldf_utils.data.images import write_image
from ldf_utils.data.pairs import PairFolder
from ldf_utils.detection import average_precision as ap
from ldf_utils.detection import table
from ldf_utils.detection.__main__ import main
from ldf_utils.detection.boxes import CLASSES, Boxes, best_score, merge, outcome
from ldf_utils.detection.labels import LabelError, labels_of_sets, read_labels
from ldf_utils.detection.search import Findings, join, search_set

SIZE = (60, 80)


def person(*corners):
    return corners, "person"


def scored(boxes, *scores):
    return Boxes(boxes.corners, boxes.classes, np.array(scores, float))


def write_pairs(folder, count=3, methods=("average",)):
    generator = torch.Generator().manual_seed(0)
    for k in range(count):
        for place in ("ir", "vi", *(f"fused_{m}" for m in methods)):
            write_image(torch.rand(1, *SIZE, generator=generator), folder / place / f"{k}.png")
    return folder


def write_csv(folder, *rows):
    text = "image,xmin,ymin,xmax,ymax,name\n" + "".join(f"{row}\n" for row in rows)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "boxes.csv").write_text(text)


def labels_of(folder, **options):
    return read_labels(folder, PairFolder(folder), **options)


# --- labels ---------------------------------------------------------------------------------------

VOC = """<annotation><size><width>80</width><height>60</height></size>
<object><name>People</name><bndbox><xmin>10</xmin><ymin>5</ymin><xmax>30</xmax><ymax>45</ymax>
</bndbox></object><object><name>Car</name><difficult>1</difficult><bndbox><xmin>40</xmin>
<ymin>20</ymin><xmax>70</xmax><ymax>40</ymax></bndbox></object></annotation>"""
COCO = {
    "images": [{"id": 7, "file_name": "vi/0.png"}, {"id": 8, "file_name": "1.png"}],
    "categories": [{"id": 3, "name": "person"}, {"id": 5, "name": "car"}],
    "annotations": [
        {"id": 1, "image_id": 7, "category_id": 3, "bbox": [10, 5, 20, 40]},
        {"id": 2, "image_id": 7, "category_id": 5, "bbox": [40, 20, 30, 20], "iscrowd": 1},
    ],
}


def write_form(folder, form):
    folder.mkdir(parents=True, exist_ok=True)
    if form == "csv":
        write_csv(folder, "0.png,10,5,30,45,person", "0.png,40,20,70,40,car", "1.png,,,,,")
    elif form == "voc":
        (folder / "0.xml").write_text(VOC)
        (folder / "1.xml").write_text("<annotation></annotation>")
    elif form == "yolo":
        (folder / "classes.txt").write_text("car\nperson\n")
        (folder / "0.txt").write_text(
            f"1 0.25 {25 / 60:.9f} 0.25 {40 / 60:.9f}\n0 0.6875 0.5 0.375 {1 / 3:.9f}\n"
        )
        (folder / "1.txt").write_text("")
    else:
        (folder / "instances.json").write_text(json.dumps(COCO))


@pytest.mark.parametrize("form", ["csv", "voc", "yolo", "coco"])
def test_all_forms_give_the_same_boxes(tmp_path, form):
    write_form(write_pairs(tmp_path) / "labels", form)
    labels = labels_of(tmp_path)
    assert labels.problems == []
    assert list(labels.boxes) == ["0", "1"] and len(labels.boxes["1"]) == 0
    boxes = labels.boxes["0"]
    np.testing.assert_allclose(boxes.corners, [[10, 5, 30, 45], [40, 20, 70, 40]], atol=1e-6)
    assert [CLASSES[c] for c in boxes.classes] == ["person", "vehicle"]
    assert boxes.ignored.tolist() == [False, form in ("voc", "coco")]
    assert labels.notes and "1 of 3 pairs have no labels" in labels.notes[0]


def test_every_label_that_is_wrong_is_named(tmp_path):
    write_csv(
        write_pairs(tmp_path) / "labels",
        "0.png,10,5,30,45,person",
        "0.png,30,5,30,45,person",  # empty
        "0.png,100,5,130,45,person",  # outside
        "0.png,60,5,95,45,person",  # reaches out
        "0.png,60,5,80.5,45,person",  # within the rounding of labels
        "1.png,1,2,30,40,unicorn",
        "1.png,1,2,30,40,lamp",
        "1.png,1,2,30,40,Color_Cone",
        "2.png,1,2,30,40,alien",
        "elsewhere.png,1,2,30,40,person",
    )
    labels = labels_of(tmp_path, class_of={"alien": "person"})
    said = "\n".join(labels.problems)
    for text in ("empty", "outside", "reaches out", "unknown class 'unicorn'", "'elsewhere'"):
        assert said.count(text) == 1, text
    assert len(labels.problems) == 5
    assert labels.boxes["0"].corners.tolist() == [[10, 5, 30, 45], [60, 5, 80, 45], [60, 5, 80, 45]]
    assert len(labels.boxes["1"]) == 0 and len(labels.boxes["2"]) == 1
    assert any("1 lamp, 1 color cone" in note for note in labels.notes)


@pytest.mark.parametrize(
    ("files", "text"),
    [
        ({}, "no labels"),
        ({"0.xml": VOC, "0.txt": "0 0 0 1 1"}, "several files or forms"),
        ({"0.txt": "0 0.5 0.5 1 1"}, "classes.txt"),
        ({"boxes.csv": "image,x\n0.png,1\n"}, "no column xmin"),
        ({"boxes.csv": "image,xmin,ymin,xmax,ymax,name\n0.png,a,1,2,3,person\n"}, "line 2"),
        ({"a.json": "{}"}, "COCO form"),
        ({"9.xml": VOC}, "no such pair"),
        ({"0.xml": "<!DOCTYPE x><annotation/>"}, "declares entities"),
    ],
)
def test_labels_that_cannot_be_used_are_an_error_with_the_reason(tmp_path, files, text):
    (write_pairs(tmp_path) / "labels").mkdir()
    for name, content in files.items():
        (tmp_path / "labels" / name).write_text(content)
    with pytest.raises(LabelError, match=text):
        labels_of(tmp_path)


def test_one_damaged_file_of_many_is_reported_and_its_picture_is_not_searched(tmp_path):
    (write_pairs(tmp_path) / "labels").mkdir()
    (tmp_path / "labels" / "0.xml").write_text(VOC)
    (tmp_path / "labels" / "1.xml").write_text(VOC[:100])
    labels = labels_of(tmp_path)
    assert list(labels.boxes) == ["0"]
    assert len(labels.problems) == 1 and "1.xml" in labels.problems[0]


# --- average precision ----------------------------------------------------------------------------


def random_boxes(generator, pictures=12, noise=15):
    """Labels, and detections of which some hit."""
    truth, found = {}, {}
    for k in range(pictures):
        corner = generator.uniform(0, 300, (int(generator.integers(0, 7)), 2))
        sides = generator.uniform(8, 150, corner.shape)
        boxes = np.concatenate([corner, corner + sides], axis=1)
        classes = generator.integers(0, 2, len(boxes))
        ignored = generator.random(len(boxes)) < 0.2
        truth[str(k)] = Boxes(boxes, classes, np.ones(len(boxes)), ignored)
        other = generator.uniform(0, 300, (noise, 2))
        others = np.concatenate([other, other + generator.uniform(8, 150, (noise, 2))], axis=1)
        found[str(k)] = Boxes(
            np.concatenate([boxes + generator.normal(0, 6, boxes.shape), others]),
            np.concatenate([classes, generator.integers(0, 2, noise)]),
            generator.random(len(boxes) + noise),
        )
    return truth, found


def by_pycocotools(truth, found):
    with contextlib.redirect_stdout(io.StringIO()):
        evaluation = COCOeval(
            ap._coco(list(truth.values())), ap._coco(list(found.values()), detections=True), "bbox"
        )
        evaluation.params.maxDets = [1, 10, ap.MOST]
        evaluation.evaluate()
        evaluation.accumulate()
    return evaluation.eval["precision"].mean(axis=1)[..., -1]  # threshold, class, size


@pytest.mark.parametrize("seed", range(4))
def test_it_is_what_pycocotools_computes(seed):
    truth, found = random_boxes(np.random.default_rng(seed))
    theirs, matches = by_pycocotools(truth, found), ap.match(truth, found, list(ap.SIZES))
    for c, name in enumerate(CLASSES):
        for s, size in enumerate(ap.SIZES):
            mine = ap.average_precision(matches[name, size])
            expected = theirs[:, c, s]
            expected = np.where(expected < 0, np.nan, expected)  # -1 where there is no box
            np.testing.assert_allclose(mine, expected, atol=1e-12)


def test_a_picture_of_weight_two_counts_as_two_pictures():
    truth, found = random_boxes(np.random.default_rng(5), pictures=6)
    weights = np.array([2, 0, 1, 3, 0, 1])
    names = [f"{k}" for k in range(6)]
    copies = [(f"{name}.{c}", name) for k, name in enumerate(names) for c in range(weights[k])]
    twice = by_pycocotools({a: truth[b] for a, b in copies}, {a: found[b] for a, b in copies})
    matches = ap.match(truth, found)
    for c, name in enumerate(CLASSES):
        mine = ap.average_precision(matches[name, "all"], weights)
        np.testing.assert_allclose(mine, twice[:, c, 0], atol=1e-12)


def test_average_precision_by_hand():
    """Right, wrong, right at scores .9, .8, .7 with two labels: 1 up to half, then 2/3."""
    truth = {"a": Boxes.of([person(0, 0, 10, 20), person(50, 0, 60, 20)])}
    found = Boxes.of([person(0, 0, 10, 20), person(20, 30, 30, 50), person(50, 0, 60, 20)])
    matches = ap.match(truth, {"a": scored(found, 0.9, 0.8, 0.7)})["person", "all"]
    assert ap.average_precision(matches)[0] == pytest.approx((51 + 50 * 2 / 3) / 101)
    recall, precision = ap.curve(matches)
    assert recall.tolist() == [0.5, 0.5, 1.0]
    np.testing.assert_allclose(precision, [1, 1 / 2, 2 / 3])


def test_the_interval_holds_the_value_and_is_narrower_with_more_pictures():
    few, many = (
        ap.precision(ap.match(*random_boxes(np.random.default_rng(1), n))["person", "all"])
        for n in (8, 120)
    )
    for found in (few, many):
        assert found.interval[0] <= found.ap <= found.interval[1]
        assert found.ap50_interval[0] <= found.ap50 <= found.ap50_interval[1]
    assert np.ptp(many.interval) < 0.6 * np.ptp(few.interval)


def test_a_difference_is_paired():
    """Equal detections differ by nothing in every draw, however wide the interval of each is."""
    truth, found = random_boxes(np.random.default_rng(2))
    matches = ap.match(truth, found)["person", "all"]
    same = ap.difference(matches, matches)
    assert (same.value, same.low, same.high, same.clear) == (0, 0, 0, False)
    perfect = ap.match(truth, truth)["person", "all"]
    assert ap.difference(perfect, matches).clear


# --- merging, outcomes ----------------------------------------------------------------------------


def test_merging_keeps_the_surer_of_two_boxes_of_one_thing():
    infrared = scored(Boxes.of([person(10, 10, 20, 40)]), 0.9)
    visible = scored(
        Boxes.of([person(11, 10, 21, 40), ((11, 10, 21, 40), "vehicle"), person(50, 10, 60, 40)]),
        *(0.6, 0.5, 0.7),
    )
    merged = merge([infrared, visible])
    assert merged.scores.tolist() == [0.9, 0.7, 0.5]
    assert merged.corners[0].tolist() == [10, 10, 20, 40]


def test_an_outcome_counts_each_label_once():
    truth = Boxes.of([person(0, 0, 10, 20), person(30, 0, 40, 20)])
    found = scored(Boxes.of([person(0, 0, 10, 21), person(0, 0, 10, 20), person(60, 0, 70, 20)]), *(
        0.9, 0.8, 0.3
    ))  # fmt: skip
    made = outcome(truth, found)
    assert made.found.tolist() == [True, False] and made.missed.tolist() == [False, True]
    assert made.false.tolist() == [False, True, True]
    assert outcome(truth, found, 0.5).false.tolist() == [False, True, False]
    ignored = Boxes(truth.corners, truth.classes, truth.scores, np.array([True, False]))
    made = outcome(ignored, found)
    assert made.missed.tolist() == [False, True] and made.false.tolist() == [False, False, True]
    assert best_score({"a": truth}, [{"a": found}]) > 0.8


# --- a set, the command ---------------------------------------------------------------------------


class Fake:
    """A detector that finds the brightest part of a picture; it counts how often it is called."""

    name, fingerprint = "fake", "1"

    def __init__(self):
        self.calls = 0

    def __call__(self, gray):
        self.calls += 1
        y, x = divmod(int(gray[0].argmax()), gray.shape[-1])
        return scored(Boxes.of([person(x - 5, y - 10, x + 5, y + 10)]), float(gray.max()))


@pytest.fixture
def bright(tmp_path):
    """Pairs with a person that is bright in the infrared picture and in the fused one only."""
    for k in range(4):
        infrared, visible = torch.full((1, *SIZE), 0.2), torch.full((1, *SIZE), 0.1)
        infrared[0, 30, 20 + 10 * k] = 1
        visible[0, 10, 70] = 0.98  # found with a lower score than the person
        for folder, image in (("ir", infrared), ("vi", visible), ("fused_max", infrared)):
            write_image(image, tmp_path / folder / f"{k}.png")
    write_csv(
        tmp_path / "labels",
        *(f"{k}.png,{15 + 10 * k},20,{25 + 10 * k},40,person" for k in range(4)),
    )
    return tmp_path


def test_a_set_is_searched_method_by_method_and_what_was_found_is_kept(bright, tmp_path):
    pairs, fake = PairFolder(bright), Fake()
    options = {"cache": tmp_path / "cache", "progress": False}
    findings = search_set(pairs, labels_of(bright), fake, **options)
    assert list(findings.found) == ["visible", "infrared", "merged", "max"]
    assert fake.calls == 5, "one visible picture for all, and fused pictures equal to infrared ones"
    rows = {row["method"]: row for row in table.precision_rows(findings, ["person"])}
    assert [rows[m]["ap50"] for m in rows] == pytest.approx([0, 1, 1, 1])
    again = search_set(pairs, labels_of(bright), fake, **options)
    assert fake.calls == 5
    for method, found in findings.found.items():
        for name, boxes in found.items():
            np.testing.assert_array_equal(again.found[method][name].corners, boxes.corners)
    lines = table.sentences(table.compare(findings, "person"))
    assert any("infrared is clearly better than visible" in line for line in lines)
    beside = table.against(table.compare(findings, "person"), "infrared")
    assert beside == {"better": [], "worse": ["visible"], "level": ["merged", "max"]}


def test_a_missing_fused_picture_is_reported_and_the_rest_is_measured(bright):
    (bright / "fused_max" / "2.png").unlink()
    write_image(torch.zeros(1, 8, 8), bright / "fused_max" / "3.png")
    findings = search_set(PairFolder(bright), labels_of(bright), Fake(), progress=False)
    assert list(findings.found["max"]) == ["0", "1"]
    assert len(findings.problems) == 2 and "8 x 8" in findings.problems[1]
    rows = {row["method"]: row for row in table.precision_rows(findings, ["person"])}
    assert rows["max"]["images"] == 2 and rows["visible"]["images"] == 4


def test_light_and_size_have_columns_of_their_own():
    truth = {name: Boxes.of([person(0, 0, 10, 20)]) for name in "ab"}
    found = {"a": truth["a"], "b": Boxes.of([])}
    findings = Findings(truth, {"m": found}, night={"a": True, "b": False})
    (row,) = table.precision_rows(findings, ["person"], draws=10)
    assert (row["ap50_night"], row["ap50_day"]) == (1, 0)
    assert row["ap50_small"] == row["ap50"] and np.isnan(row["ap50_large"])


def test_methods_are_compared_by_light_and_by_size():
    truth = {name: Boxes.of([person(0, 0, 10, 20)]) for name in "abcd"}
    night = {"a": True, "b": True, "c": False, "d": False}
    only_by_night = {n: truth[n] if night[n] else Boxes.of([]) for n in truth}
    findings = Findings(truth, {"all": truth, "night": only_by_night}, night=night)

    def gain(part):
        return [c.gain.value for c in table.compare(findings, "person", part=part, draws=50)]

    assert gain("day") == [1] and gain("night") == [0]
    assert gain("small") == gain("all") and gain("large") == []
    day = table.compare(findings, "person", part="day", draws=50)
    assert table.against(day, "night") == {"better": ["all"], "worse": [], "level": []}


@pytest.fixture
def with_fake(monkeypatch):
    monkeypatch.setattr("ldf_utils.detection.__main__.load_detector", lambda name: Fake())


def test_the_command_writes_a_row_per_method_and_class_and_a_page(bright, with_fake, capsys):
    out = bright / "out"
    arguments = [str(bright), "--csv", str(out / "a.csv"), "--html", str(out / "a.html")]
    assert main([*arguments, "--cache", str(out / "cache")]) == 0
    with open(out / "a.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0])[:6] == ["method", "class", "ap50", "ap", "low", "high"]
    assert [(row["method"], row["class"]) for row in rows] == [
        (method, "person") for method in ("visible", "infrared", "merged", "max")
    ]
    for row in rows:
        assert float(row["low"]) <= float(row["ap"]) <= float(row["high"])
    page = (out / "a.html").read_text()
    assert "infrared: 1 found, 0 missed, 0 false" in page
    assert "visible: 0 found, 1 missed, 1 false" in page
    assert page.count("<img ") == 16 and "http" not in page
    assert "clearly better" in capsys.readouterr().out


def test_the_command_measures_what_it_can_and_says_what_it_could_not(bright, with_fake, capsys):
    (bright / "fused_max" / "2.png").write_bytes(b"")
    options = ["--methods", "infrared", "max", "--no-cache"]
    assert main([str(bright), *options]) == 1
    said = capsys.readouterr()
    assert "2.png" in said.err and "infrared" in said.out and "visible" not in said.out


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["--methods", "nothing"], "no folder fused_nothing"),
        (["--detector", "nothing"], "neither a file nor a known detector"),
        (["--csv", "."], "expected a file, found a folder"),
    ],
)
def test_the_command_refuses_what_is_not_there(bright, arguments, text, capsys):
    assert main([str(bright), "--no-cache", *arguments]) == 2
    assert text in capsys.readouterr().err


def test_a_set_without_labels_is_an_error(tmp_path, capsys):
    assert main([str(write_pairs(tmp_path)), "--no-cache"]) == 2
    assert "no labels; expected" in capsys.readouterr().err


def test_a_part_of_a_set_takes_the_labels_of_its_pairs(bright):
    part = PairFolder(bright)
    part.files = part.files[:2]
    labels = read_labels(bright, part)
    assert list(labels.boxes) == ["0", "1"] and labels.problems == []


def test_sets_are_joined_and_those_without_labels_are_named(bright, tmp_path_factory):
    plain = PairFolder(write_pairs(tmp_path_factory.mktemp("plain")))
    labels, without = labels_of_sets({"a": PairFolder(bright), "b": plain})
    assert list(labels) == ["a"] and "no labels" in without["b"]
    with pytest.raises(LabelError, match="no set has labels"):
        labels_of_sets({"b": plain})
    one = search_set(PairFolder(bright), labels["a"], Fake(), ["infrared", "max"], progress=False)
    two = search_set(PairFolder(bright), labels["a"], Fake(), ["infrared"], progress=False)
    joined = join({"a": one, "b": two})
    assert list(joined.found) == ["infrared"] and len(joined.truth) == 8
    assert joined.found["infrared"]["b/3"] is two.found["infrared"]["3"]
