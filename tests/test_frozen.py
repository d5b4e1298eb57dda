"""Frozen towers against open_clip's and torchvision's own forward: value and gradient."""

import open_clip
import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torchvision.models import vgg

from ldf_utils.clip.frozen import FrozenClip, FrozenConvolutions, FrozenVisionTransformer
from ldf_utils.clip.loading import load_clip
from ldf_utils.clip.model import ClipSpace
from ldf_utils.losses.fusion_loss import FusionLoss
from ldf_utils.losses.patches import PatchSampler
from ldf_utils.losses.perceptual import PerceptualLoss, VGG19Features


def small_clip(quick_gelu=True, seed=0):
    """A CLIP with a vision transformer of three layers, random weights, and any words."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = open_clip.CLIP(
            embed_dim=24,
            vision_cfg={
                "image_size": 64,
                "patch_size": 16,
                "width": 64,
                "head_width": 32,
                "layers": 3,
            },
            text_cfg={"context_length": 24, "vocab_size": 60, "width": 32, "heads": 2, "layers": 1},
            quick_gelu=quick_gelu,
        )
        model.visual.image_mean, model.visual.image_std = (0.48, 0.46, 0.41), (0.27, 0.26, 0.28)
        for name, parameter in model.named_parameters():  # biases and norms that do something
            if name.endswith("bias") or ".ln_" in name:
                parameter.data += 0.1 * torch.randn_like(parameter)

    def tokenize(sentences):
        rows = torch.zeros(len(sentences), 24, dtype=torch.long)
        for row, sentence in zip(rows, sentences, strict=True):
            words = [1 + sum(map(ord, word)) % 57 for word in sentence.split()][:22]
            row[: len(words) + 1] = torch.tensor([*words, 59])
        return rows

    return ClipSpace(model, tokenize, "small")


def small_vgg(seed=0):
    """VGG19's layers with a quarter of the channels and random weights."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        layers = vgg.make_layers(
            [c if c == "M" else c // 4 for c in vgg.cfgs["E"]], batch_norm=False
        )
        for layer in layers:
            if isinstance(layer, nn.Conv2d):
                nn.init.kaiming_normal_(layer.weight)
    return layers.eval()


def with_gradient(function, images):
    images = images.clone().requires_grad_()
    result = function(images)
    weight = torch.linspace(-1, 1, result.numel()).view_as(result)
    (result.float() * weight).sum().backward()
    return result.detach().float(), images.grad


@pytest.fixture
def images(generator):
    return torch.rand(5, 1, 64, 64, generator=generator)


@pytest.mark.parametrize("quick_gelu", [True, False])
def test_the_frozen_transformer_embeds_as_open_clip_does(quick_gelu, images):
    clip = small_clip(quick_gelu)
    tower = FrozenVisionTransformer(clip)
    assert not list(tower.parameters())
    expected, its_gradient = with_gradient(
        lambda x: clip.model.encode_image(clip.prepare(x)), images
    )
    got, gradient = with_gradient(tower, images)
    torch.testing.assert_close(got, expected, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(gradient, its_gradient, atol=1e-6, rtol=1e-4)
    assert gradient.abs().max() > 1e-3


def test_in_bfloat16_it_is_near(images):
    clip = small_clip()
    expected, its_gradient = with_gradient(FrozenVisionTransformer(clip), images)
    got, gradient = with_gradient(FrozenVisionTransformer(clip, torch.bfloat16), images)
    assert F.cosine_similarity(got, expected).min() > 0.999
    assert F.cosine_similarity(gradient.flatten(1), its_gradient.flatten(1)).min() > 0.99
    assert gradient.dtype == torch.float32


def test_towers_of_another_kind_are_named():
    assert "ModifiedResNet" in FrozenVisionTransformer.supports(load_clip("mini"))
    with pytest.raises(ValueError, match="no frozen form"):
        FrozenVisionTransformer(load_clip("mini"))
    clip = small_clip()
    clip.model.visual.transformer.resblocks[1].ls_2 = nn.Dropout()
    assert "parts" in FrozenVisionTransformer.supports(clip)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_frozen_convolutions_are_those_of_vgg(dtype, images):
    plain = VGG19Features(small_vgg())
    frozen = FrozenConvolutions(plain.features, plain.layers, dtype)
    tolerance, alike = (1e-5, 0.9999) if dtype == torch.float32 else (0.03, 0.95)
    for layer in range(3):
        expected, its_gradient = with_gradient(lambda x, k=layer: plain(x)[k], images)
        got, gradient = with_gradient(lambda x, k=layer: frozen(x)[k], images)
        assert (got - expected).norm() < tolerance * expected.norm()
        assert F.cosine_similarity(gradient.flatten(), its_gradient.flatten(), dim=0) > alike
    with pytest.raises(ValueError, match="layer 1 is BatchNorm2d"):
        FrozenConvolutions(nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)), [1])


def test_the_frozen_loss_is_the_loss(generator):
    clip, features = small_clip(), small_vgg()
    fused, infrared, visible = torch.rand(3, 2, 1, 80, 72, generator=generator).unbind()
    infrared[1, :, 40:] = 0.5  # so that some patches are dropped
    sampler = PatchSampler(6, size=64)
    found = []
    for frozen in (False, True):
        perceptual = PerceptualLoss(VGG19Features(features), frozen=frozen)
        encoder = FrozenClip(clip) if frozen else clip
        loss = FusionLoss(encoder, sampler=sampler, entropy_threshold=7.0, perceptual=perceptual)
        picture = fused.clone().requires_grad_()
        terms = loss(picture, infrared, visible, torch.Generator().manual_seed(3))
        terms.total.backward()
        found.append((terms, picture.grad))
    (plain, expected), (frozen, gradient) = found
    assert 0 < plain.kept == frozen.kept < 1
    torch.testing.assert_close(frozen.terms, plain.terms, atol=1e-5, rtol=1e-5)
    assert (gradient - expected).norm() < 1e-4 * expected.norm()


def test_frozen_without_a_kept_patch_and_without_the_whole(generator):
    clip = small_clip()
    flat = torch.full((2, 1, 64, 64), 0.5)
    fused = torch.rand(2, 1, 64, 64, generator=generator).requires_grad_()
    loss = FusionLoss(FrozenClip(clip), sampler=PatchSampler(3, size=64))
    terms = loss(fused, flat, flat, generator)
    terms.total.backward()
    assert terms.kept == 0 and terms.terms["patch"] == 0 and fused.grad.abs().sum() > 0
    weights = type(loss.weights)(direction=0, angle=0, perceptual=0)
    alone = FusionLoss(
        FrozenClip(clip), weights=weights, sampler=loss.sampler, entropy_threshold=None
    )
    assert list(alone(fused, flat, flat, generator).terms) == ["patch"]


def test_vgg19_or_what_stands_in_for_it(monkeypatch, tmp_path):
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    loss = PerceptualLoss("auto")
    assert loss.name == "filterbank" and "vgg19-dcbb9e9d" in loss.missing
    monkeypatch.setattr(VGG19Features, "_trained", staticmethod(small_vgg))
    loss = PerceptualLoss("auto", frozen=True)
    assert loss.name == "vgg19" and loss.missing is None
    assert isinstance(loss.features, FrozenConvolutions)
