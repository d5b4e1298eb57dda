"""What held-out sentences do: the measurement, its record, its table."""

import json
import math

import pytest
import torch

from experiments.ablation.measures import Sample
from experiments.ablation.objects import Box
from experiments.sentence import proof, report
from experiments.sentence.__main__ import main
from experiments.sentence.training import CONFIG, NO_WORDS, begin_with
from ldf_utils.clip.grammar import is_held_out
from ldf_utils.clip.loading import load_clip
from ldf_utils.evaluation import sentences
from ldf_utils.evaluation.declared import EFFECTS
from ldf_utils.fusion.sentence import sentence_directions
from ldf_utils.networks.bounded import BoundedFusionNetwork
from ldf_utils.networks.salient import SalientFusionNetwork
from ldf_utils.networks.sentence import SentenceFusionNetwork
from ldf_utils.training.config import TrainConfig


@pytest.fixture(scope="module")
def clip():
    return load_clip("mini")


class Brightening(SentenceFusionNetwork):
    """Gives the average of the sources, the brighter the less dark the sentence is."""

    def __init__(self, clip):
        super().__init__(clip.dim)
        dark, bright = (sentence_directions(clip, f"a {word} image") for word in ("dark", "bright"))
        self.axis = (bright - dark)[0]
        self.least = 0.5 * (bright[0] @ self.axis)  # what sentences about other things stay below

    def forward(self, infrared, visible, directions=None):
        said = self.spoken if directions is None else directions
        amount = said[0] @ self.axis
        amount = amount * (amount.abs() > self.least)
        return ((infrared + visible) / 2 + 0.2 * amount).clamp(0, 1)


@pytest.fixture(scope="module")
def samples():
    generator = torch.Generator().manual_seed(0)
    made = []
    for k in range(3):
        infrared, visible = 0.3 + 0.2 * torch.rand(2, 1, 64, 64, generator=generator)
        warm = torch.zeros(1, 64, 64)
        warm[:, 20:40, 20:32] = 1
        boxes = (Box("person", 20, 20, 32, 40), Box("car", 40, 40, 60, 52))
        made.append(Sample(f"set/{k}", infrared, visible, warm, boxes=boxes))
    return made


def test_what_is_measured_was_never_trained_with():
    assert {row.variant for row in EFFECTS} == {
        f"word {w}" for pair in sentences.OPPOSITES for w in pair
    }
    for sentence in (*proof.OBJECTS.values(), *proof.PARAPHRASES, *proof.PARAPHRASES.values()):
        assert is_held_out(sentence), sentence
    assert CONFIG.sentences == "grammar" and CONFIG.network == "sentence"
    TrainConfig.from_dict(CONFIG.to_dict() | NO_WORDS)


def test_effects_of_a_network_that_knows_dark_and_bright(clip, samples):
    plain = SalientFusionNetwork().eval()
    rows = proof.effects(Brightening(clip), plain, {"rendered": samples}, clip)
    assert len(rows) == len(EFFECTS)
    by_word = {row["word"]: row for row in rows}
    assert by_word["bright"]["moved from opposite"] and by_word["dark"]["moved from opposite"]
    assert by_word["bright"]["against opposite"]["mean"] > 5
    assert not by_word["noisy"]["moved from opposite"]  # it does nothing to noise
    found = {row["word"]: row["against opposite"]["mean"] for row in rows}
    assert found["dark"] == pytest.approx(-found["bright"])


def test_ways_and_paraphrases(clip, samples):
    network = Brightening(clip)
    ways = proof.ways(network, samples, clip)
    (dark_to_bright,) = (way for way in ways if way["to"] == "bright")
    assert len(dark_to_bright["values"]) == proof.STEPS + 1 and dark_to_bright["steps_back"] == 0
    rows = proof.nothing_new(network, samples, clip)
    dark = rows[0]
    assert dark["sentence"] == "a dark image" and dark["changes"] < dark["opposite_changes"]


def test_differences_need_more_than_two_standard_errors():
    found = proof.compare([1.0, 2.0, 3.0, math.nan], [0.0, 0.0, 0.0, 0.0])
    assert found == {"mean": 2.0, "error": pytest.approx(1 / math.sqrt(3)), "samples": 3}
    assert proof.moved(+1, found) and not proof.moved(-1, found)
    assert not proof.moved(+1, proof.compare([1.0, -1.0], [0.0, 0.0]))
    assert math.isnan(proof.compare([math.nan], [0.0])["mean"])
    assert not proof.moved(+1, proof.compare([5.0], [0.0]))  # one sample has no error


def small_record(clip, samples):
    network, plain = Brightening(clip), SalientFusionNetwork().eval()
    effects = proof.effects(network, plain, {"rendered": samples}, clip)
    return {
        "command": "python -m experiments.sentence measure",
        "training": {"config": CONFIG.to_dict()},
        "samples": {"rendered": len(samples)},
        "side": 64,
        "runs": [{"seed": 0, "effects": effects}],
        "alone": [],
        "ways": proof.ways(network, samples, clip),
        "objects": proof.objects(network, {"rendered": samples}, clip),
        "nothing_new": proof.nothing_new(network, samples, clip),
        "ranks": {},
        "seconds": {"sentence": 0.1, "shipped": 0.1},
    }


def test_the_record_and_its_table(clip, samples, tmp_path):
    path = tmp_path / "record.json"
    path.write_text(json.dumps(small_record(clip, samples)), encoding="utf-8")
    record = sentences.load_record(path)
    counts = sentences.summary(record)
    assert counts["effects"] == 12 and counts["ways"] == 6
    assert counts["moved from opposite"] >= 2
    other = [row | {"moved": not row["moved"]} for row in record["runs"][0]["effects"]]
    twice = record | {"runs": [record["runs"][0], {"seed": 1, "effects": other}]}
    assert sentences.summary(twice)["moved in all seeds"] == 0
    assert sentences.summary(twice)["moved"] == counts["moved"]
    text = report.table(record)
    assert "| dark | rendered |" in text and "salient people" in text
    path.write_text("{}", encoding="utf-8")
    with pytest.raises(ValueError, match="no record of the sentences"):
        sentences.load_record(path)
    with pytest.raises(ValueError, match="experiments.sentence measure"):
        sentences.load_record(tmp_path / "none.json")


def test_a_training_may_begin_with_a_network_that_takes_no_sentence(clip, samples):
    plain = SalientFusionNetwork(max_lift=0.3).eval()
    begun = begin_with(plain, clip.dim)
    both = samples[0].infrared[None], samples[0].visible[None]
    said = sentence_directions(clip, "a dark image")
    with torch.no_grad():
        torch.testing.assert_close(begun(*both, said), plain(*both))
    assert begun.max_lift == 0.3 and begin_with(begun, clip.dim) is begun
    with pytest.raises(ValueError, match="BoundedFusionNetwork"):
        begin_with(BoundedFusionNetwork(), clip.dim)


def test_missing_networks_are_named(tmp_path, capsys):
    assert main(["measure", "--work", str(tmp_path), "--seeds", "2", "--rendered", "1"]) == 1
    assert "no_words_0.pt" in capsys.readouterr().err
