"""Our step against the released one, written plainly: same draws, same loss, same gradient."""

import copy

import numpy as np
import pytest
import torch
from test_frozen import small_clip, small_vgg
from torch.nn import functional as F

from experiments import training_speed
from experiments.released_step import (
    PlainVGG,
    ReleasedStep,
    plain_entropy,
    plain_patches,
    released_rates,
)
from ldf_utils.clip.frozen import FrozenClip
from ldf_utils.data.pairs import Pair
from ldf_utils.losses.fusion_loss import FusionLoss
from ldf_utils.losses.patches import PatchSampler, crop_and_turn, cut_patches
from ldf_utils.losses.perceptual import PerceptualLoss, VGG19Features
from ldf_utils.networks.ldfusion import PaperNetwork
from ldf_utils.training.config import TrainConfig
from ldf_utils.training.schedule import learning_rate

SIZE = 64


def images(seed=0):
    """Infrared and visible, ``(2, 1, 64, 64)``; the lower part of the second infrared is flat."""
    generator = torch.Generator().manual_seed(seed)
    coarse = torch.rand(4, 1, SIZE // 2, SIZE // 2, generator=generator)
    infrared, visible = F.interpolate(coarse, scale_factor=2, mode="bilinear").split(2)
    infrared = infrared.clone()
    infrared[1, :, SIZE // 2 :] = 0.5
    return infrared, visible


@pytest.mark.parametrize("shape", [(64, 64), (70, 90)])
def test_patches_are_those_of_torchvision(shape, generator):
    """All at once and one after the other: the same pixels, but where rounding falls either way."""
    pictures = torch.rand(3, 1, *shape, generator=generator)
    sampler = PatchSampler(8, size=SIZE, rule="released")
    draws = sampler.draw(3, generator, shape)
    assert len(draws) == 8 and 32 <= draws.crop <= int(0.8 * min(shape))
    expected = plain_patches(pictures, draws, SIZE)
    got = cut_patches(pictures, draws, SIZE)
    assert got.shape == expected.shape == (24, 1, SIZE, SIZE)
    assert ((got - expected).abs() > 1e-5).float().mean() < 2e-3
    turned = crop_and_turn(pictures, draws)
    assert torch.isin(turned, torch.cat([pictures.flatten(), torch.zeros(1)])).all()
    assert (turned == 0).any(), "no black wedge at a border"


def test_the_released_draws_are_in_their_ranges(generator):
    sides = set()
    for _ in range(40):
        draws = PatchSampler(16, rule="released").draw(2, generator)
        sides.add(draws.crop)
        assert 112 <= draws.crop <= 179
        for corner in draws.corner:
            assert (corner >= 0).all() and (corner + draws.crop <= 224).all()
        assert draws.degrees.abs().max() <= 5 and draws.shear.abs().max() <= 5
        assert draws.scale.min() >= 1 and draws.scale.max() <= 1.5
        right, down = draws.shift
        assert (right == 0).all() and down.abs().max() <= round(0.1 * draws.crop)
        assert (down == down.round()).all()
    assert len(sides) > 20


def test_the_patches_have_a_gradient(generator):
    pictures = torch.rand(1, 1, 24, 24, generator=generator, dtype=torch.float64).requires_grad_()
    draws = PatchSampler(2, size=16, rule="released").draw(1, generator, (24, 24))
    assert torch.autograd.gradcheck(lambda x: cut_patches(x, draws, 16), pictures)


@pytest.mark.parametrize("frozen", [False, True])
def test_one_step_has_the_loss_and_the_gradient_of_the_released_one(frozen):
    infrared, visible = images()
    clip, features = small_clip(), small_vgg()
    torch.manual_seed(0)
    network = PaperNetwork()
    noisy = [x + 0.03 * torch.randn_like(x) for x in (infrared, visible)]
    sampler = PatchSampler(6, size=SIZE, rule="released")
    draws = sampler.draw(2, torch.Generator().manual_seed(1), (SIZE, SIZE))

    theirs = copy.deepcopy(network)
    witness = ReleasedStep(theirs, copy.deepcopy(clip), PlainVGG(features))
    expected = witness.losses(theirs(*noisy), infrared, visible, draws)
    expected["total"].backward()
    assert any(p.grad is not None for p in witness.clip.model.visual.parameters())

    perceptual = PerceptualLoss(VGG19Features(features), frozen=frozen)
    encoder = FrozenClip(clip) if frozen else clip
    loss = FusionLoss(encoder, sampler=sampler, perceptual=perceptual)
    found = loss(network(*noisy), infrared, visible, torch.Generator().manual_seed(1))
    found.total.backward()
    assert not any(p.grad is not None for p in clip.model.parameters())

    assert 0 < found.kept == expected["kept"].item() < 1
    assert found.total.item() == pytest.approx(expected["total"].item(), rel=1e-4)
    for name, term in found.terms.items():
        assert term.item() == pytest.approx(expected[name].item(), rel=1e-4, abs=1e-5), name
    together = dict(theirs.named_parameters())
    for name, parameter in network.named_parameters():
        gradient = together[name].grad
        if gradient is None:
            assert parameter.grad is None
            continue
        torch.testing.assert_close(parameter.grad, gradient, atol=1e-4, rtol=1e-4, msg=name)
    flat = [
        torch.cat([p.grad.flatten() for p in n.parameters() if p.grad is not None])
        for n in (network, theirs)
    ]
    assert (flat[0] - flat[1]).norm() < 1e-4 * flat[1].norm()
    assert flat[1].norm() > 1e-2


def test_a_step_of_the_witness_moves_the_network_and_leaves_gradients_in_clip():
    infrared, visible = images()
    torch.manual_seed(0)
    network = PaperNetwork()
    before = copy.deepcopy(network.state_dict())
    witness = ReleasedStep(network, small_clip(), None)
    draws = PatchSampler(2, size=SIZE, rule="released").draw(2, image_size=(SIZE, SIZE))
    terms = witness.step((infrared, visible), (infrared, visible), draws)
    assert terms.keys() == {"direction", "patch", "angle", "total", "kept"}
    moved = [not torch.equal(v, before[k]) for k, v in network.state_dict().items()]
    assert sum(moved) > len(moved) / 2


def test_the_reference_agrees_with_the_authors_functions(authors_dir):
    with np.load(authors_dir / "ldfusion_losses.npz") as data:
        given = {name: torch.from_numpy(np.asarray(data[name])) for name in data.files}
    bits = plain_entropy(given["entropy_images"])
    torch.testing.assert_close(bits, given["entropy_bits"].float(), atol=1e-4, rtol=0)
    witness = ReleasedStep(PaperNetwork(), small_clip(), None)
    words = [given[f"text_{name}"][:1] for name in ("infrared", "visible", "target")]
    witness.sentences = F.normalize(torch.cat(words), dim=-1)
    sources = given["image_infrared"], given["image_visible"]
    rows = witness._direction(given["image_fused_patches"], *sources)
    name = "loss_direction_patches_filtered_mean_over_all"
    for found, expected in (
        (witness._direction(given["image_fused"], *sources).mean(), "loss_direction_global"),
        (rows.mean(), "loss_direction_patches_unfiltered"),
        ((rows * given["patch_kept"]).mean(), name),
    ):
        assert found.item() == pytest.approx(given[expected].item(), abs=1e-5), expected


def test_released_rates_are_what_its_schedulers_do():
    for steps, rising in ((300, 120), (80, 50), (40, 3)):
        config = TrainConfig(steps=steps, schedule="released", warmup=rising / steps)
        ours = [learning_rate(step, config) for step in range(steps)]
        assert ours == pytest.approx(released_rates(steps, rising), rel=1e-12)
    assert min(ours[3:]) == max(ours[3:]) > config.learning_rate, "it never decays"


def test_what_the_released_settings_ask_for_does_decay():
    config = TrainConfig(steps=1000, schedule="halving", warmup=0.01, learning_rate=1.0)
    rates = [learning_rate(step, config) for step in range(1000)]
    assert rates[9] == rates[499] == 1.0 and rates[0] == pytest.approx(0.1)
    assert [rates[s] for s in (500, 600, 700, 800, 900, 999)] == [
        0.5, 0.25, 0.125, 0.0625, 0.03125, 0.03125
    ]  # fmt: skip


# --- the benchmark


@pytest.fixture
def small_towers(monkeypatch):
    monkeypatch.setattr(training_speed, "random_clip", lambda seed=0: small_clip(seed=seed))
    monkeypatch.setattr(training_speed, "random_vgg", lambda seed=0: small_vgg(seed))


def pairs():
    return [Pair(str(k), i, v) for k, (i, v) in enumerate(zip(*images(), strict=True))]


def test_the_benchmark_compares_equal_losses(small_towers):
    result = training_speed.compare(
        pairs(), images=2, patches=3, crop=SIZE, repeats=1, device="cpu"
    )
    released, ours, fast = (result.losses[name]["total"] for name in result.seconds)
    assert ours == pytest.approx(released, rel=1e-4)
    assert fast == pytest.approx(released, rel=0.05)
    assert result.gradient_error["ours, float32"] < 1e-3
    assert 0 < result.losses["ours, float32"]["kept"] < 1
    assert result.ratio["as released"] == 1.0 and min(result.seconds.values()) > 0
    for name in result.seconds:
        parts = result.phases[name]
        assert {"patches", "CLIP, sources", "CLIP, forward", "CLIP, backward"} <= set(parts)
        assert {"VGG19, forward", "VGG19, backward", "network, forward"} <= set(parts)
        assert result.bound(name) > 0
    work = {name: result.flops(name) for name in result.seconds}
    assert work["ours, float32"] < work["as released"]
    text = training_speed.report(result)
    assert "times faster" in text and "bound by arithmetic" in text and "VGG19, backward" in text


def test_the_benchmark_is_an_option_of_the_training(small_towers, monkeypatch, tmp_path, capsys):
    from ldf_utils.training.__main__ import main

    monkeypatch.setattr(training_speed, "open_sets", lambda data: {"some": pairs()})
    command = ["--benchmark", "--images", "1", "--patches", "2", "--crop", str(SIZE)]
    command += ["--repeats", "1", "--device", "cpu", "--json", str(tmp_path / "speed.json")]
    assert main(command) == 0
    assert "figures of a GPU are missing" in capsys.readouterr().out
    assert (tmp_path / "speed.json").is_file()
    with pytest.raises(SystemExit):
        main(["--benchmark", "--help"])
