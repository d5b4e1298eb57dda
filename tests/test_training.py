"""Training: crops that are what they should be, a loop that learns, runs that can be stopped."""

import csv
import errno
import itertools
import json
import math
import os
import subprocess
import sys
import tomllib
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from test_losses import PROMPTS, TinyClip
from torch import nn

from ldf_utils.clip.model import PROMPTS as PAPER_PROMPTS
from ldf_utils.data.images import ImageError, read_image, write_image
from ldf_utils.data.pairs import Pair, PairFolder
from ldf_utils.losses.fusion_loss import LossTerms, LossWeights
from ldf_utils.networks.bounded import BoundedFusionNetwork
from ldf_utils.networks.checkpoint import load_network
from ldf_utils.training import trainer
from ldf_utils.training.__main__ import main
from ldf_utils.training.config import TrainConfig
from ldf_utils.training.crops import Crops, EpochOrder
from ldf_utils.training.distributed import ProcessError, Team
from ldf_utils.training.schedule import learning_rate, step_seed
from ldf_utils.training.step import gradients, prepare
from ldf_utils.training.trainer import TrainingError, fit

ROOT = Path(__file__).resolve().parent.parent

SMALL = TrainConfig(
    steps=6,
    batch=2,
    crop=32,
    patches=4,
    entropy_threshold=4.0,
    checkpoint_every=2,
    device="cpu",
    prompt_infrared=PROMPTS.infrared,
    prompt_visible=PROMPTS.visible,
    prompt_fused=PROMPTS.fused,
)


class TinyNetwork(nn.Module):
    """Small enough for many steps a second; dropout, so that torch's own random state matters."""

    def __init__(self, dropout: float = 0.2):
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(2, 8, 3, padding=1), nn.ReLU(), nn.Dropout(dropout), nn.Conv2d(8, 1, 1)
        )

    def forward(self, infrared, visible):
        return torch.sigmoid(self.layers(torch.cat([infrared, visible], dim=1)))


def tiny_network(dropout=0.2):
    with torch.random.fork_rng():
        torch.manual_seed(3)
        return TinyNetwork(dropout)


def make_pair(name, height, width, seed=0, channels=1):
    generator = torch.Generator().manual_seed(seed)
    images = torch.rand(1 + channels, height, width, generator=generator)
    return Pair(name, images[:1], images[1:])


@pytest.fixture
def pairs():
    return [make_pair(f"p{i}", 40 + i, 50 - i, seed=i, channels=1 + 2 * (i % 2)) for i in range(4)]


def weights_of(network):
    return {name: tensor.clone() for name, tensor in network.state_dict().items()}


def assert_same_bits(one, other):
    assert one.keys() == other.keys()
    for name in one:
        assert torch.equal(one[name], other[name]), name


class Stop(Exception):
    """What an impatient callback raises."""


# --- configuration


def test_config_goes_through_plain_values_and_json():
    config = TrainConfig(steps=7, prompt_fused="a sharp image", weight_patch=0, flip=False)
    again = TrainConfig.from_dict(json.loads(json.dumps(config.to_dict())))
    assert again == config
    assert again.weights.patch == 0 and again.prompts.fused == "a sharp image"
    assert isinstance(again.weight_patch, float)


def test_defaults_are_the_papers():
    config = TrainConfig()
    assert (config.batch, config.crop, config.learning_rate, config.noise) == (16, 224, 5e-4, 0.03)
    assert (config.weights.direction, config.weights.patch) == (2, 10)
    assert (config.weights.angle, config.weights.perceptual) == (6, 10)
    assert (config.patches, config.entropy_threshold, config.mean_over) == (32, 6, "all")


def test_unknown_settings_name_the_nearest():
    with pytest.raises(ValueError, match="did you mean learning_rate"):
        TrainConfig.from_dict({"learnign_rate": 0.1})
    with pytest.raises(ValueError, match="expected one of steps"):
        TrainConfig.from_dict({"zzz": 0.1})


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("steps", 0),
        ("steps", 2.5),
        ("steps", True),
        ("flip", 1),
        ("crop", 8),
        ("seed", -1),
        ("learning_rate", 0),
        ("learning_rate", float("nan")),
        ("warmup", 2),
        ("floor", 1.5),
        ("network", "large"),
        ("perceptual", "vgg"),
        ("mean_over", "some"),
        ("entropy_threshold", 9),
        ("prompt_fused", 3),
        ("weight_angle", -1),
    ],
)
def test_bad_settings_are_refused_by_name(name, value):
    with pytest.raises(ValueError, match=name.removeprefix("weight_")):
        TrainConfig(**{name: value})


def test_learning_rate_rises_in_a_line_then_really_decays():
    config = TrainConfig(steps=100, warmup=0.1, learning_rate=1.0, floor=0.02)
    rates = [learning_rate(step, config) for step in range(100)]
    assert rates[:10] == pytest.approx([(i + 1) / 10 for i in range(10)])
    assert all(later < earlier for earlier, later in itertools.pairwise(rates[9:]))
    assert rates[-1] == pytest.approx(0.02)
    assert rates[54] == pytest.approx((1 + 0.02) / 2)  # half way down


@pytest.mark.parametrize(("steps", "warmup"), [(1, 0.0), (1, 1.0), (3, 0.0), (3, 1.0)])
def test_learning_rate_of_short_runs(steps, warmup):
    config = TrainConfig(steps=steps, warmup=warmup, learning_rate=1.0)
    rates = [learning_rate(step, config) for step in range(steps)]
    assert all(0 < rate <= 1 for rate in rates)
    assert rates[-1] == pytest.approx(1.0 if warmup else config.floor)


def test_seeds_of_neighbors_differ():
    seeds = {step_seed(a, b, c) for a in range(5) for b in range(5) for c in range(5)}
    assert len(seeds) == 125


