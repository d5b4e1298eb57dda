"""Our step against the released one, written plainly: same draws, same loss, same gradient."""

import copy
import json

import numpy as np
import pytest
import torch
from test_frozen import small_clip, small_vgg
from torch.nn import functional as F

from experiments.released_step import (
    PlainVGG,
    ReleasedStep,
    plain_entropy,
    plain_patches,
    released_rates,
)
from experiments.training_speed import steps
from experiments.training_speed.__main__ import main, report
from experiments.training_speed.measure import compare
from ldf_utils.clip.frozen import FrozenClip
from ldf_utils.losses.entropy_filter import PatchFilter
from ldf_utils.losses.fusion_loss import FusionLoss
from ldf_utils.losses.patches import PatchSampler, crop_and_turn, cut_patches
from ldf_utils.losses.perceptual import PerceptualLoss, VGG19Features
from ldf_utils.networks.ldfusion import PaperNetwork
from ldf_utils.training.config import TrainConfig
from ldf_utils.training.crops import Crops
from ldf_utils.training.schedule import learning_rate
from ldf_utils.training.step import prepare

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
    reference = ReleasedStep(theirs, copy.deepcopy(clip), PlainVGG(features))
    expected = reference.losses(theirs(*noisy), infrared, visible, draws)
    expected["total"].backward()
    assert any(p.grad is not None for p in reference.clip.model.visual.parameters())

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


def test_a_step_of_the_reference_moves_the_network_and_leaves_gradients_in_clip():
    infrared, visible = images()
    torch.manual_seed(0)
    network = PaperNetwork()
    before = copy.deepcopy(network.state_dict())
    reference = ReleasedStep(network, small_clip(), None)
    draws = PatchSampler(2, size=SIZE, rule="released").draw(2, image_size=(SIZE, SIZE))
    terms = reference.step((infrared, visible), (infrared, visible), draws)
    assert terms.keys() == {"direction", "patch", "angle", "total", "kept"}
    moved = [not torch.equal(v, before[k]) for k, v in network.state_dict().items()]
    assert sum(moved) > len(moved) / 2


def test_the_reference_agrees_with_the_authors_functions(authors_dir):
    with np.load(authors_dir / "ldfusion_losses.npz") as data:
        given = {name: torch.from_numpy(np.asarray(data[name])) for name in data.files}
    bits = plain_entropy(given["entropy_images"])
    torch.testing.assert_close(bits, given["entropy_bits"].float(), atol=1e-4, rtol=0)
    reference = ReleasedStep(PaperNetwork(), small_clip(), None)
    words = [given[f"text_{name}"][:1] for name in ("infrared", "visible", "target")]
    reference.sentences = F.normalize(torch.cat(words), dim=-1)
    sources = given["image_infrared"], given["image_visible"]
    rows = reference._direction(given["image_fused_patches"], *sources)
    name = "loss_direction_patches_filtered_mean_over_all"
    for found, expected in (
        (reference._direction(given["image_fused"], *sources).mean(), "loss_direction_global"),
        (rows.mean(), "loss_direction_patches_unfiltered"),
        ((rows * given["patch_kept"]).mean(), name),
    ):
        assert found.item() == pytest.approx(given[expected].item(), abs=1e-5), expected


def test_released_rates_are_what_its_schedulers_do():
    for count, rising in ((300, 120), (80, 50), (40, 3)):
        config = TrainConfig(steps=count, schedule="released", warmup=rising / count)
        ours = [learning_rate(step, config) for step in range(count)]
        assert ours == pytest.approx(released_rates(count, rising), rel=1e-12)
    assert min(ours[3:]) == max(ours[3:]) > config.learning_rate, "it never decays"


def test_what_the_released_settings_ask_for_does_decay():
    config = TrainConfig(steps=1000, schedule="halving", warmup=0.01, learning_rate=1.0)
    rates = [learning_rate(step, config) for step in range(1000)]
    assert rates[9] == rates[499] == 1.0 and rates[0] == pytest.approx(0.1)
    assert [rates[s] for s in (500, 600, 700, 800, 900, 999)] == [
        0.5,
        0.25,
        0.125,
        0.0625,
        0.03125,
        0.03125,
    ]


# --- the benchmark


@pytest.fixture
def small_towers(monkeypatch):
    monkeypatch.setattr(steps, "random_clip", lambda seed=0: small_clip(seed=seed))
    monkeypatch.setattr(steps, "random_vgg", lambda seed=0: small_vgg(seed))


def test_the_benchmark_compares_equal_losses_of_one_half_of_the_patches(small_towers):
    result = compare(images=2, patches=6, crop=SIZE, repeats=1, device="cpu", bfloat16=True)
    released, ours, fast = (result.losses[name]["total"] for name in result.seconds)
    assert ours == pytest.approx(released, rel=1e-4)
    assert fast == pytest.approx(released, rel=0.05)
    assert result.gradient_error["ours, float32"] < 1e-3
    assert [losses["kept"] for losses in result.losses.values()] == [0.5, 0.5, 0.5]
    assert result.setting["kept"] == 0.5 and 0 < result.setting["entropy_threshold"] < 8
    assert result.ratio["as released"] == 1.0 and min(result.seconds.values()) > 0
    for name in result.seconds:
        parts = result.phases[name]
        assert {"patches", "CLIP, sources", "CLIP, forward", "CLIP, backward"} <= set(parts)
        assert {"VGG19, forward", "VGG19, backward", "network, forward"} <= set(parts)
        assert min(part.seconds for part in parts.values()) > 0 and result.bound(name) > 0
        assert parts["CLIP, forward"].flops > parts["CLIP, sources"].flops > 0
        assert parts["cosines"].flops <= 1e-3 * result.flops(name)
    work = {name: result.flops(name) for name in result.seconds}
    assert work["ours, float32"] < work["as released"]
    text = report(result)
    assert "50% of them kept" in text and "times faster" in text and "VGG19, backward" in text
    assert "bound by arithmetic" in text and "is left out" not in text


@pytest.mark.parametrize("seed", range(3))
def test_the_threshold_of_the_benchmark_halves_the_patches(seed):
    config = TrainConfig(batch=3, crop=SIZE, augment="released", flip=False)
    (batch,) = prepare(Crops(steps.example_pairs(3, 80, seed), config), 0)
    sampler = PatchSampler(8, size=SIZE, rule="released")
    threshold = steps.halving_threshold(batch, sampler)
    both = cut_patches(
        torch.cat([batch.infrared, batch.visible], dim=1), steps.draws_of(batch, sampler), SIZE
    )
    assert PatchFilter(threshold=threshold).keep(both, both).sum() == 12


def test_the_benchmark_is_a_command_that_writes_json(small_towers, tmp_path, capsys):
    path = tmp_path / "speed.json"
    command = ["--images", "1", "--patches", "2", "--crop", str(SIZE), "--repeats", "1"]
    command += ["--device", "cpu", "--json", str(path)]
    assert main(command) == 0
    assert "figures of a GPU are missing" in capsys.readouterr().out
    assert json.loads(path.read_text())["setting"]["kept"] == 0.5
    for wrong in (["--help"], ["--repeats", "0"], ["--images", "0"]):
        with pytest.raises(SystemExit):
            main(wrong)
    assert "must be >= 1, got 0" in capsys.readouterr().err
    assert main([*command[:-1], str(tmp_path)]) == 2
    assert "expected a file, found a folder" in capsys.readouterr().err
