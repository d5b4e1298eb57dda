"""Training: crops that are what they should be, a loop that learns, runs that can be stopped."""

import csv
import itertools
import json
import math
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from test_losses import PROMPTS, TinyClip
from torch import nn

from ldf_utils import training
from ldf_utils.images import ImageError, Pair, write_image
from ldf_utils.losses import LossTerms
from ldf_utils.networks import BoundedFusionNetwork, load_network
from ldf_utils.training import (
    Crops,
    TrainConfig,
    TrainingError,
    fit,
    learning_rate,
    main,
    step_seed,
)

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


# --- the loop


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

    monkeypatch.setattr(training, "FusionLoss", lambda *_, **__: Loss())
    fit(replace(SMALL, noise=0.03), pairs, TinyClip(), Recorder(), tmp_path, progress=False)
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
    assert names == {"config.json", "history.csv", "checkpoint.pt", "network.pt"}


def test_without_language_no_clip_is_loaded(pairs, tmp_path, monkeypatch):
    monkeypatch.setattr(training, "load_clip", lambda name: pytest.fail("CLIP was loaded"))
    config = replace(SMALL, weight_direction=0, weight_patch=0, weight_angle=0)
    result = fit(config, pairs, network=TinyNetwork(), folder=tmp_path, progress=False)
    assert "perceptual" in result.history[0] and "direction" not in result.history[0]
    monkeypatch.setattr(training, "load_clip", lambda name: TinyClip())
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
    assert {path.name for path in tmp_path.iterdir()} == {"config.json", "history.csv"}
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

from ldf_utils.losses import FusionLoss, LossWeights
from ldf_utils.training import fit, join_team

torch.set_num_threads(1)
loss = FusionLoss(TinyClip(), PROMPTS, LossWeights(patch=0))
images = torch.rand(3, 4, 1, 32, 32, generator=torch.Generator().manual_seed(5))
team = join_team("cpu")
torch.manual_seed(team.rank)  # different weights, until the team agrees
network = TinyNetwork(0.0)
network.unused = torch.nn.Parameter(torch.ones(2))
team.agree(network)


def step(images, average):
    network.zero_grad()
    terms = loss(network(images[1], images[2]), images[1], images[2])
    terms.total.backward()
    if average:
        team.average(network)
    gradients = {n: p.grad.clone() for n, p in network.named_parameters() if p.grad is not None}
    return {"total": terms.total.item(), "gradients": gradients}


alone = step(images, average=False)
halves = step(images[:, team.rank * 2 : team.rank * 2 + 2], average=True)
halves["total"] = team.mean({"total": halves["total"]})["total"]

pairs = [make_pair(f"p{i}", 40, 50, seed=i) for i in range(4)]
result = fit(SMALL, pairs, TinyClip(), TinyNetwork(), out / "run", progress=False)
state = {"history": result.history, "network": result.network.state_dict()}
torch.save({"alone": alone, "halves": halves, "fit": state}, out / f"{team.rank}.pt")
"""


@pytest.mark.slow
def test_two_processes_equal_one_on_the_whole_batch(tmp_path):
    script = tmp_path / "together.py"
    script.write_text(TOGETHER)
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2"]
    command += [str(script), str(Path(__file__).parent), str(tmp_path)]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    run = subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True)
    try:
        _, errors = run.communicate(timeout=300)
    except subprocess.TimeoutExpired:
        run.terminate()  # which torchrun passes on to its processes, other than being killed
        _, errors = run.communicate()
        pytest.fail(f"{command} did not end:\n{errors[-3000:]}")
    assert run.returncode == 0, errors[-3000:]
    first, second = (torch.load(tmp_path / f"{rank}.pt", weights_only=True) for rank in (0, 1))

    alone, halves = first["alone"], first["halves"]
    assert halves["total"] == pytest.approx(alone["total"], abs=1e-6)
    assert halves["gradients"].keys() - alone["gradients"].keys() == {"unused"}
    for name, gradient in alone["gradients"].items():
        assert gradient.abs().max() > 1e-4
        torch.testing.assert_close(halves["gradients"][name], gradient, atol=1e-6, rtol=0)
    assert_same_bits(halves["gradients"], second["halves"]["gradients"])
    # The whole loop: both processes end with the same weights, and one of them writes.
    assert_same_bits(first["fit"]["network"], second["fit"]["network"])
    assert first["fit"]["history"] == second["fit"]["history"]
    assert len(first["fit"]["history"]) == 6
    names = {path.name for path in (tmp_path / "run").iterdir()}
    assert names == {"config.json", "history.csv", "checkpoint.pt"}


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
