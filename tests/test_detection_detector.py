"""Detectors: the small network, its training, torchvision's from a file, and files that are not."""

import json

import numpy as np
import pytest
import torch
from PIL import Image
from torch.testing import assert_close
from torchvision.models import detection as published

from experiments.detector import __main__ as command_line
from experiments.detector import crops, evaluation, loss, protocol, sentences
from experiments.detector.__main__ import main
from experiments.detector.training import DetectorConfig, train
from ldf_utils.data.pairs import PairFolder
from ldf_utils.data.sets import RENDERED
from ldf_utils.data.state_dict import WeightsError
from ldf_utils.detection import detector as detectors
from ldf_utils.detection import studies
from ldf_utils.detection.boxes import CLASSES, Boxes
from ldf_utils.detection.detector import (
    EmbeddedDetector,
    load_detector,
    load_small_detector,
    save_detector,
)
from ldf_utils.detection.labels import read_labels
from ldf_utils.detection.network import SmallDetector, centers, standardize
from ldf_utils.detection.search import search_set
from ldf_utils.detection.table import precision_rows
from ldf_utils.detection.visibility import contrast, is_clear, stands_out
from ldf_utils.fusion.rules import average
from ldf_utils.networks.bounded import BoundedFusionNetwork


@pytest.fixture(scope="module")
def network():
    torch.manual_seed(0)
    network = SmallDetector()
    for module in network.modules():  # as after a training: no normalization is the identity
        if isinstance(module, torch.nn.BatchNorm2d):
            module.running_mean.normal_(std=0.1)
            module.running_var.uniform_(0.5, 2)
    return network.eval()


def test_folded_normalizations_give_the_same_boxes(network):
    gray = torch.rand(1, 1, 64, 96)
    folded = SmallDetector()
    folded.load_state_dict(network.state_dict())
    with torch.no_grad():
        for mine, theirs in zip(folded.fold()(gray), network(gray), strict=True):
            assert_close(mine, theirs, rtol=1e-4, atol=1e-3)


def test_exposure_and_contrast_do_not_matter():
    gray = torch.rand(2, 1, 32, 32)
    assert_close(standardize(0.3 * gray + 0.2), standardize(gray), rtol=1e-4, atol=1e-4)
    assert standardize(torch.full((1, 1, 8, 8), 0.5)).abs().max() < 1e-3


def test_a_file_keeps_the_detector_in_half_precision(network, tmp_path):
    path = save_detector(network, tmp_path / "d.pt", {"steps": 3})
    assert path.stat().st_size < 4_000_000
    loaded, gray = load_detector(path), torch.rand(1, 70, 50)
    assert loaded.name == "d" and loaded.metadata == {"steps": 3}
    again = EmbeddedDetector(load_small_detector(path))
    assert loaded.fingerprint == again.fingerprint != EmbeddedDetector(network).fingerprint
    np.testing.assert_array_equal(loaded(gray).corners, again(gray).corners)


def test_boxes_come_back_in_the_pixels_of_the_picture(network, monkeypatch):
    """A cell in the middle of the enlarged picture says a box; it is scaled back."""
    places, _ = centers(480, 640)

    def answer(gray):
        assert gray.shape == (1, 1, 480, 640)
        scores = torch.full((1, len(places), 2), -9.0)
        scores[0, 100] = torch.tensor([2.0, -9.0])
        boxes = torch.zeros(1, len(places), 4)
        boxes[0, 100] = torch.tensor([64.0, 48.0, 128.0, 960.0])
        return scores, boxes

    found = EmbeddedDetector(network)
    monkeypatch.setattr(found, "_network", answer)
    boxes = found(torch.rand(1, 60, 80))
    np.testing.assert_allclose(boxes.corners, [[8, 6, 16, 60]])
    assert boxes.classes.tolist() == [0] and boxes.scores[0] == pytest.approx(0.8808, abs=1e-4)
    with pytest.raises(ValueError, match=r"\(1, H, W\)"):
        found(torch.rand(3, 60, 80))