@pytest.mark.parametrize("name", ["paper", "paper-as-released", "laptop", "smoke"])
def test_the_configurations_that_ship_are_what_they_say(name):
    text = (ROOT / "configs" / f"{name}.toml").read_text(encoding="utf-8")
    config = TrainConfig.from_dict(tomllib.loads(text))
    if name.startswith("paper"):
        assert (config.network, config.patches, config.batch, config.crop) == ("paper", 32, 16, 224)
        assert config.weights == LossWeights() and config.prompts == PAPER_PROMPTS
        assert config.learning_rate == 5e-4 and config.noise == 0.03 and config.min_std == 0.05
        assert (config.entropy_threshold, config.mean_over) == (6, "all")
        released = name.endswith("released")
        assert (config.schedule == "released") is released
        assert (config.patch_rule == "released") is released
        last = learning_rate(config.steps - 1, config) / config.learning_rate
        assert (last > 1) if released else (last == 1 / 32)
    else:
        assert (config.network, config.clip) == ("bounded", "mini")


# --- crops


def test_crops_are_windows_of_one_pair_registered_and_in_8_bits(pairs):
    config = replace(SMALL, flip=False)
    crops = Crops(pairs, config)
    infrared, visible = crops.batch(torch.Generator().manual_seed(0))
    assert infrared.shape == visible.shape == (2, 1, 32, 32)
    for cut in torch.cat([infrared, visible], dim=1):
        found = 0
        for pair in pairs:
            whole = torch.cat([pair.infrared, pair.luminance])
            windows = whole.unfold(1, 32, 1).unfold(2, 32, 1)
            distance = (windows - cut[:, None, None]).abs().amax(dim=(0, 3, 4))
            found += int((distance <= 0.5 / 255 + 1e-6).sum())
        assert found == 1
    torch.testing.assert_close(infrared * 255, (infrared * 255).round(), atol=1e-4, rtol=0)


def test_half_of_the_crops_are_mirrored():
    ramp = torch.linspace(0, 1, 32).expand(1, 32, 32).contiguous()
    crops = Crops([Pair("ramp", ramp, 1 - ramp)], SMALL)
    generator = torch.Generator().manual_seed(0)
    drawn = torch.stack([crops.draw(generator) for _ in range(200)])
    mirrored = drawn[:, 0, 0, 0] > 0.5
    assert 70 < mirrored.sum() < 130
    torch.testing.assert_close(drawn[mirrored][0].flip(-1), drawn[~mirrored][0])
    torch.testing.assert_close(
        drawn[:, 0] + drawn[:, 1], torch.ones(200, 32, 32), atol=5e-3, rtol=0
    )


def test_small_images_are_mirrored_at_the_borders_and_tiny_ones_refused():
    small = make_pair("small", 20, 60)
    crop = Crops([small], replace(SMALL, flip=False)).draw(torch.Generator().manual_seed(0))
    assert crop.shape == (2, 32, 32)
    torch.testing.assert_close(crop[:, 5], crop[:, 7])  # row 6 is the first of the image
    torch.testing.assert_close(crop[:, 24], crop[:, 26])
    assert Crops([make_pair("least", 12, 12)], SMALL).draw(torch.Generator()).shape == (2, 32, 32)
    with pytest.raises(ImageError, match=r"'tiny'.*11 x 40 .*crops of 32.*at least 12"):
        Crops([make_pair("tiny", 40, 11)], SMALL).draw(torch.Generator())


def test_no_pair_and_unregistered_pairs_are_refused():
    for nothing in ([], {}):
        with pytest.raises(ImageError, match="no pair to train on"):
            fit(SMALL, nothing, TinyClip(), TinyNetwork())
    bad = Pair("bad", torch.rand(1, 40, 40), torch.rand(3, 40, 41))
    with pytest.raises(ImageError, match=r"'bad'.*40 x 40.*41 x 40"):
        Crops([bad], SMALL).draw(torch.Generator())


def test_empty_crops_are_drawn_again_but_not_for_ever():
    class Counted(list):
        reads = 0

        def __getitem__(self, index):
            self.reads += 1
            return super().__getitem__(index)

    flat = Pair("flat", torch.full((1, 40, 40), 0.5), torch.full((1, 40, 40), 0.2))
    config = replace(SMALL, tries=20, cache_mb=0)
    crops = Crops(Counted([flat, make_pair("rich", 40, 40)]), config)
    generator = torch.Generator().manual_seed(0)
    assert all(crops.draw(generator).std() > 0.1 for _ in range(30))
    assert crops.pairs.reads > 30
    only_flat = Crops(Counted([flat]), config)
    assert only_flat.draw(generator).shape == (2, 32, 32)
    assert only_flat.pairs.reads == 20
    half = Pair("half", torch.full((1, 40, 40), 0.5), torch.rand(1, 40, 40))
    one_side = Crops(Counted([half]), config)
    one_side.draw(generator)
    assert one_side.pairs.reads == 1


def test_the_cache_limit_changes_what_is_read_and_nothing_else(pairs):
    class Counted(list):
        reads = 0

        def __getitem__(self, index):
            self.reads += 1
            return super().__getitem__(index)

    drawn, reads, kept = [], [], []
    for limit in (0, 0.005, 10):
        crops = Crops(Counted(pairs), replace(SMALL, cache_mb=limit))
        generator = torch.Generator().manual_seed(0)
        drawn.append(torch.cat([torch.cat(crops.batch(generator)) for _ in range(20)]))
        reads.append(crops.pairs.reads)
        kept.append(sum(both.numel() for both in crops.cache.values()))
    assert torch.equal(drawn[0], drawn[1]) and torch.equal(drawn[0], drawn[2])
    assert reads[0] >= 40 and reads[2] == 4 and reads[2] < reads[1] < reads[0]
    assert kept[0] == 0 and 0 < kept[1] <= 5000


