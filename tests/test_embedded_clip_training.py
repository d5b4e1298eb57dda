"""The embedded CLIP: its losses, its training, and what the shipped one knows."""

import json
import math
from copy import deepcopy
from pathlib import Path

import open_clip
import pytest
import torch

from experiments.embedded_clip import evaluation, losses, trainer, training
from experiments.embedded_clip.__main__ import main
from experiments.embedded_clip.config import EmbeddedClipConfig
from experiments.embedded_clip.dataset import VIEWS
from experiments.embedded_clip.model import (
    VISION,
    encode_image,
    encode_text,
    load_grown,
    model_config,
    new_model,
    new_tokenizer,
    write_model,
)
from experiments.embedded_clip.trainer import Trainer
from ldf_utils.clip.loading import MINI_FOLDER, load_clip
from ldf_utils.clip.model import PROMPTS
from ldf_utils.data.images import luminance, read_image
from ldf_utils.data.pairs import find_sets


def test_contrastive_loss_against_the_definition(generator):
    logits = torch.randn(5, 7, generator=generator)
    state = torch.randint(-1, 2, (5, 7), generator=generator)
    state[0, 0], state[0, 1] = 1, -1
    loss = losses.contrastive_loss(logits, state > 0, state < 0)
    total = []
    for scores, marks in ((logits, state), (logits.T, state.T)):
        rows = []
        for row, mark in zip(scores, marks, strict=True):
            wrong = row[mark < 0].exp().sum()
            each = [-(torch.log(s.exp() / (s.exp() + wrong))) for s in row[mark > 0]]
            if each:
                rows.append(torch.stack(each).mean())
        total.append(torch.stack(rows).mean())
    torch.testing.assert_close(loss, (total[0] + total[1]) / 2)


def test_denial_loss_against_the_definition(generator):
    def unit(n):
        return torch.nn.functional.normalize(torch.randn(n, 4, generator=generator), dim=-1)

    pictures, yes, no = unit(5), unit(2), unit(2)
    truth = torch.tensor([[1.0, 0, -1], [1, 0, 0], [-1, 0, 1], [0, 1, 1], [-1, 1, 0]])
    loss = losses.denial_loss(pictures, truth, yes, no, [0, 2], scale=7.0)
    parts = []
    for a, k in enumerate([0, 2]):
        for sign in (1.0, -1.0):
            rows = [i for i in range(5) if truth[i, k] == sign]
            each = [pictures[i] @ (yes[a] - no[a]) * 7 * sign for i in rows]
            parts.append(sum(torch.log(1 + torch.exp(-x)) for x in each) / len(each))
    torch.testing.assert_close(loss, sum(parts) / 4)
    heavy = losses.attribute_loss(
        7 * pictures @ (yes - no).T, truth[:, [0, 2]], torch.tensor([3.0, 1.0])
    )
    torch.testing.assert_close(heavy, (3 * sum(parts[:2]) + sum(parts[2:])) / 8)


def test_degradation_loss_against_the_definition():
    pictures = torch.eye(3)[None]  # one scene, three views; the last was made of the first
    origin = torch.tensor([[0, 1, 0]])
    change = torch.zeros(1, 3, 4)
    yes, no = torch.eye(3)[[2, 1]], torch.eye(3)[[0, 2]]
    assert losses.degradation_loss(pictures, origin, change, yes, no, [1, 3]) == 0
    change[0, 2, 1] = 1.0  # the margin of the copy is 1, of its original -1
    loss = losses.degradation_loss(pictures, origin, change, yes, no, [1, 3], scale=2.0)
    assert loss.item() == pytest.approx(math.log1p(math.exp(-4)))
    change[0, 2, 3] = -1.0  # the margin of the copy is -1, of its original 0
    loss = losses.degradation_loss(pictures, origin, change, yes, no, [1, 3], scale=2.0)
    expected = (math.log1p(math.exp(-4)) + math.log1p(math.exp(-2))) / 2
    assert loss.item() == pytest.approx(expected)


def test_direction_losses_are_l_dir_and_no_source_counts(generator):
    unit = torch.nn.functional.normalize
    images = unit(torch.randn(3, 5, 8, generator=generator), dim=-1)
    infrared_text, visible_text, fused_text = unit(torch.randn(3, 8, generator=generator), dim=-1)
    found = trainer.direction_losses(images, torch.stack([infrared_text, visible_text, fused_text]))
    assert found.shape == (3, 3)
    cosine = torch.nn.functional.cosine_similarity
    for g in range(3):
        for v in range(3):
            fused = images[g, v + 2]
            a = cosine(fused - images[g, 1], fused_text - infrared_text, dim=0)
            b = cosine(fused - images[g, 0], fused_text - visible_text, dim=0)
            torch.testing.assert_close(found[g, v], 1 - (a + b) / 2)