@pytest.mark.parametrize("name", sorted(set(detectors.NAMES) - {"embedded"}))
def test_a_detector_of_torchvision_comes_from_a_file(name, tmp_path, monkeypatch):
    torch.manual_seed(0)
    state = getattr(published, name)(weights=None, weights_backbone=None).state_dict()
    torch.save(state, tmp_path / "mine.pth")
    loaded = load_detector(tmp_path / "mine.pth")
    assert loaded.name == name
    assert isinstance(loaded(torch.rand(1, 64, 64)), Boxes)
    # By its name it is looked for in the folder of weights.
    file = detectors._PUBLISHED[name][1].url.rsplit("/", 1)[-1]
    monkeypatch.setenv("LDF_WEIGHTS_DIR", str(tmp_path))
    (tmp_path / "torchvision").mkdir()
    (tmp_path / "mine.pth").rename(tmp_path / "torchvision" / file)
    assert load_detector(name).fingerprint == loaded.fingerprint


def test_coco_names_become_the_two_classes():
    class Answer(torch.nn.Module):
        def forward(self, pictures):
            assert pictures[0].shape == (3, 20, 30)
            corners = torch.tensor([[0.0, 0, 5, 10], [1, 1, 9, 9], [2, 2, 8, 8], [3, 3, 9, 9]])
            labels = torch.tensor([1, 18, 8, 2])  # person, dog, truck, bicycle
            scores = torch.tensor([0.9, 0.8, 0.7, 0.6])
            return [{"boxes": corners, "labels": labels, "scores": scores}]

    found = detectors.PublishedDetector("x", Answer())(torch.rand(1, 20, 30))
    assert found.classes.tolist() == [0, 1, 1]
    np.testing.assert_allclose(found.scores, [0.9, 0.7, 0.6], atol=1e-6)


def test_what_is_no_detector_is_refused(tmp_path, network, monkeypatch):
    with pytest.raises(WeightsError, match="neither a file nor a known detector"):
        load_detector("yolo")
    with pytest.raises(WeightsError, match="no such weights file"):
        load_detector("gone.pt")
    torch.save({"weight": torch.zeros(2)}, tmp_path / "other.pt")
    with pytest.raises(WeightsError, match="not the weights of a detector"):
        load_detector(tmp_path / "other.pt")
    content = torch.load(save_detector(network, tmp_path / "d.pt"), weights_only=True)
    torch.save(content | {"format": "another"}, tmp_path / "d.pt")
    with pytest.raises(WeightsError, match="no file of"):
        load_detector(tmp_path / "d.pt")
    content["state"].pop("stem.conv.weight")
    torch.save(content, tmp_path / "d.pt")
    with pytest.raises(WeightsError, match="stem"):
        load_detector(tmp_path / "d.pt")

    def offline(self, **_):
        raise OSError("no route to host")

    name = "ssdlite320_mobilenet_v3_large"
    monkeypatch.setattr(type(detectors._PUBLISHED[name][1]), "get_state_dict", offline)
    monkeypatch.setenv("LDF_WEIGHTS_DIR", str(tmp_path))
    with pytest.raises(WeightsError, match="could not be downloaded"):
        load_detector(name)


# --- training -------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def work(tmp_path_factory):
    folder = tmp_path_factory.mktemp("detector")
    assert crops.collect([RENDERED / "train"], folder) > 10
    return folder


def test_crops_keep_boxes_on_what_they_enclose(work):
    """The same crop of a map of box numbers: each box holds its own number."""
    found = crops.Crops(work, {"visible": 1.0})
    rng = np.random.default_rng(0)
    drawn = [found.draw(rng) for _ in range(40)]
    assert {crop.gray.shape for crop in drawn} == {(1, crops.CROP, crops.CROP)}
    boxes = torch.cat([crop.boxes for crop in drawn])
    assert len(boxes) > 40
    assert (boxes[:, 2:] > boxes[:, :2]).all() and boxes.min() >= 0 and boxes.max() <= crops.CROP
    assert all(0 <= crop.gray.min() and crop.gray.max() <= 1 for crop in drawn)


def store_one(folder, infrared, visible, box):
    """Write a pair with one person where `crops.Crops` looks for it."""
    for camera in ("ir", "vi"):
        (folder / camera).mkdir()
    for camera, levels in (("ir", infrared), ("vi", visible)):
        Image.fromarray(levels).save(folder / camera / "0.png")
    corners = ",".join(map(str, box))
    text = f"image,xmin,ymin,xmax,ymax,name\n0.png,{corners},person\n"
    (folder / "boxes.csv").write_text(text, encoding="utf-8")
    assert crops.collect([folder], folder) == 1