@pytest.mark.parametrize("augment", ["affine", "released"])
@pytest.mark.parametrize("size", [(60, 70), (40, 30)])
def test_crops_can_be_turned(augment, size):
    """A picture of coordinates shows where each pixel comes from, alike in both sources."""
    y, x = torch.meshgrid(*(torch.linspace(0.1, 0.9, s) for s in size), indexing="ij")
    pair = Pair("p", x[None], y[None])
    config = replace(SMALL, augment=augment, flip=False, min_std=0.0)
    crops, generator = Crops([pair], config), torch.Generator().manual_seed(0)
    drawn = torch.stack([crops.draw(generator) for _ in range(20)])
    assert drawn.shape == (20, 2, 32, 32)
    black = (drawn == 0).all(dim=1)
    assert black.any() if augment == "released" else not black.any()
    inside = drawn[:, :, 12:20, 12:20]
    along = inside[:, 0, 4, 7] - inside[:, 0, 4, 0]
    assert (along.abs() > 0.02).all() and along.std() > 1e-3, "zoom changes the slope"
    tilt = (inside[:, 0, 7, 4] - inside[:, 0, 0, 4]).abs() / along.abs()
    assert 0.01 < tilt.mean() < 0.3, "turned and sheared a little"


def test_in_epochs_every_pair_has_its_turn_and_processes_share_them():
    whole = EpochOrder(10, seed=3)
    first, second = ([whole.pair(e * 10 + k) for k in range(10)] for e in (0, 1))
    assert sorted(first) == sorted(second) == list(range(10)) and first != second
    assert [whole.pair(k) for k in (3, 14, 5)] == [first[3], second[4], first[5]]
    shares = [EpochOrder(10, rank, 2, seed=3) for rank in (0, 1)]
    assert [len(share) for share in shares] == [5, 5]
    for epoch in (0, 1):
        both = [[s.pair(epoch * 5 + k) for k in range(5)] for s in shares]
        assert sorted(both[0] + both[1]) == list(range(10))
    uneven = [EpochOrder(3, rank, 2) for rank in (0, 1)]
    assert {s.pair(k) for s in uneven for k in range(2)} == {0, 1, 2}


@pytest.mark.parametrize(("rank", "count"), [(0, 1), (0, 2), (1, 2)])
def test_crops_go_through_the_pairs_in_epochs(rank, count):
    shades = [Pair(str(k), torch.full((1, 32, 32), k / 5), torch.rand(1, 32, 32)) for k in range(4)]
    config = replace(SMALL, order="epochs", batch=2, accumulate=2, steps=4)
    crops = Crops(shades, config, rank, count)
    seen = [
        round(5 * shade.item())
        for step in range(2)
        for batch in prepare(crops, step, rank)
        for shade in batch.infrared.mean(dim=(1, 2, 3))
    ]
    length = len(crops.order)
    assert length == 4 // count
    for epoch in range(0, 8, length):
        assert len(set(seen[epoch : epoch + length])) == length


def test_what_is_prepared_ahead_is_what_would_be_drawn_in_between(pairs, tmp_path):
    found = []
    for ahead in (0, 1, 3):
        config, network = replace(SMALL, ahead=ahead, accumulate=2), tiny_network()
        fit(config, pairs, TinyClip(), network, tmp_path / str(ahead), progress=False)
        found.append(weights_of(network))
    assert_same_bits(found[0], found[1])
    assert_same_bits(found[0], found[2])


# --- the loop


def test_batches_that_are_added_up_give_the_mean_of_their_gradients(pairs):
    config = replace(SMALL, accumulate=3)
    batches = prepare(Crops(pairs, config), step=5)
    assert len({batch.seed for batch in batches}) == 3
    assert batches[0].seed == prepare(Crops(pairs, SMALL), step=5)[0].seed
    device = torch.device("cpu")
    criterion = trainer._criterion(config, TinyClip(), device)
    together, alone = tiny_network(), tiny_network()
    row, fused = gradients(together, criterion, batches, config, device)
    assert len(fused) == 3
    batches = prepare(Crops(pairs, config), step=5)  # their generators have moved on
    totals = []
    for batch in batches:
        totals.append(gradients(alone, criterion, [batch], config, device)[0]["total"])
    assert row["total"] == pytest.approx(sum(totals) / 3, rel=1e-6)
    for one, other in zip(together.parameters(), alone.parameters(), strict=True):
        torch.testing.assert_close(one.grad, other.grad / 3, atol=1e-6, rtol=1e-5)


def test_sources_whose_crop_is_fixed_are_embedded_once(tmp_path):
    small = [make_pair(f"p{i}", 32, 32, seed=i) for i in range(3)]
    plain, kept, large = TinyClip(), TinyClip(), TinyClip()
    config = replace(SMALL, steps=20)
    first = fit(config, small, plain, tiny_network(), tmp_path / "1", progress=False)
    config = replace(config, cache_sources=True)
    second = fit(config, small, kept, tiny_network(), tmp_path / "2", progress=False)

    def sources(clip):
        return sum(count for count, _, graph in clip.encoded if not graph)

    assert sources(plain) == 20 * 2 * 2
    assert sources(kept) == 3 * 2 * 2, "three pairs, each as it is and mirrored"
    for one, other in zip(first.history, second.history, strict=True):
        assert one["total"] == pytest.approx(other["total"], rel=1e-4)
    config = replace(config, steps=4)
    fit(config, [make_pair("p", 40, 40)], large, tiny_network(), tmp_path / "3", progress=False)
    assert sources(large) == 4 * 2 * 2, "a crop of a larger picture is another one each time"


@pytest.mark.parametrize("order", ["random", "epochs"])
def test_one_pair_is_enough(order, tmp_path):
    only, config = [make_pair("only", 40, 40)], replace(SMALL, order=order)
    result = fit(config, only, TinyClip(), tiny_network(), tmp_path, progress=False)
    assert len(result.history) == 6


def test_the_critics_in_use_are_named(pairs, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    config = replace(SMALL, steps=1, perceptual="auto")
    fit(config, pairs, TinyClip(), tiny_network(), tmp_path / "run")
    said = capsys.readouterr().out
    assert "CLIP tiny" in said and "filterbank (stands in for VGG19" in said
    assert "bfloat16" not in said
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: "AVX2")
    config = replace(config, autocast=True)
    fit(config, pairs, TinyClip(), tiny_network(), tmp_path / "emulated")
    assert "bfloat16, which is slower than float32" in capsys.readouterr().out