def test_the_learning_rate_warms_up_and_falls_in_two_cycles():
    config = EmbeddedClipConfig(steps=100, second_cycle_steps=40, textured_steps=20, warm_up=10)
    factors = [config.learning_rate_factor(step) for step in range(config.total_steps)]
    assert factors[0] == pytest.approx(0.1) and max(factors) == factors[9] == 1.0
    assert factors[100] == pytest.approx(config.second_cycle_rate)
    assert min(factors[10:]) >= 0.02 and factors[-1] == pytest.approx(0.02, abs=0.01)
    rises = [step for step in range(11, 160) if factors[step] > factors[step - 1]]
    assert rises == [100, 140], "it rises only where a cycle begins"


def test_augmentation_grows_and_then_covers_its_last_share():
    config = EmbeddedClipConfig(steps=100, augmented=(0.25, 0.5, 1.0))
    shares = [config.augmented_share(step) for step in (0, 25, 49, 50, 120)]
    assert shares == pytest.approx([0.25, 0.375, 0.495, 1.0, 1.0])


def test_maxima_come_before_averages(generator):
    images = torch.rand(4, 7, 1, 8, 8, generator=generator)
    images[:2, 3] = (images[:2, 0] + images[:2, 1]) / 2
    images[2:, 3] = torch.maximum(images[2:, 0], images[2:, 1])
    direction = torch.tensor([0.9, 0.7, 0.8, 0.6])
    assert losses.order_loss(images, direction).item() == pytest.approx(0.15 + 0.7 - 0.8, abs=1e-6)
    assert losses.order_loss(images, torch.tensor([1.0, 1, 0, 0])) == 0
    assert losses.order_loss(images[:2], direction[:2]) == 0  # no maximum to compare with


def test_pair_loss_against_the_definition():
    infrared, visible = torch.eye(4)[:2], torch.eye(4)[2:]
    texts = torch.eye(4)[[0, 2, 3]]  # the first infrared picture is the sentence, as is the visible
    expected = (math.log1p(math.exp(-3 * 2)) + math.log1p(math.exp(-3 * 0))) / 2
    assert losses.pair_loss(infrared, visible, texts, 3.0).item() == pytest.approx(expected)
    swapped = losses.pair_loss(visible, infrared, texts, 3.0)
    assert swapped > losses.pair_loss(infrared, visible, texts, 3.0)


def test_statistics_are_those_of_the_averaged_weights(training_pieces):
    """After counting, what a batch norm remembers is what its inputs are on training images."""
    torch.manual_seed(0)
    visual = torch.nn.Sequential(torch.nn.Conv2d(3, 5, 3), torch.nn.BatchNorm2d(5))
    seen = []
    visual[0].register_forward_hook(lambda _m, _i, output: seen.append(output.detach()))
    visual[1].running_mean.fill_(7.0)  # of other weights
    config = EmbeddedClipConfig(squares_per_step=4)
    training.count_statistics(visual, training_pieces, None, config, batches=3)
    assert len(seen) == 3
    expected = torch.stack([batch.mean((0, 2, 3)) for batch in seen]).mean(0)
    close = dict(rtol=1e-3, atol=1e-4)
    torch.testing.assert_close(visual[1].running_mean, expected, **close)
    expected = torch.stack([batch.var((0, 2, 3)) for batch in seen]).mean(0)
    torch.testing.assert_close(visual[1].running_var, expected, **close)


TINY = {
    "steps": 3,
    "second_cycle_steps": 1,
    "textured_steps": 1,
    "squares_per_step": 2,
    "captions": 12,
    "warm_up": 1,
    "save_every": 2,
    "threads": 1,
    "adversarial_at": (0.5,),
    "adversarial_steps": 2,
    "adversarial_squares": 4,
}


@pytest.fixture
def same_threads():
    threads = torch.get_num_threads()
    yield
    torch.set_num_threads(threads)


