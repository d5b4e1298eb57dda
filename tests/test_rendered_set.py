"""The rendered set as it is read: sets, truth, and what they say where something is missing."""

import json
import shutil

import pytest
import torch

from experiments.world import truth as world_truth
from ldf_utils.data.images import ImageError
from ldf_utils.data.pairs import PairFolder
from ldf_utils.data.sets import RENDERED, open_sets
from ldf_utils.data.truth import LABELS, NEEDED, Truth, by_people, truth_of, warm_people


@pytest.fixture
def sets(monkeypatch):
    monkeypatch.delenv("LDF_DATA_DIR", raising=False)
    return open_sets()


@pytest.mark.parametrize("split", ["train", "test"])
def test_every_rendered_pair_is_by_day_or_by_night(split, monkeypatch):
    monkeypatch.delenv("LDF_DATA_DIR", raising=False)
    sets = open_sets(split=split)
    assert list(sets) == ["RenderedDay", "RenderedNight"]
    names = [name for pairs in sets.values() for name in pairs.names]
    assert sorted(names) == PairFolder(RENDERED / split).names
    for name, pairs in sets.items():
        assert pairs.name == name and len(pairs) >= 8
        for pair in pairs[:2]:
            night = truth_of(pair).facts["light"] == "night"
            assert night == (name == "RenderedNight")


def test_a_named_folder_takes_the_place_of_the_rendered_set(set_folder, monkeypatch):
    assert list(open_sets(set_folder.parent)) == ["Some"]
    monkeypatch.setenv("LDF_DATA_DIR", str(set_folder.parent))
    assert list(open_sets()) == list(open_sets(split="train")) == ["Some"]
    assert list(open_sets(RENDERED)) == ["parallax", "sequence", "test", "train"]


def test_the_labels_are_those_of_the_renderer():
    assert LABELS == world_truth.LABELS
    readme = (RENDERED / "README.md").read_text(encoding="utf-8")
    assert ", ".join(f"{number} {name}" for number, name in enumerate(LABELS)) in readme


def test_truth_of_every_test_pair_fits_it(sets):
    for pairs in sets.values():
        for pair in pairs:
            truth = truth_of(pair)
            for known in (truth.oracle, truth.labels, truth.instances, truth.temperature):
                assert known.shape == pair.infrared.shape
            assert bool(truth.people.any()) == (truth.facts["people"] > 0)
            movable = (truth.labels > 0) & (truth.labels <= LABELS.index("motorcycle"))
            assert not (truth.warm & ~movable).any()


def test_warm_people_stand_out_in_the_infrared_and_in_the_oracle(sets):
    """Over all pairs with warm people: brighter than their surroundings in both."""
    gaps = []
    for pairs in sets.values():
        for pair in pairs:
            truth = truth_of(pair)
            mask = truth.warm & truth.people
            if mask.sum() < 200:
                continue
            near = torch.nn.functional.max_pool2d(mask.float(), 31, 1, 15) > 0
            ring = near & (truth.instances == 0)
            gaps.append([(x[mask].mean() - x[ring].mean()).item()
                         for x in (pair.infrared, truth.oracle)])  # fmt: skip
    assert len(gaps) >= 10
    infrared, oracle = torch.tensor(gaps).mean(0)
    assert infrared > 0.1 and oracle > 0.05


def test_warm_by_hand(tmp_path):
    """Of two things only the one 3 kelvin above its surroundings is warm."""
    from PIL import Image

    temperature = torch.full((40, 60), 150, dtype=torch.uint8)  # 15 degrees
    instances = torch.zeros_like(temperature)
    instances[10:20, 10:20], instances[10:20, 40:50] = 1, 2
    temperature[10:20, 10:20], temperature[10:20, 40:50] = 160, 156  # by 3 and by 1.8 kelvin
    for part, codes in (("temperature", temperature), ("instances", instances)):
        (tmp_path / part).mkdir()
        Image.fromarray(codes.numpy()).save(tmp_path / part / "a.png")
    truth = Truth(tmp_path, "a")
    assert truth.temperature[0, 0, 0].item() == pytest.approx(15.0)
    assert torch.equal(truth.warm[0], instances == 1)


def test_the_pair_with_most_warm_people_comes_first(sets, set_folder):
    night = sets["RenderedNight"]
    order = by_people(night)
    seen = [warm_people(night[number]) for number in order]
    assert sorted(order) == list(range(len(night)))
    assert seen == sorted(seen, reverse=True) and seen[0] > 500
    real = PairFolder(set_folder)
    assert by_people(real) == [] and warm_people(real[0]) == 0


def test_a_real_pair_has_no_truth(set_folder, pairs):
    assert truth_of(PairFolder(set_folder)[0]) is None
    assert truth_of(pairs[0]) is None  # made in memory


def test_missing_truth_is_named(tmp_path):
    for part in ("ir", "vi", *NEEDED):
        shutil.copytree(RENDERED / "parallax" / "ir", tmp_path / part)
    truth = Truth(tmp_path, "0000")
    with pytest.raises(ImageError, match=r"labels.*no picture for the pair '0000'.*rendered sets"):
        _ = truth.labels
    with pytest.raises(ImageError, match=r"facts\.json: expected a JSON list.*FileNotFound"):
        _ = truth.facts
    (tmp_path / "facts.json").write_text(json.dumps([{"light": "night"}]))
    with pytest.raises(ImageError, match=r"facts\.json: expected .*KeyError: 'name'"):
        _ = truth.facts