def test_the_network_sees_noise_and_the_loss_does_not(pairs, monkeypatch, tmp_path):
    seen = []

    class Recorder(TinyNetwork):
        def forward(self, infrared, visible):
            seen.append([infrared, visible])
            return super().forward(infrared, visible)

    class Loss(nn.Module):
        def forward(self, fused, infrared, visible, generator):
            seen[-1] += [infrared, visible]
            return LossTerms(fused.mean(), {"direction": fused.detach().mean()})

    monkeypatch.setattr(trainer, "FusionLoss", lambda *_, **__: Loss())
    config = replace(SMALL, noise=0.03, samples=0)
    fit(config, pairs, TinyClip(), Recorder(), tmp_path, progress=False)
    assert len(seen) == 6
    noise = torch.stack([torch.stack(x[:2]) - torch.stack(x[2:]) for x in seen])
    assert noise.std().item() == pytest.approx(0.03, rel=0.03)
    assert noise.mean().abs() < 1e-3
    assert not torch.equal(noise[0], noise[1]) and not torch.equal(noise[0, 0], noise[0, 1])
    clean = torch.stack([torch.stack(x[2:]) for x in seen]) * 255
    torch.testing.assert_close(clean, clean.round(), atol=1e-3, rtol=0)


def test_training_lowers_the_loss(pairs, tmp_path):
    config = replace(
        SMALL, steps=60, learning_rate=0.02, weight_direction=0, weight_patch=0, weight_angle=0
    )
    network = tiny_network(dropout=0.0)
    result = fit(config, pairs, network=network, folder=tmp_path, progress=False)
    total = [row["total"] for row in result.history]
    assert sum(total[-10:]) < 0.6 * sum(total[:10])
    assert not result.network.training


def test_what_a_run_leaves(pairs, tmp_path):
    rows = []
    result = fit(
        SMALL,
        {"one": pairs[:2], "two": pairs[2:]},
        TinyClip(),
        BoundedFusionNetwork(width=4),
        tmp_path / "run",
        callback=lambda row, network: rows.append((row, network)),
        progress=False,
    )
    assert [row["step"] for row, _ in rows] == [1, 2, 3, 4, 5, 6]
    assert [row for row, _ in rows] == result.history
    assert all(network is result.network for _, network in rows)
    assert list(result.history[0]) == [
        *("step", "learning_rate", "total", "direction", "patch", "angle", "perceptual"),
        *("kept", "gradient"),
    ]
    for step, row in enumerate(result.history):
        assert row["learning_rate"] == learning_rate(step, SMALL)
        weighted = sum(
            getattr(SMALL.weights, name) * row[name]
            for name in ("direction", "patch", "angle", "perceptual")
        )
        assert row["total"] == pytest.approx(weighted, rel=1e-5)
        assert row["gradient"] > 0
    with open(result.folder / "history.csv", newline="") as file:
        table = [{k: float(v) for k, v in row.items()} for row in csv.DictReader(file)]
    assert table == result.history
    assert TrainConfig.from_dict(json.loads((result.folder / "config.json").read_text())) == SMALL
    saved = load_network(result.folder / "network.pt")
    assert_same_bits(weights_of(saved), weights_of(result.network))
    assert saved.metadata["last"]["step"] == 6 and saved.metadata["clip"] == "tiny"
    names = {path.name for path in result.folder.iterdir()}
    assert names == LEFT | {"network.pt"}
    samples = sorted(path.name for path in (result.folder / "samples").iterdir())
    assert samples == ["step_000002.png", "step_000004.png", "step_000006.png"]
    picture = read_image(result.folder / "samples" / samples[-1])
    assert picture.shape == (1, 2 * 32, 3 * 32) and picture.std() > 0.1
    environment = json.loads((result.folder / "environment.json").read_text())
    assert torch.__version__.startswith(environment["torch"])
    assert environment["clip model"] == "tiny"
    assert environment["perceptual features"] == "filterbank" and environment["processes"] == 1
    summary = json.loads((result.folder / "summary.json").read_text())
    assert summary["crops"] == 12 and summary["crops_per_second"] > 0


# What every run leaves, but for the network, which only our own classes are saved as.
LEFT = {
    *("config.json", "environment.json", "history.csv", "checkpoint.pt", "samples"),
    "summary.json",
}


def test_the_run_can_be_watched_in_tensorboard_where_it_is(pairs, tmp_path, monkeypatch):
    events = []

    class SummaryWriter:
        def __init__(self, folder, purge_step):
            events.append(("open", folder, purge_step))

        def add_scalar(self, name, value, step):
            events.append((name, value, step))

        def add_image(self, name, picture, step):
            events.append((name, tuple(picture.shape), step))

        def close(self):
            events.append(("close",))

    module = SimpleNamespace(SummaryWriter=SummaryWriter)
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", module)
    result = fit(SMALL, pairs, TinyClip(), tiny_network(), tmp_path, progress=False)
    assert events[0] == ("open", str(tmp_path), 1) and events[-1] == ("close",)
    assert ("total", result.history[3]["total"], 4) in events
    assert ("samples", (1, 64, 96), 6) in events
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)  # not installed
    fit(SMALL, pairs, TinyClip(), tiny_network(), tmp_path, progress=False)


def test_without_language_no_clip_is_loaded(pairs, tmp_path, monkeypatch):
    monkeypatch.setattr(trainer, "load_clip", lambda name: pytest.fail("CLIP was loaded"))
    config = replace(SMALL, weight_direction=0, weight_patch=0, weight_angle=0)
    result = fit(config, pairs, network=TinyNetwork(), folder=tmp_path, progress=False)
    assert "perceptual" in result.history[0] and "direction" not in result.history[0]
    monkeypatch.setattr(trainer, "load_clip", lambda name: TinyClip())
    result = fit(SMALL, pairs, network=TinyNetwork(), folder=tmp_path, progress=False)
    assert "direction" in result.history[0]


