"""The training loop: it learns, and what it leaves."""

import csv
import importlib
import json
from dataclasses import replace

import pytest
import torch
from torch import nn
from training_helpers import (
    LEFT,
    SMALL,
    TinyClip,
    TinyNetwork,
    assert_same_bits,
    make_pair,
    tiny_network,
    weights_of,
)

from ldf_utils.data.images import read_image
from ldf_utils.data.pairs import Pair
from ldf_utils.losses.fusion_loss import LossTerms
from ldf_utils.networks.bounded import BoundedFusionNetwork
from ldf_utils.networks.checkpoint import load_network
from ldf_utils.training import trainer
from ldf_utils.training.config import TrainConfig
from ldf_utils.training.crops import Crops
from ldf_utils.training.schedule import learning_rate
from ldf_utils.training.step import gradients, prepare
from ldf_utils.training.trainer import fit


def test_what_is_prepared_ahead_is_what_would_be_drawn_in_between(pairs, tmp_path):
    found = []
    for prefetch in (0, 1, 3):
        config, network = replace(SMALL, prefetch=prefetch, accumulate=2), tiny_network()
        fit(config, pairs, TinyClip(), network, tmp_path / str(prefetch), progress=False)
        found.append(weights_of(network))
    assert_same_bits(found[0], found[1])
    assert_same_bits(found[0], found[2])


def test_batches_that_are_added_up_give_the_mean_of_their_gradients(pairs):
    config = replace(SMALL, accumulate=3)
    batches = prepare(Crops(pairs, config), step=5)
    assert len({batch.seed for batch in batches}) == 3
    assert batches[0].seed == prepare(Crops(pairs, SMALL), step=5)[0].seed
    device = torch.device("cpu")
    criterion = trainer.build_loss(config, TinyClip(), device)
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


@pytest.mark.parametrize("order", ["random", "epochs"])
def test_one_pair_is_enough(order, tmp_path):
    only, config = [make_pair("only", 40, 40)], replace(SMALL, order=order)
    result = fit(config, only, TinyClip(), tiny_network(), tmp_path, progress=False)
    assert len(result.history) == 6


def test_what_the_loss_uses_is_named(pairs, tmp_path, capsys, monkeypatch):
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
        perceptual = None

        def forward(self, fused, infrared, visible, generator, directions=None):
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


def test_the_log_is_lines_where_there_is_no_terminal(pairs, tmp_path, capsys):
    importlib.import_module("ipykernel")  # importing it does not make this a notebook
    fit(SMALL, pairs, TinyClip(), tiny_network(), tmp_path)
    out, error = capsys.readouterr()
    said = out.splitlines()
    assert [line.split(":")[0] for line in said[:4]] == [
        "loss",
        *(f"step {k} of 6" for k in (2, 4, 6)),
    ]
    assert all("kept " in line for line in said[1:4]) and error == ""


def test_a_filter_that_keeps_no_patch_is_remarked_on_once(tmp_path, capsys):
    flat = [Pair("p", torch.full((1, 40, 40), 0.5), torch.rand(1, 40, 40))]
    config = replace(SMALL, steps=19, checkpoint_every=19, entropy_threshold=4.0)
    fit(config, flat, TinyClip(), tiny_network(), tmp_path / "19", progress=False)
    assert "warning" not in capsys.readouterr().err
    config = replace(config, steps=45)
    result = fit(config, flat, TinyClip(), tiny_network(), tmp_path / "45", progress=False)
    assert all(row["kept"] == 0 for row in result.history)
    said = capsys.readouterr().err
    assert said.count("warning: no patch passed the entropy filter in 20 steps") == 1
    assert "Lower entropy_threshold (now 4 bits" in said and "upper_half" in said
    config = replace(config, steps=2, patch_filter="upper_half")
    result = fit(config, flat, TinyClip(), tiny_network(), tmp_path / "half", progress=False)
    assert [row["kept"] for row in result.history] == [0.5, 0.5]


def test_a_folder_that_cannot_be_written_is_said_before_the_work(pairs, tmp_path):
    (tmp_path / "file").write_text("in the way")
    seen = []

    def callback(row, network):
        seen.append(row)

    with pytest.raises(OSError, match="file"):
        fit(SMALL, pairs, TinyClip(), tiny_network(), tmp_path / "file" / "run", callback)
    assert not seen
