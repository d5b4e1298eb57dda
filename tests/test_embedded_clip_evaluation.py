"""Evaluation of the embedded CLIP."""

import json
import shutil

import numpy as np
import pytest
import torch
from rendered_helpers import rendered_crops, write_crops

from experiments.embedded_clip import __main__ as command_line
from experiments.embedded_clip import evaluation, labeled, real_evaluation, scores, truth
from experiments.embedded_clip.__main__ import main
from experiments.embedded_clip.config import EmbeddedClipConfig
from ldf_utils.clip.loading import MINI_FOLDER, load_clip
from ldf_utils.data.images import write_image
from ldf_utils.data.pairs import PairFolder
from ldf_utils.losses.direction import direction_loss, text_directions


def test_area_under_curve_against_the_definition(generator):
    a, b = torch.randn(40, generator=generator) + 0.5, torch.randn(30, generator=generator)
    wins = sum(float(x > y) + 0.5 * float(x == y) for x in a for y in b) / (40 * 30)
    assert scores.area_under_curve(a, b) == pytest.approx(wins, abs=1e-6)


def test_interval_against_the_normal_one(generator):
    values = torch.randn(400, generator=generator) * 2 + 5
    row = scores.interval(values)
    half = 1.96 * float(values.std()) / 20
    assert row["mean"] == pytest.approx(float(values.mean()), abs=1e-3)
    assert row["low"] == pytest.approx(row["mean"] - half, abs=0.05)
    assert row["high"] == pytest.approx(row["mean"] + half, abs=0.05)
    sure = scores.interval(torch.ones(5, 2))
    assert sure == {"mean": 1.0, "low": 1.0, "high": 1.0}


def test_real_sets_are_measured_in_every_way_the_card_shows(tmp_path):
    pairs = write_crops(tmp_path / "Small", 3, (96, 128))
    (pairs.folder / "oracle").rename(pairs.folder / "fused_oracle")
    report = real_evaluation.evaluate_real(load_clip("mini"), tmp_path)["Small"]
    assert report["pairs"] == 3 == len(pairs)
    for key in ("infrared_or_visible", "paper_sentences"):
        row = report[key]
        assert row["balanced_accuracy"] == row["mean"]
        assert 0 <= row["low"] <= row["mean"] <= row["high"] <= 1
    assert set(report["true_sentence_preferred"]) == set(truth.EFFECTS)
    assert list(report["nearer_to_target_than_average"]) == ["oracle"]
    losses = {name: row["mean"] for name, row in report["direction_loss"].items()}
    assert set(losses) == {"average", "maximum", "oracle"}
    assert list(losses.values()) == sorted(losses.values())


def test_direction_loss_of_images_no_larger_than_a_crop_is_that_of_the_whole(generator):
    clip = load_clip("mini")
    infrared, visible = (source[0] for source in rendered_crops(1, (128, 128)))
    images = {"infrared": infrared, "visible": visible, "copy": infrared}
    images["maximum"] = torch.maximum(infrared, visible)
    directions = text_directions(clip)
    found = real_evaluation.crop_direction_losses(clip, images, directions, generator)
    seen = {name: clip.encode_image(image[None]) for name, image in images.items()}
    assert list(found) == ["copy", "maximum"]
    for name, value in found.items():
        expected = direction_loss(seen[name], seen["infrared"], seen["visible"], directions)
        assert value == pytest.approx(expected.item(), abs=1e-4)
    # The step of a copy from its source has no length and counts as 0; the other one remains.
    step = seen["infrared"] - seen["visible"]
    cosine = torch.cosine_similarity(step, directions.visible[None]).item()
    assert found["copy"] == pytest.approx(1 - cosine / 2, abs=1e-3)
    assert abs(cosine) > 0.05, "the choice of the pair leaves nothing to tell"


def test_squares_are_measured_in_every_way_the_card_shows(training_pieces):
    index = training_pieces.where(recorded=False)[:30]
    report = evaluation.evaluate_squares(load_clip("mini"), training_pieces, index)
    assert report["pictures"] == 9 * 30 and report["whole"]["pairs"] == 30
    assert set(report["direction_loss"]) == {"oracle", "average", "maximum"}
    people = report["attributes"]["people"]
    assert people["true"] > 10 and people["false"] > 10 and 0 <= people["auc"] <= 1
    again = evaluation.evaluate_squares(load_clip("mini"), training_pieces, index)
    assert again == report


def test_squares_of_another_split_are_not_measured(tmp_path, training_pieces, capsys):
    pack = training_pieces.folder
    with pytest.raises(ValueError, match="every 12th .* --held-out-every 12"):
        evaluation.evaluate(load_clip("mini"), pack, held_out_every=12)
    with pytest.raises(ValueError, match="every nth"):  # not recorded
        evaluation.evaluate(load_clip("mini"), pack)
    every = training_pieces.held_out_every
    report = evaluation.evaluate(load_clip("mini"), pack, squares=2, held_out_every=every)
    assert report["scenes"]["squares"] == 2
    shutil.copytree(MINI_FOLDER, tmp_path / "clip")
    record = json.loads((tmp_path / "clip" / "training.json").read_text(encoding="utf-8"))
    text = json.dumps(record | {"held_out_every": 12})
    (tmp_path / "clip" / "training.json").write_text(text, encoding="utf-8")
    options = ["--folder", str(tmp_path / "clip"), "--pack", str(pack)]
    assert main(["evaluate", *options]) == 1
    assert "--held-out-every 12" in capsys.readouterr().err