def test_the_seed_decides_and_torchs_own_state_is_left_alone(pairs, tmp_path):
    def run(seed):
        config = replace(SMALL, steps=2, seed=seed)
        return weights_of(fit(config, pairs, TinyClip(), folder=tmp_path, progress=False).network)

    torch.manual_seed(123)
    before = torch.get_rng_state()
    first = run(1)
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(456)
    assert_same_bits(run(1), first)
    assert not all(torch.equal(a, b) for a, b in zip(run(2).values(), first.values(), strict=True))


def test_a_callback_may_put_the_network_in_eval_mode(pairs, tmp_path):
    modes = []

    def callback(row, network):
        modes.append(network.training)
        network.eval()

    fit(SMALL, pairs, TinyClip(), TinyNetwork(), tmp_path, callback, progress=False)
    assert modes == [True] * 6


def test_clip_gets_no_gradient_and_does_not_change(pairs, tmp_path):
    clip = TinyClip()
    before = weights_of(clip)
    fit(SMALL, pairs, clip, TinyNetwork(), tmp_path, progress=False)
    assert_same_bits(weights_of(clip), before)
    assert clip.weight.grad is None


# --- stopped and resumed


@pytest.mark.parametrize("stop_at", [1, 4, 5])
def test_a_resumed_run_is_the_run_that_never_stopped(stop_at, pairs, tmp_path):
    whole = fit(SMALL, pairs, TinyClip(), tiny_network(), tmp_path / "whole", progress=False)

    def impatient(row, network):
        if row["step"] == stop_at:
            raise Stop

    folder = tmp_path / "stopped"
    with pytest.raises(Stop):
        fit(SMALL, pairs, TinyClip(), tiny_network(), folder, impatient, progress=False)
    with open(folder / "history.csv", newline="") as file:
        assert len(list(csv.DictReader(file))) == stop_at
    torch.manual_seed(99)  # whatever happened in between
    steps = []
    other = TinyNetwork() if stop_at > 1 else tiny_network()  # before step 2 there is no checkpoint
    resumed = fit(
        replace(SMALL, cache_mb=0.0, checkpoint_every=3),
        pairs,
        TinyClip(),
        other,
        folder,
        lambda row, network: steps.append(row["step"]),
        resume=True,
        progress=False,
    )
    assert steps[0] == stop_at // 2 * 2 + 1
    assert_same_bits(weights_of(resumed.network), weights_of(whole.network))
    assert resumed.history == whole.history
    saved, expected = (
        torch.load(f / "checkpoint.pt", weights_only=True) for f in (folder, whole.folder)
    )
    for index, moments in expected["optimizer"]["state"].items():
        for name, value in moments.items():
            assert torch.equal(saved["optimizer"]["state"][index][name], value)


def test_a_finished_run_resumes_to_itself(pairs, tmp_path):
    whole = fit(SMALL, pairs, TinyClip(), tiny_network(), tmp_path, progress=False)
    again = fit(SMALL, pairs, TinyClip(), TinyNetwork(), tmp_path, resume=True, progress=False)
    assert again.history == whole.history
    assert_same_bits(weights_of(again.network), weights_of(whole.network))


def test_a_new_run_replaces_the_old_one(pairs, tmp_path):
    fit(SMALL, pairs, TinyClip(), BoundedFusionNetwork(4), tmp_path, progress=False)
    assert (tmp_path / "network.pt").is_file()

    def impatient(row, network):
        raise Stop

    with pytest.raises(Stop):
        fit(SMALL, pairs, TinyClip(), tiny_network(), tmp_path, impatient, progress=False)
    left = {path.name for path in tmp_path.iterdir()}
    assert left == {"config.json", "environment.json", "history.csv"}
    assert len((tmp_path / "history.csv").read_text().splitlines()) == 2


@pytest.mark.parametrize("content", [b"", b"no checkpoint", None])
def test_a_damaged_checkpoint_is_named(content, pairs, tmp_path):
    path = tmp_path / "checkpoint.pt"
    if content is None:
        torch.save({"network": {}}, path)
    else:
        path.write_bytes(content)
    with pytest.raises(TrainingError, match=r"checkpoint\.pt: this is no checkpoint"):
        fit(SMALL, pairs, TinyClip(), TinyNetwork(), tmp_path, resume=True, progress=False)


def test_other_settings_are_refused_on_resume(pairs, tmp_path):
    fit(SMALL, pairs, TinyClip(), tiny_network(), tmp_path, progress=False)

    def again(config=SMALL, pairs=pairs, clip=None):
        fit(config, pairs, clip or TinyClip(), TinyNetwork(), tmp_path, resume=True, progress=False)

    with pytest.raises(ValueError, match=r"learning_rate was 0\.0005 and is 0\.1"):
        again(replace(SMALL, learning_rate=0.1))
    with pytest.raises(ValueError, match="pairs was 4 and is 3"):
        again(pairs=pairs[:3])
    other = TinyClip()
    other.name = "other"
    with pytest.raises(ValueError, match="clip model was 'tiny' and is 'other'"):
        again(clip=other)


def test_a_loss_that_is_not_finite_stops_the_run_and_leaves_the_evidence(pairs, tmp_path):
    network = tiny_network(dropout=0.0)
    before_the_fall = {}

    def poison(row, network):
        if row["step"] == 4:
            before_the_fall.update(weights_of(network))
        if row["step"] == 5:
            with torch.no_grad():
                network.layers[0].weight[0] = float("nan")

    with pytest.raises(TrainingError, match=r"step 6.*not finite.*total nan.*checkpoint stays"):
        fit(SMALL, pairs, TinyClip(), network, tmp_path, poison, progress=False)
    saved = torch.load(tmp_path / "checkpoint.pt", weights_only=True)
    assert saved["step"] == 4
    assert_same_bits(saved["network"], before_the_fall)
    batch = torch.load(tmp_path / "bad_batch.pt", weights_only=True)
    assert batch["step"] == 6 and batch["infrared"].shape == (2, 1, 32, 32)
    assert batch["fused"].isnan().any() and math.isnan(batch["terms"]["total"])
    with open(tmp_path / "history.csv", newline="") as file:
        assert len(list(csv.DictReader(file))) == 5


