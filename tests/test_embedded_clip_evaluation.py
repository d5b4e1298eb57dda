"""Evaluation of the embedded CLIP."""

import json
import shutil

import pytest
import torch
from rendered_helpers import rendered_crops, write_crops

from experiments.embedded_clip import __main__ as command_line
from experiments.embedded_clip import evaluation
from experiments.embedded_clip.__main__ import main
from experiments.embedded_clip.training import EmbeddedClipConfig
from ldf_utils.clip.loading import MINI_FOLDER, load_clip
from ldf_utils.losses.direction import direction_loss, text_directions


def test_area_under_curve_against_the_definition(generator):
    a, b = torch.randn(40, generator=generator) + 0.5, torch.randn(30, generator=generator)
    wins = sum(float(x > y) + 0.5 * float(x == y) for x in a for y in b) / (40 * 30)
    assert evaluation.area_under_curve(a, b) == pytest.approx(wins, abs=1e-6)


def test_interval_against_the_normal_one(generator):
    values = torch.randn(400, generator=generator) * 2 + 5
    row = evaluation.interval(values)
    half = 1.96 * float(values.std()) / 20
    assert row["mean"] == pytest.approx(float(values.mean()), abs=1e-3)
    assert row["low"] == pytest.approx(row["mean"] - half, abs=0.05)
    assert row["high"] == pytest.approx(row["mean"] + half, abs=0.05)
    sure = evaluation.interval(torch.ones(5, 2))
    assert sure == {"mean": 1.0, "low": 1.0, "high": 1.0}


def test_real_sets_are_measured_in_every_way_the_card_shows(tmp_path):
    pairs = write_crops(tmp_path / "Small", 3, (96, 128))
    (pairs.folder / "oracle").rename(pairs.folder / "fused_oracle")
    report = evaluation.evaluate_real(load_clip("mini"), tmp_path)["Small"]
    assert report["pairs"] == 3 == len(pairs)
    for key in ("infrared_or_visible", "paper_sentences"):
        row = report[key]
        assert row["balanced_accuracy"] == row["mean"]
        assert 0 <= row["low"] <= row["mean"] <= row["high"] <= 1
    assert set(report["true_sentence_preferred"]) == set(evaluation.EFFECTS)
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
    found = evaluation.crop_direction_losses(clip, images, directions, generator)
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
    monkeypatch.setattr(command_line, "train", lambda *a: asked.append(a) or a[1])
    options = ["--second-cycle-steps", "3", "--seed", "5", "--work", str(tmp_path / "work")]
    assert main(["train", *options, "--folder", str(tmp_path)]) == 0
    config = EmbeddedClipConfig(second_cycle_steps=3, seed=5)
    assert asked == [(config, tmp_path, tmp_path / "work")]
    assert main(["evaluate", "--folder", str(tmp_path / "none")]) == 1
    assert "none" in capsys.readouterr().err