def test_worlds_that_no_training_saw_are_measured_whole(tmp_path, training_pieces):
    pack = shutil.copytree(training_pieces.folder, tmp_path / "pack")
    for path in pack.glob("*/facts.npz"):
        with np.load(path) as file:
            facts = {name: file[name] for name in file.files}
        for name in ("held_out", "held_out_every"):
            facts[name] = 1 - facts["recorded"]
        np.savez(path, **facts)
    report = evaluation.evaluate(load_clip("mini"), pack, squares=2, held_out_every=12)
    assert report["scenes"]["squares"] == 2


def _labeled_set(folder, count=12):
    """Write pairs of a gray ramp; half of each shows a bright, warm block, which is labeled."""
    rows = ["image,xmin,ymin,xmax,ymax,name"]
    ramp = torch.linspace(0.2, 0.4, 320).expand(1, 160, -1).clone()
    for number in range(count):
        image = ramp + 0.01 * torch.randn(1, 160, 320)
        left = 20 + 4 * number
        image[:, 60:100, left : left + 20] = 0.9
        for name in ("ir", "vi"):
            write_image(image.clamp(0, 1), folder / name / f"{number}.png")
        rows.append(f"{number}.png,{left},60,{left + 20},100,person")
    (folder / "boxes.csv").write_text("\n".join(rows) + "\n")
    return PairFolder(folder)


class _Brightest:
    """Stand in for a CLIP: an image is its brightest level, and people are what is bright."""

    def encode_image(self, images):
        level = images.flatten(1).quantile(0.98, dim=1)
        return torch.stack([level, torch.full_like(level, 0.6)], 1)

    def encode_text(self, sentences):
        sentences = [sentences] if isinstance(sentences, str) else sentences
        denies = [any(w in s for w in ("no", "without", "hidden", "faint")) for s in sentences]
        return torch.tensor([[0.0, 1.0] if no else [1.0, 0.0] for no in denies])


def test_people_and_salience_are_measured_on_labeled_crops(tmp_path):
    report = labeled.evaluate_labeled(_Brightest(), _labeled_set(tmp_path / "Some"))
    for camera in ("infrared", "visible"):
        people = report["people"][camera]
        assert people["with"] == 12 and people["without"] > 8
        assert people["auc"] == 1.0
        hidden = report["salience"][camera]["hidden"]
        assert report["salience"][camera]["crops"] == 12
        assert hidden["target"]["mean"] == 1.0  # the block is gone, and the brightest level with it


def test_a_set_without_labels_is_measured_all_the_same(tmp_path):
    write_crops(tmp_path / "Small", 2, (96, 128))
    assert "people" not in real_evaluation.evaluate_real(load_clip("mini"), tmp_path)["Small"]


def test_the_card_holds_what_was_measured():
    card = (MINI_FOLDER / "README.md").read_text()
    record = json.loads((MINI_FOLDER / "evaluation.json").read_text())
    for name, row in record["scenes"]["attributes"].items():
        assert f"| {name} | {row['true']} / {row['false']} |" in card
    assert f"{record['scenes']['target_sentence']['auc']:.3f}" in card
    for name, row in record["real"].items():
        assert f"| {name} | {row['pairs']} |" in card
    assert f"{record['adversarial']['called_artifacts']['optimized']:.0%}" in card


def test_a_card_from_records_of_an_older_version_is_refused(tmp_path, capsys):
    shutil.copytree(MINI_FOLDER, tmp_path / "clip")
    record = json.loads((tmp_path / "clip" / "evaluation.json").read_text())
    record["attack"] = record.pop("adversarial")
    (tmp_path / "clip" / "evaluation.json").write_text(json.dumps(record))
    assert main(["card", "--folder", str(tmp_path / "clip")]) == 1
    assert "the records lack 'adversarial'" in capsys.readouterr().err


def test_the_card_is_what_its_records_give(tmp_path):
    shutil.copytree(MINI_FOLDER, tmp_path / "clip")
    (tmp_path / "clip" / "README.md").unlink()
    assert main(["card", "--folder", str(tmp_path / "clip")]) == 0
    made = (tmp_path / "clip" / "README.md").read_text(encoding="utf-8")
    assert made == (MINI_FOLDER / "README.md").read_text(encoding="utf-8")


def test_commands_pass_their_options_on(tmp_path, monkeypatch, capsys):
    asked = []
    monkeypatch.setattr(command_line, "train", lambda *a, **k: asked.append((a, k)) or k["folder"])
    options = ["--second-cycle-steps", "3", "--seed", "5", "--work", str(tmp_path / "work")]
    options += ["--pack", str(tmp_path / "pack"), "--folder", str(tmp_path), "--minutes", "7"]
    assert main(["train", *options]) == 0
    config = EmbeddedClipConfig(second_cycle_steps=3, seed=5)
    places = {"pack": tmp_path / "pack", "work": tmp_path / "work", "folder": tmp_path}
    assert asked == [((config,), {**places, "minutes": 7.0})]
    assert main(["evaluate", "--folder", str(tmp_path / "none")]) == 1
    assert "none" in capsys.readouterr().err
    assert main(["pack", "--pool", str(tmp_path / "none"), "--out", str(tmp_path / "pack")]) == 1
    assert "no complete world" in capsys.readouterr().err