def test_a_gradient_that_is_not_finite_stops_the_run_too(pairs, tmp_path):
    class Root(TinyNetwork):
        def forward(self, infrared, visible):
            fused = super().forward(infrared, visible)
            return fused + torch.sqrt(fused.detach() * 0 + 0 * self.layers[0].bias.sum())

    network = Root(0.0)
    before = weights_of(network)
    with pytest.raises(TrainingError, match="gradient nan.*no checkpoint yet"):
        fit(SMALL, pairs, TinyClip(), network, tmp_path, progress=False)
    assert_same_bits(weights_of(network), before)


def test_a_picture_that_cannot_be_read_stops_the_run_with_its_name(pairs, tmp_path):
    for pair in pairs:
        write_image(pair.infrared, tmp_path / "data" / "ir" / f"{pair.name}.png")
        write_image(pair.visible, tmp_path / "data" / "vi" / f"{pair.name}.png")
    bad = tmp_path / "data" / "vi" / "p2.png"
    whole = bad.read_bytes()
    bad.write_bytes(whole[:40])
    config = replace(SMALL, order="epochs", batch=1, samples=0, checkpoint_every=1, cache_mb=0.0)
    folder, data = tmp_path / "run", PairFolder(tmp_path / "data")
    with pytest.raises(ImageError, match=r"step \d: .*p2\.png.*(stays at|no checkpoint yet)") as e:
        fit(config, data, TinyClip(), tiny_network(), folder, progress=False)
    assert "resume" in str(e.value)
    bad.write_bytes(whole)  # mended, the run goes on to what it would have been
    network = tiny_network()
    fit(config, data, TinyClip(), network, folder, resume=True, progress=False)
    straight = tiny_network()
    fit(config, data, TinyClip(), straight, tmp_path / "other", progress=False)
    assert_same_bits(weights_of(network), weights_of(straight))


def test_a_full_disk_is_named_and_the_last_checkpoint_stays(pairs, tmp_path, monkeypatch):
    real, calls = torch.save, []

    def save(content, path):
        calls.append(path)
        if len(calls) == 2:
            Path(path).write_bytes(b"half a check")
            raise OSError(errno.ENOSPC, "No space left on device")
        real(content, path)

    monkeypatch.setattr(torch, "save", save)
    with pytest.raises(TrainingError, match=r"step 4: .*No space left.*disk full.*stays at"):
        fit(SMALL, pairs, TinyClip(), tiny_network(), tmp_path, progress=False)
    assert torch.load(tmp_path / "checkpoint.pt", weights_only=True)["step"] == 2
    assert not list(tmp_path.glob(".*")), "half a file is left"
    other = TinyNetwork()
    result = fit(SMALL, pairs, TinyClip(), other, tmp_path, resume=True, progress=False)
    whole = fit(SMALL, pairs, TinyClip(), tiny_network(), tmp_path / "whole", progress=False)
    assert_same_bits(weights_of(result.network), weights_of(whole.network))


def test_a_checkpoint_of_an_earlier_version_can_be_resumed(pairs, tmp_path):
    whole = fit(SMALL, pairs, TinyClip(), tiny_network(), tmp_path, progress=False)
    path = tmp_path / "checkpoint.pt"
    content = torch.load(path, weights_only=True)
    facts = content.pop("facts")
    content |= {"clip": facts["clip model"], "pairs": facts["pairs"]}
    for added in ("schedule", "accumulate", "order", "augment", "patch_rule", "frozen", "ahead"):
        del content["config"][added]
    torch.save(content, path)
    again = fit(SMALL, pairs, TinyClip(), TinyNetwork(), tmp_path, resume=True, progress=False)
    assert_same_bits(weights_of(again.network), weights_of(whole.network))


