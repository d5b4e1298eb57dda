"""Adversarial images."""

import pytest
import torch
from rendered_helpers import rendered_crops

from experiments.embedded_clip import adversarial
from ldf_utils.clip.loading import load_clip
from ldf_utils.clip.model import PROMPTS
from ldf_utils.losses.direction import direction_loss, text_directions


@pytest.fixture(scope="module")
def clip():
    return load_clip("mini")


@pytest.fixture(scope="module")
def pairs():
    return rendered_crops(4, (48, 64))


@pytest.fixture(scope="module")
def scenes(pairs):
    as_bytes = [(x[:, 0] * 255).round().to(torch.uint8) for x in pairs]
    return dict(zip(("infrared", "visible"), as_bytes, strict=True))


def test_the_loss_of_a_view_is_the_direction_loss(clip, pairs, generator):
    infrared, visible = pairs
    criterion = adversarial.AugmentedDirectionLoss(clip, infrared, visible, generator)
    picture = torch.maximum(infrared, visible)
    embeddings = [clip.encode_image(x) for x in (picture, infrared, visible)]
    expected = direction_loss(*embeddings, text_directions(clip, PROMPTS))
    torch.testing.assert_close(criterion.each(picture, torch.arange(4)), expected)
    some = torch.tensor([2, 0])
    torch.testing.assert_close(criterion.each(picture[some], some), expected[some])


def test_views_are_the_picture_or_a_part_of_it(clip, generator):
    ramp = torch.linspace(0, 1, 96).expand(64, 1, 96, 96)
    criterion = adversarial.AugmentedDirectionLoss(clip, ramp[:1], ramp[:1], generator)
    views = criterion._views(ramp)
    assert views.shape == (64, 1, clip.image_size, clip.image_size)
    spread = views.amax((1, 2, 3)) - views.amin((1, 2, 3))
    whole = spread > 0.98
    assert 16 < whole.sum() < 48
    torch.testing.assert_close(views[whole], ramp[whole], atol=1e-4, rtol=0)
    assert spread[~whole].min() > 0.45 and spread[~whole].max() < 0.98


def test_pixels_and_a_decoder_lower_the_loss(clip, pairs, generator):
    infrared, visible = pairs
    start, index = (infrared + visible) / 2, torch.arange(4)
    criterion = adversarial.AugmentedDirectionLoss(clip, infrared, visible, generator)
    before = criterion.each(start, index).mean()
    pixels = adversarial.optimize_pixels(criterion, start, steps=10)
    drawn = adversarial.optimize_decoder(criterion, infrared, visible, 24, generator, batch=3)
    for made in (pixels, drawn):
        assert made.shape == start.shape and made.min() >= 0 and made.max() <= 1
        assert not made.requires_grad
        assert criterion.each(made, index).mean() < before - 0.05
    assert all(p.grad is None for p in clip.parameters())


def test_negatives_are_bytes_and_repeatable(clip, scenes):
    state = torch.random.get_rng_state()
    made = [
        adversarial.optimize_negatives(
            clip, scenes, 2, torch.Generator().manual_seed(seed), autocast=autocast
        )
        for seed, autocast in ((5, False), (5, False), (6, False), (5, True))
    ]
    assert torch.equal(state, torch.random.get_rng_state())
    for pictures in made:
        assert pictures.dtype == torch.uint8 and pictures.shape == scenes["infrared"].shape
    assert torch.equal(made[0], made[1])
    assert not torch.equal(made[0], made[2])
    assert not torch.equal(made[0][:2], scenes["visible"][:2])


@pytest.mark.parametrize(("capability", "pays"), [("AVX2", False), ("AVX512", True)])
def test_bfloat16_only_where_the_processor_has_it(clip, scenes, monkeypatch, capability, pays):
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: capability)
    asked = []
    criterion = adversarial.AugmentedDirectionLoss
    monkeypatch.setattr(
        adversarial,
        "AugmentedDirectionLoss",
        lambda *a: asked.append(a[-1]) or criterion(*a[:-1], False),
    )
    adversarial.optimize_negatives(clip, scenes, 1, torch.Generator().manual_seed(0))
    assert asked == [pays, pays]


def test_bad_inputs_are_refused(clip, pairs, scenes, generator):
    as_float = {name: value / 255 for name, value in scenes.items()}
    one = {name: value[:1] for name, value in scenes.items()}
    odd = {name: value[:, :, :63] for name, value in scenes.items()}
    for bad, words in ((as_float, "uint8"), (one, ">= 2 scenes"), (odd, "must be even")):
        with pytest.raises(ValueError, match=words):
            adversarial.optimize_negatives(clip, bad, 1, generator)
    with pytest.raises(ValueError, match="steps must be >= 1, got 0"):
        adversarial.optimize_negatives(clip, scenes, 0, generator)