def test_a_crop_shows_its_box(tmp_path, monkeypatch):
    """A white box on black: within the box of the crop all is white, outside all is black."""
    levels = np.zeros((240, 320), np.uint8)
    levels[60:140, 120:170] = 255
    store_one(tmp_path, levels, levels, (120, 60, 170, 140))
    found, seen = crops.Crops(tmp_path, {"infrared": 1.0}), 0
    monkeypatch.setattr(crops, "vary", lambda gray, rng: gray)
    for seed in range(12):
        crop = found.draw(np.random.default_rng(seed))
        seen += len(crop.boxes)
        if not len(crop.boxes):
            assert crop.gray.max() < 0.05
            continue
        x0, y0, x1, y1 = crop.boxes[0].tolist()
        inside = torch.zeros(crops.CROP, crops.CROP)
        inside[round(y0) : round(y1), round(x0) : round(x1)] = 1
        assert (crop.gray[0] - inside).abs().mean() < 0.02
    assert seen > 6


def test_what_cannot_be_seen_in_a_picture_is_ignored_there(tmp_path):
    """A warm person in the dark: learned in infrared, neither right nor wrong in visible."""
    rng = np.random.default_rng(0)
    dark = rng.integers(20, 24, (240, 320)).astype(np.uint8)
    warm = dark.copy()
    warm[60:140, 120:170] = 200
    store_one(tmp_path, warm, dark, (120, 60, 170, 140))
    for kind, hidden in (("infrared", False), ("visible", True)):
        found = crops.Crops(tmp_path, {kind: 1.0})
        drawn = [found.draw(np.random.default_rng(seed)) for seed in range(12)]
        whole = [crop for crop in drawn if len(crop.boxes) and crop.boxes[0].max() < crops.CROP]
        assert whole and any(bool(crop.ignored[0]) == hidden for crop in whole)
        if hidden:
            assert all(bool(crop.ignored[0]) for crop in whole)


def make_crop(*corners, ignored=False):
    boxes = torch.tensor([corners], dtype=torch.float32)
    one = torch.zeros(1, dtype=torch.long)
    return crops.Crop(torch.zeros(1, 64, 64), boxes, one, torch.tensor([ignored]))


def test_cells_at_the_middle_of_a_box_answer_for_it():
    places, strides = centers(64, 64)
    box, counted = loss.assign(make_crop(10, 10, 30, 40), places, strides)
    mine = places[box == 0]
    assert len(mine) and set(strides[box == 0].tolist()) == {4.0}, "30 pixels: the finest grid"
    assert ((mine - torch.tensor([20.0, 25.0])).abs() <= 6).all() and counted.all()
    box, counted = loss.assign(make_crop(10, 10, 30, 40, ignored=True), places, strides)
    assert (box < 0).all() and 0 < (~counted).sum() < len(places)


def test_the_loss_is_lowest_for_the_right_answer():
    places, _ = centers(64, 64)
    crop = make_crop(10, 10, 30, 40)
    box, _ = loss.assign(crop, places, centers(64, 64)[1])
    right = torch.full((1, len(places), 2), -12.0)
    right[0, box == 0, 0] = 12.0
    corners = torch.cat([places - 5, places + 5], 1)[None]
    corners[0, box == 0] = crop.boxes
    best = loss.detection_loss(right, corners, [crop])
    assert best["total"] < 1e-3
    assert loss.detection_loss(-right, corners, [crop])["score"] > 1
    assert loss.detection_loss(right, corners + 6, [crop])["box"] > 0.2


def test_an_interrupted_training_goes_on_as_if_it_had_not_been(work):
    config = DetectorConfig(steps=3, batch=2)
    whole, record = train(config, work, checkpoint="whole.pt", every=1, progress=False)
    assert record["parameters"] == sum(p.numel() for p in whole.parameters())
    calls = 0

    def stop(infrared, visible):
        nonlocal calls
        calls += 1
        if calls > 3:
            raise KeyboardInterrupt
        return visible

    kinds, visible = {"x": 1.0}, {"x": lambda infrared, visible: visible}
    theirs, _ = train(config, work, kinds, visible, "a.pt", every=1, progress=False)
    with pytest.raises(KeyboardInterrupt):
        train(config, work, kinds, {"x": stop}, "b.pt", every=1, progress=False)
    mine, _ = train(config, work, kinds, visible, "b.pt", every=1, progress=False)
    for name, tensor in mine.state_dict().items():
        assert_close(tensor, theirs.state_dict()[name])
    with pytest.raises(ValueError, match="other --work|its own"):
        train(DetectorConfig(steps=4, batch=2), work, checkpoint="b.pt", progress=False)