def test_training_resumes_where_it_was(tmp_path, training_pieces, monkeypatch, same_threads):
    monkeypatch.setattr(training, "Pieces", lambda _folder: training_pieces)
    config = EmbeddedClipConfig(**TINY)
    training.train(config, tmp_path, tmp_path / "a", tmp_path / "work_a")
    stop = torch.optim.lr_scheduler.LambdaLR.step
    calls = []

    def step(self, *args):
        calls.append(1)
        if len(calls) == 8:  # of both optimizers: a call when it is made, then one a step
            raise KeyboardInterrupt
        return stop(self, *args)

    monkeypatch.setattr(torch.optim.lr_scheduler.LambdaLR, "step", step)
    with pytest.raises(KeyboardInterrupt):
        training.train(config, tmp_path, tmp_path / "b", tmp_path / "work_b")
    assert not (tmp_path / "b").exists()
    monkeypatch.setattr(torch.optim.lr_scheduler.LambdaLR, "step", stop)
    training.train(config, tmp_path, tmp_path / "b", tmp_path / "work_b")
    first, second = (load_clip(tmp_path / name).model.state_dict() for name in "ab")
    for name, value in first.items():
        torch.testing.assert_close(second[name], value, rtol=0, atol=0)
    with pytest.raises(ValueError, match="other settings"):
        other = EmbeddedClipConfig(**{**TINY, "seed": 9})
        training.train(other, tmp_path, tmp_path / "b", tmp_path / "work_b")


def test_towers_compute_what_the_model_does(generator):
    torch.manual_seed(2)
    model = new_model().eval()
    pixels = torch.randn(3, 3, 96, 96, generator=generator)
    tokens = new_tokenizer()([PROMPTS.infrared, "fog", PROMPTS.fused])
    with torch.no_grad():
        for mine, theirs in (
            (encode_image(model, pixels), model.encode_image(pixels)),
            (encode_text(model, tokens), model.encode_text(tokens)),
        ):
            torch.testing.assert_close(mine, theirs, rtol=1e-4, atol=1e-5)


def test_no_batch_is_made_after_the_last_step(tmp_path, training_pieces, monkeypatch):
    config, made = EmbeddedClipConfig(**TINY), []
    trainer = Trainer(config, tmp_path / "none.pt")
    make = trainer._make_batch
    monkeypatch.setattr(trainer, "_make_batch", lambda *a: made.append(a[1]) or make(*a))
    for _ in range(config.total_steps):
        trainer.run_step(training_pieces)
    assert made == list(range(config.total_steps))


def test_a_few_steps_lower_the_losses(tmp_path, training_pieces):
    settings = {**TINY, "steps": 24, "squares_per_step": 4, "adversarial_at": (), "captions": 40}
    config = EmbeddedClipConfig(**settings, augmented=(0.0, 0.0, 0.0))
    trainer = Trainer(config, tmp_path / "none.pt")
    rows = [trainer.run_step(training_pieces) for _ in range(24)]

    def mean(name, part):
        return sum(row[name].item() for row in part) / len(part)

    for name in ("contrast", "denial", "attribute"):
        assert mean(name, rows[-8:]) < 0.95 * mean(name, rows[:8]), name
    assert mean("place", rows[-8:]) < 0.98 * mean("place", rows[:8])
    assert {"salience", "degradation", "direction", "pair"} <= set(rows[0])


def test_a_grown_tower_computes_what_the_smaller_one_did(tmp_path, generator):
    small = deepcopy(VISION)
    small["layers"] = [1, 1, 1, 1]
    torch.manual_seed(3)
    old = open_clip.model.CLIP(**model_config(small)).eval()
    write_model(old, tmp_path, small)
    grown = new_model().eval()
    assert len(grown.visual.layer3) > 1
    load_grown(grown, tmp_path)
    images = torch.randn(2, 3, 96, 96, generator=generator)
    with torch.no_grad():
        expected = load_clip(tmp_path).model.encode_image(images)
        torch.testing.assert_close(grown.encode_image(images), expected, rtol=1e-4, atol=1e-5)
    other = deepcopy(small)
    other["width"] = 16
    write_model(open_clip.model.CLIP(**model_config(other)), tmp_path / "thin", other)
    with pytest.raises(ValueError, match="do not fit"):
        load_grown(new_model(), tmp_path / "thin")


def test_the_command_trains_for_some_minutes_and_writes_a_model(
    tmp_path, training_pieces, same_threads
):
    pack = Path(training_pieces.maps[0].filename).parent.parent
    options = ["--pack", str(pack), "--work", str(tmp_path), "--folder", str(tmp_path / "clip")]
    options += ["--squares-per-step", "2", "--adversarial-squares", "2", "--adversarial-steps", "1"]
    assert main(["train", *options, "--minutes", "0.02", "--threads", "1"]) == 0
    clip = load_clip(tmp_path / "clip")
    assert clip.words == load_clip("mini").words and clip.image_size == 96
    assert (tmp_path / "clip" / "open_clip_model.safetensors").stat().st_size < 8e6
    record = json.loads((tmp_path / "clip" / "training.json").read_text())
    assert record["data"]["real"] == 12 and record["images_per_step"] == 18
    assert record["held_out_every"] == training_pieces.held_out_every