KILLED = """
import io, os, random, signal, sys, time, traceback
from dataclasses import replace
from pathlib import Path

import resource
import torch

tests, out = Path(sys.argv[1]), Path(sys.argv[2])
sys.path[:0] = [str(tests), str(tests.parent)]
from test_losses import TinyClip
from test_training import SMALL, make_pair

from ldf_utils.data import files
from ldf_utils.networks.bounded import BoundedFusionNetwork
from ldf_utils.training.trainer import TrainingError, fit

torch.set_num_threads(1)
config = replace(SMALL, steps=8, checkpoint_every=1)
pairs = [make_pair(f"p{i}", 40, 50, seed=i) for i in range(3)]
save, replace_file = torch.save, os.replace


def die():
    os.kill(os.getpid(), signal.SIGKILL)


def half_a_save(content, path):
    stream = io.BytesIO()
    save(content, stream)
    Path(path).write_bytes(stream.getvalue()[: stream.tell() // 2])
    die()


def at(number, function, otherwise):
    calls = [0]

    def called(*arguments):
        calls[0] += 1
        return (function if calls[0] == number else otherwise)(*arguments)

    return called


def start(folder, hurt=lambda: None):
    # A process of its own, which has everything imported.
    pid = os.fork()
    if pid:
        return pid
    try:
        hurt()
        torch.manual_seed(4)
        fit(config, pairs, TinyClip(), BoundedFusionNetwork(4), folder, resume=True,
            progress=False)
        os._exit(0)
    except TrainingError as error:
        print("stopped:", error, flush=True)
        os._exit(5)
    except BaseException:
        traceback.print_exc()
        os._exit(3)


def end(pid):
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def look(folder):
    # Whenever there is a checkpoint, it is whole.
    path = folder / "checkpoint.pt"
    return torch.load(path, weights_only=True)["step"] if path.exists() else 0


began = time.perf_counter()
assert end(start(out / "whole")) == 0
duration = time.perf_counter() - began

hurts = {
    "before": lambda: setattr(torch, "save", at(1, lambda *a: die(), save)),
    "first write": lambda: setattr(torch, "save", at(1, half_a_save, save)),
    "third write": lambda: setattr(torch, "save", at(3, half_a_save, save)),
    # replaced are: config, environment, checkpoint 1, history, sample, checkpoint 2, ...
    "before the name": lambda: setattr(files.os, "replace", at(6, lambda *a: die(), os.replace)),
    "after the name": lambda: setattr(
        files.os, "replace", at(6, lambda *a: (replace_file(*a), die()), os.replace)
    ),
    "history": lambda: setattr(files.os, "replace", at(7, lambda *a: die(), os.replace)),
}
for name, hurt in hurts.items():
    folder = out / name
    code = end(start(folder, hurt))
    assert code == -signal.SIGKILL, (name, code)
    print(name, "left step", look(folder), flush=True)
    assert end(start(folder)) == 0, name

folder = out / "at random"
for _ in range(5):
    pid = start(folder)
    time.sleep(random.Random(pid).uniform(0, 0.6 * duration))
    os.kill(pid, signal.SIGKILL)
    end(pid)
    print("at random left step", look(folder), flush=True)
assert end(start(folder)) == 0


def small_disk():
    def limited(content, path):
        resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, resource.RLIM_INFINITY))
        try:
            save(content, path)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY,) * 2)

    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    torch.save = at(4, limited, save)


folder = out / "file too large"
assert end(start(folder, small_disk)) == 5
assert look(folder) == 3
assert end(start(folder)) == 0
print("done")
"""


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork and signals")
def test_killed_at_any_moment_and_resumed_the_weights_are_the_same_bits(tmp_path):
    script = tmp_path / "killed.py"
    script.write_text(KILLED)
    run = subprocess.run(
        [sys.executable, str(script), str(Path(__file__).parent), str(tmp_path)],
        env=os.environ | {"OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""},
        capture_output=True,
        text=True,
        timeout=900,
    )
    assert run.returncode == 0, run.stdout + run.stderr[-3000:]
    for name, step in (("before", 0), ("first write", 0), ("third write", 2),
                       ("before the name", 1), ("after the name", 2), ("history", 2)):  # fmt: skip
        assert f"{name} left step {step}\n" in run.stdout, run.stdout
    assert "stopped: step 4: what the run has to keep could not be written" in run.stdout
    expected = load_network(tmp_path / "whole" / "network.pt")
    history = (tmp_path / "whole" / "history.csv").read_text()
    folders = [folder for folder in tmp_path.iterdir() if folder.is_dir()]
    assert len(folders) == 9
    for folder in folders:
        assert_same_bits(weights_of(load_network(folder / "network.pt")), weights_of(expected))
        assert (folder / "history.csv").read_text() == history
        assert not list(folder.glob(".*")), "half a file is left"


# --- many processes


TOGETHER = """
import json, sys
from dataclasses import replace
from pathlib import Path

import torch

tests, out = Path(sys.argv[1]), Path(sys.argv[2])
sys.path[:0] = [str(tests), str(tests.parent)]
from test_losses import PROMPTS, TinyClip
from test_training import SMALL, TinyNetwork, make_pair

from ldf_utils.losses.fusion_loss import FusionLoss
from ldf_utils.losses.patches import PatchSampler
from ldf_utils.training.distributed import ProcessError
from ldf_utils.training.trainer import (fit)
from ldf_utils.training.distributed import (join_team)

torch.set_num_threads(1)
loss = FusionLoss(TinyClip(), PROMPTS, sampler=PatchSampler(5, size=16), entropy_threshold=6.92)
draws = loss.sampler.draw(4, torch.Generator().manual_seed(6), (32, 32))
images = torch.rand(3, 4, 1, 32, 32, generator=torch.Generator().manual_seed(5))
team = join_team("cpu")
torch.manual_seed(team.rank)  # different weights, until the team agrees
network = TinyNetwork(0.0)
network.unused = torch.nn.Parameter(torch.ones(2))
team.agree(network)


def step(images, draws, average):
    network.zero_grad()
    terms = loss(network(images[1], images[2]), images[1], images[2], draws=draws)
    terms.total.backward()
    if average:
        team.average(network)
    gradients = {n: p.grad.clone() for n, p in network.named_parameters() if p.grad is not None}
    return {"total": terms.total.item(), "gradients": gradients, "kept": terms.kept}


alone = step(images, draws, average=False)
mine = slice(team.rank * 2, team.rank * 2 + 2)
halves = step(images[:, mine], draws.view(5, 4, 2, 3)[:, mine].flatten(0, 1), average=True)
halves["total"] = team.mean({"total": halves["total"]})["total"]

pairs = [make_pair(f"p{i}", 40, 50, seed=i) for i in range(4)]
result = fit(SMALL, pairs, TinyClip(), TinyNetwork(), out / "run", progress=False)
state = {"history": result.history, "network": result.network.state_dict()}
more = replace(SMALL, accumulate=2, order="epochs", checkpoint_every=3)
result = fit(more, pairs, TinyClip(), TinyNetwork(), out / "more", progress=False)
state["more"] = result.network.state_dict()

told = ""
try:
    team.average(network, failed=team.rank == 1)
except ProcessError as error:
    told = str(error)
team_work = {"told": told, "all": team.gather(team.rank), "share": team.share(range(5))}
torch.save({"alone": alone, "halves": halves, "fit": state, "team": team_work},
           out / f"{team.rank}.pt")
"""


def torchrun(*arguments, processes=2, timeout=600):
    """Run under torchrun; gives (exit code, output)."""
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    command += [f"--nproc_per_node={processes}", *arguments]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    run = subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    try:
        output, _ = run.communicate(timeout=timeout)
    except subprocess.TimeoutExpired:
        run.terminate()  # which torchrun passes on to its processes, other than being killed
        output, _ = run.communicate()
        pytest.fail(f"{command} did not end:\n{output[-3000:]}")
    return run.returncode, output


@pytest.mark.slow
def test_two_processes_equal_one_on_the_whole_batch(tmp_path):
    script = tmp_path / "together.py"
    script.write_text(TOGETHER)
    code, output = torchrun(str(script), str(Path(__file__).parent), str(tmp_path))
    assert code == 0, output[-3000:]
    first, second = (torch.load(tmp_path / f"{rank}.pt", weights_only=True) for rank in (0, 1))

    alone, halves = first["alone"], first["halves"]
    assert halves["total"] == pytest.approx(alone["total"], rel=1e-6)
    assert 0 < alone["kept"] < 1
    assert halves["gradients"].keys() - alone["gradients"].keys() == {"unused"}
    for name, gradient in alone["gradients"].items():
        assert gradient.abs().max() > 1e-4
        torch.testing.assert_close(halves["gradients"][name], gradient, atol=1e-6, rtol=0)
    assert_same_bits(halves["gradients"], second["halves"]["gradients"])
    # The whole loop: both processes end with the same weights, and one of them writes.
    assert_same_bits(first["fit"]["network"], second["fit"]["network"])
    assert first["fit"]["history"] == second["fit"]["history"]
    assert len(first["fit"]["history"]) == 6
    assert_same_bits(first["fit"]["more"], second["fit"]["more"])
    assert first["team"]["told"].startswith("process 0 of 2: stopped, because 1 other process")
    assert second["team"]["told"] == "" and second["team"]["all"] == [0, 1]
    assert (first["team"]["share"], second["team"]["share"]) == ([0, 2, 4], [1, 3])
    names = {path.name for path in (tmp_path / "run").iterdir()}
    assert names == LEFT


def test_one_process_needs_no_other():
    team, network = Team(0, 1, torch.device("cpu")), tiny_network()
    team.average(network)
    team.agree(network)
    assert team.mean({"a": 1.5}) == {"a": 1.5} and team.gather("x") == ["x"]
    assert team.share([1, 2, 3]) == [1, 2, 3]
    assert all(parameter.grad is None for parameter in network.parameters())


def test_a_broken_connection_is_named(monkeypatch):
    def broken(tensor):
        raise RuntimeError("[gloo] Connection closed by peer [127.0.0.1]:1\nstack")

    monkeypatch.setattr(torch.distributed, "all_reduce", broken)
    with pytest.raises(ProcessError, match=r"process 1 of 2.*averaging.*closed by peer.*message"):
        Team(1, 2, torch.device("cpu")).average(tiny_network())


@pytest.mark.slow
def test_a_process_that_fails_ends_the_job_with_its_reason(set_folder, tmp_path):
    """Two processes, four pairs, one of them damaged: whoever draws it stops them all."""
    bad = set_folder / "ir" / "p1.png"
    bad.write_bytes(bad.read_bytes()[:30])
    command = ["-m", "ldf_utils.training", *QUICK, "--set", "order=epochs", "--set", "crop=32"]
    command += ["--set", "batch=2", "--set", "samples=0", "--data", str(set_folder)]
    code, output = torchrun(*command, "--output", str(tmp_path / "run"), timeout=900)
    assert code != 0
    assert "error: process" in output and "p1.png" in output, output[-3000:]


# --- command line


@pytest.fixture
def set_folder(pairs, tmp_path):
    for pair in pairs:
        write_image(pair.infrared, tmp_path / "data" / "Some" / "ir" / f"{pair.name}.png")
        write_image(pair.visible, tmp_path / "data" / "Some" / "vi" / f"{pair.name}.png")
    return tmp_path / "data" / "Some"


QUICK = [
    *("--set", "weight_direction=0", "--set", "weight_patch=0", "--set", "weight_angle=0"),
    *("--set", "steps=3", "--set", "device=cpu"),
]


def test_command_line_trains_refuses_to_overwrite_and_resumes(set_folder, tmp_path, capsys):
    settings = tmp_path / "settings.toml"
    settings.write_text("steps = 100\ncrop = 32\nbatch = 1\nnetwork = 'bounded'\n")
    output = tmp_path / "run"
    command = ["--config", str(settings), *QUICK, "--output", str(output), "--data"]
    assert main([*command, str(set_folder)]) == 0
    assert "3 steps" in capsys.readouterr().out
    assert load_network(output / "network.pt").metadata["config"]["crop"] == 32
    assert main([*command, str(set_folder)]) == 2
    assert "--resume" in capsys.readouterr().err
    assert main([*command, str(set_folder.parent), "--resume"]) == 0


def test_command_line_names_the_folder_after_the_configuration(
    set_folder, tmp_path, monkeypatch, capsys
):
    (tmp_path / "mine.toml").write_text("crop = 32\nbatch = 1\n")
    monkeypatch.chdir(tmp_path)
    assert main(["--config", "mine.toml", *QUICK, "--data", str(set_folder)]) == 0
    left = {path.name for path in (tmp_path / "runs" / "mine").iterdir()}
    assert left == LEFT | {"network.pt", "curves.png"}
    assert main([*QUICK, "--data", str(set_folder)]) == 2
    assert "--output" in capsys.readouterr().err


def test_command_line_takes_words_as_they_are(set_folder, tmp_path):
    output = tmp_path / "run"
    command = [*QUICK, "--set", "crop=32", "--set", "batch=1", "--set", "prompt_fused=a sharp one"]
    assert main([*command, "--data", str(set_folder), "--output", str(output)]) == 0
    assert json.loads((output / "config.json").read_text())["prompt_fused"] == "a sharp one"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--set", "stepps=3"], "did you mean steps"),
        (["--set", "steps=many"], "steps is to be of type int"),
        (["--data", "nowhere"], "nowhere"),
        (["--config", "nowhere.toml"], "nowhere.toml"),
        ([*QUICK, "--set", "crop=2000"], "too few for crops of 2000"),
    ],
)
def test_command_line_errors(arguments, message, set_folder, tmp_path, capsys):
    if "--data" not in arguments:
        arguments = [*arguments, "--data", str(set_folder)]
    assert main([*arguments, "--output", str(tmp_path / "run")]) == 2
    assert message in capsys.readouterr().err


def test_command_line_help_lists_the_settings(capsys):
    with pytest.raises(SystemExit) as stop:
        main(["--help"])
    assert stop.value.code == 0
    text = capsys.readouterr().out
    assert "--resume" in text and "weight_patch=10.0" in "".join(text.split())