def test_equal_seeds_give_equal_weights_and_others_do_not(work):
    made = [
        train(DetectorConfig(steps=2, batch=2, seed=seed), work, checkpoint=f, progress=False)[0]
        for seed, f in ((0, "same-a.pt"), (0, "same-b.pt"), (1, "other.pt"))
    ]
    first, second, other = (network.state_dict() for network in made)
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert not torch.equal(first["score.weight"], other["score.weight"])


@pytest.mark.slow
def test_the_command_trains_a_detector_that_learns(work, tmp_path):
    output = tmp_path / "d.pt"
    command = ["train", "--steps", "2", "--batch", "2", "--work", str(tmp_path / "w")]
    assert main([*command, "--output", str(output)]) == 0
    assert load_detector(output).metadata["config"]["steps"] == 2
    command[-1] = str(tmp_path / "empty")
    assert main([*command, "--sources", str(tmp_path / "none"), "--output", str(output)]) == 1


@pytest.fixture
def few(monkeypatch):
    """Two rendered pairs in place of all labeled sets."""
    pairs = PairFolder(RENDERED / "test")
    pairs.files = pairs.files[:2]
    sets = {"few": (pairs, read_labels(pairs.folder, pairs))}
    for module in (protocol, sentences):
        monkeypatch.setattr(module, "labeled_sets", lambda data_dir: sets)
    return sets


def test_the_protocol_measures_every_method_and_the_merger(work, few, tmp_path, monkeypatch):
    made = {"visible": lambda ir, vi: vi, "infrared": lambda ir, vi: ir, "average": average}
    monkeypatch.setattr(protocol, "methods", lambda network: made)
    options = {"steps": 1, "batch": 1, "seeds": 2, "output": tmp_path / "r.json"}
    record = protocol.run_protocol(work, **options)
    found = record["one_per_method"]["few"]
    assert set(found) == {*made, "merged"} == set(record["one_for_all"]["few"])
    assert all(len(rows) == 2 and 0 <= rows[0]["person"] <= 1 for rows in found.values())
    assert studies.read_study(tmp_path / "r.json") == record and not studies.age(record)
    before = (work / "average-1.pt").stat().st_mtime_ns
    assert protocol.run_protocol(work, **options) == record
    assert (work / "average-1.pt").stat().st_mtime_ns == before, "trained again"
    with pytest.raises(ValueError, match="detector protocol"):
        studies.read_study(tmp_path / "none.json")


def test_a_study_says_which_of_its_models_ship_no_more():
    now = studies.weights_now()
    assert set(now) == {"detector", "fusion network", "CLIP"}
    assert studies.age({"weights": now}) == studies.age({}) == ""
    told = studies.age({"weights": {**now, "detector": "0" * 12}})
    assert told == "Measured with an earlier detector than ships now."
    for path in (studies.PROTOCOL, studies.SENTENCES, studies.DETECTOR):
        assert set(studies.read_study(path)["weights"]) < set(now)


def test_networks_are_measured_against_that_of_the_paper(few):
    torch.manual_seed(0)
    one, two = BoundedFusionNetwork().eval(), BoundedFusionNetwork().eval()
    with torch.no_grad():
        for parameter in two.parameters():
            parameter.add_(0.05)
    found = sentences.measure({"paper": one, "other": two})["few"]
    assert set(found["paper"]["change"].values()) == {0.0}
    assert found["other"]["change"]["elsewhere"] > 0
    assert 0.5 <= found["other"]["stands_out"]["person"] <= 1


# --- measures of the study on sentences -----------------------------------------------------------


