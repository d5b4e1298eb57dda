"""Evaluation of the embedded CLIP."""

import json

import pytest
import torch

from experiments.embedded_clip import evaluation
from ldf_utils.clip.loading import MINI_FOLDER, load_clip
from ldf_utils.data.images import luminance
from ldf_utils.data.scenes import render, write_set
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
    pairs = write_set(tmp_path / "Small", 3, (96, 128), seed=4)
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
    scene = render(1, (128, 128), seed=4)
    infrared, visible = scene.infrared[0], luminance(scene.visible)[0]
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