def test_steps_are_scaled_to_the_minutes(monkeypatch, training_pieces):
    class Still:
        def __init__(self, *_):
            pass

        def run_step(self, _pieces):
            clock[0] += 0.5

    clock = [0.0]
    monkeypatch.setattr(training, "Trainer", Still)
    monkeypatch.setattr(training.time, "monotonic", lambda: clock[0])
    config = EmbeddedClipConfig(steps=700, second_cycle_steps=200, textured_steps=100)
    scaled = training.fit_steps(config, training_pieces, minutes=5.0)
    assert scaled.total_steps == pytest.approx(0.9 * 300 / 0.5, abs=3)
    assert scaled.steps == pytest.approx(0.7 * scaled.total_steps, abs=2)


@pytest.fixture(scope="module")
def accuracies(training_pieces):
    """Of the shipped model, on worlds of a seed that its training never saw."""
    index = training_pieces.where(recorded=False)[:90]
    return evaluation.evaluate_squares(load_clip("mini"), training_pieces, index, seed=91_000)


@pytest.mark.parametrize(
    ("name", "least"),
    [("sharp", 0.9), ("noisy", 0.85), ("dark", 0.9), ("overexposed", 0.9)],
)
def test_shipped_model_on_held_out_worlds(accuracies, name, least):
    row = accuracies["attributes"][name]
    assert min(row["true"], row["false"]) > 10
    assert row["balanced_accuracy"] >= least


def test_shipped_model_tells_infrared_from_visible_as_its_record_says(accuracies):
    record = json.loads((MINI_FOLDER / "evaluation.json").read_text())["scenes"]["whole"]
    found = accuracies["whole"]
    for way in ("infrared_or_visible", "paper_sentences"):
        here, there = found[way], record[way]
        assert here["low"] <= there["high"] and there["low"] <= here["high"], way
    assert found["infrared_or_visible"]["infrared_scores_higher"]["mean"] >= 0.9


def test_shipped_model_knows_the_target_sentence(training_batch, accuracies):
    clip = load_clip("mini")
    target = clip.encode_text(PROMPTS.fused)[0]
    images = training_batch.images[training_batch.has_oracle]
    average = (images[:, 0] + images[:, 1]) / 2
    oracle, other = (clip.encode_image(x) @ target for x in (images[:, 2], average))
    assert evaluation.area_under_curve(oracle, other) >= 0.9
    assert accuracies["target_sentence"]["auc"] >= 0.9


def test_shipped_model_orders_the_oracle_first(training_batch, accuracies):
    clip = load_clip("mini")
    target = clip.encode_text(PROMPTS.fused)[0]
    images = training_batch.images[training_batch.has_oracle]
    average = (images[:, 0] + images[:, 1]) / 2
    oracle, other = (clip.encode_image(x) @ target for x in (images[:, 2], average))
    assert (oracle > other).float().mean() > 0.8
    cosine = (clip.encode_image(images.flatten(0, 1)) @ target).view(-1, len(VIEWS))
    assert (cosine[:, 2] > cosine[:, 4]).float().mean() > 0.8  # above its own degraded copy
    assert list(accuracies["direction_loss"]) == ["oracle", "maximum", "average"]  # best first


def test_official_results_are_nearer_to_the_target_than_averages(real_data_dir):
    clip = load_clip("mini")
    target = clip.encode_text(PROMPTS.fused)[0]
    found = 0
    for set_name, method in (("M3FD", "LDFusion"), ("LD-Lite", "LD-Lite")):
        pairs = find_sets(real_data_dir).get(set_name)
        for pair in pairs or ():
            path = pairs.fused_path(method, pair.name)
            if path is None:
                continue
            found += 1
            fused = luminance(read_image(path))
            average = (pair.infrared + pair.luminance) / 2
            both = [clip.encode_image(image[None])[0] @ target for image in (fused, average)]
            assert both[0] > both[1], (set_name, pair.name)
    if not found:
        pytest.skip("no published results of the method beside the project")


def test_card_and_size():
    card = (MINI_FOLDER / "README.md").read_text()
    record = json.loads((MINI_FOLDER / "evaluation.json").read_text())
    assert (
        "python -m experiments.embedded_clip train" in card
        and "both MIT; no other real picture" in card
    )
    assert (MINI_FOLDER / "open_clip_model.safetensors").stat().st_size < 8e6
    assert record["scenes"]["whole"]["infrared_or_visible"]["infrared_scores_higher"]["mean"] >= 0.9


def test_whole_scenes_are_told_apart_one_by_one():
    record = json.loads((MINI_FOLDER / "evaluation.json").read_text())["scenes"]["whole"]
    assert record["infrared_or_visible"]["balanced_accuracy"] >= 0.9