def test_what_stands_out_has_an_area_of_one_and_what_does_not_of_a_half():
    noise = 0.4 + 0.1 * torch.rand(1, 60, 60, generator=torch.Generator().manual_seed(0))
    boxes = Boxes.of([((20, 15, 40, 45), "person"), ((20, 15, 22, 17), "person")])
    assert stands_out(noise, boxes)[0] < 0.6 and np.isnan(stands_out(noise, boxes)[1])
    for level in (0.8, 0.1):
        seen = noise.clone()
        seen[0, 15:45, 20:40] = level
        assert stands_out(seen, boxes)[0] == pytest.approx(1)
    with pytest.raises(ValueError, match=r"\(1, H, W\)"):
        stands_out(noise[0], boxes)


def test_what_is_clear_to_see_differs_enough_from_its_surroundings():
    boxes = Boxes.of([((20, 15, 40, 45), "person")])
    picture = torch.full((1, 60, 60), 0.4)
    for level, clear in ((0.41, False), (0.5, True), (0.2, True)):
        picture[0, 15:45, 20:40] = level
        assert stands_out(picture, boxes)[0] == 1, "by however little"
        assert contrast(picture, boxes)[0] == pytest.approx(abs(level - 0.4), abs=0.003)
        assert is_clear(picture, boxes).tolist() == [clear]
    picture[0, 15:30, 20:40], picture[0, 30:45, 20:40] = 0.6, 0.2  # bright above, dark below
    assert stands_out(picture, boxes)[0] == pytest.approx(0.5, abs=0.05)
    assert contrast(picture, boxes)[0] == pytest.approx(0.2, abs=0.01), "no cancelling"


def test_change_is_told_within_boxes_and_outside():
    first = np.zeros((20, 20), np.uint8)
    second = first.copy()
    second[5:10, 5:10] = 40
    boxes = Boxes.of([((5, 5, 10, 10), "person")])
    assert sentences.change(first, second, boxes) == (40, 0)


def test_a_sentence_is_one_whose_words_are_known():
    class Clip:
        words = frozenset({"salient", "people"})

    assert sentences.choose(Clip(), ("people that stand out", "salient people")) == "salient people"
    Clip.words = None
    assert sentences.choose(Clip(), ("people that stand out",)) == "people that stand out"


def test_the_shipped_detector_is_small_and_finds_people_in_both_cameras():
    """Not how good it is (its card says that): it finds far more than a detector by chance."""
    path = detectors.SHIPPED_DETECTOR
    assert path.stat().st_size <= 4_000_000
    pairs = PairFolder(RENDERED / "test")
    pairs.files = pairs.files[::4]
    found = search_set(
        pairs,
        read_labels(pairs.folder, pairs),
        load_detector(),
        ["infrared", "visible"],
        progress=False,
    )
    rows = {(r["method"], r["class"]): r["ap50"] for r in precision_rows(found, CLASSES, draws=1)}
    assert rows["infrared", "person"] > 0.15 and rows["infrared", "vehicle"] > 0.15
    assert rows["visible", "vehicle"] > 0.05


def test_the_weights_say_how_they_were_made(work, tmp_path):
    output = tmp_path / "detector.pt"
    options = ["--sources", str(RENDERED / "train"), str(tmp_path / "pool"), "--batch", "2"]
    for name in ("pairs.json", "pairs.npy"):
        (tmp_path / name).write_bytes((work / name).read_bytes())
    options += ["--work", str(tmp_path), "--output", str(output), "--steps", "1"]
    assert main(["train", *options]) == 0
    metadata = load_detector(output).metadata
    assert metadata["command"] == (
        "python -m experiments.detector train --steps 1 --batch 2 "
        "--sources ldf_utils/data/rendered/train pool"
    )
    assert metadata.keys() == load_detector("embedded").metadata.keys()
    default = command_line._command(DetectorConfig(), [RENDERED / "train"])
    assert default == "python -m experiments.detector train --steps 1950"


def test_the_card_is_what_its_record_gives(tmp_path):
    folder = evaluation.WEIGHTS
    (tmp_path / evaluation.RECORD).write_bytes((folder / evaluation.RECORD).read_bytes())
    made = evaluation.write_card(tmp_path).read_text(encoding="utf-8")
    assert made == (folder / evaluation.CARD).read_text(encoding="utf-8")
    record = json.loads((folder / evaluation.RECORD).read_text(encoding="utf-8"))
    assert record["training"] == load_detector("embedded").metadata
    assert record["bytes"] == (folder / "detector.pt").stat().st_size
