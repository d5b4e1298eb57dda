"""The losses: the authors' numbers where they are at hand, and identities where nothing is."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from ldf_utils.clip.frozen import FrozenClip
from ldf_utils.losses import perceptual
from ldf_utils.losses.direction import (
    TextDirections,
    angle_loss,
    direction_loss,
    patch_direction_loss,
)
from ldf_utils.losses.fusion_loss import FusionLoss, LossWeights
from ldf_utils.losses.patches import PatchSampler, extract_patches
from ldf_utils.losses.perceptual import FilterBank, PerceptualLoss

PROMPTS = SimpleNamespace(infrared="an infrared image", visible="a gray image", fused="a clear one")


class TinyClip(nn.Module):
    """Stands in for CLIP: a fixed random convolution and words with fixed random vectors."""

    name, image_size, dim, stands_in, words = "tiny", 16, 12, False, None

    def __init__(self):
        super().__init__()
        generator = torch.Generator().manual_seed(7)
        self.weight = nn.Parameter(torch.randn(self.dim, 1, 5, 5, generator=generator))
        self.register_buffer("table", torch.randn(3, self.dim, generator=generator))
        self.encoded = []

    def encode_text(self, sentences):
        order = [PROMPTS.infrared, PROMPTS.visible, PROMPTS.fused]
        return F.normalize(self.table[[order.index(s) for s in sentences]], dim=-1)

    def encode_image(self, images):
        self.encoded.append((len(images), images.requires_grad, torch.is_grad_enabled()))
        size = (self.image_size, self.image_size)
        images = F.interpolate(images, size=size, mode="bilinear", align_corners=False)
        features = torch.tanh(F.conv2d(images, self.weight.to(images.dtype), stride=2))
        return F.normalize(features.mean(dim=(2, 3)), dim=-1)


@pytest.fixture
def clip():
    return TinyClip()


@pytest.fixture
def images():
    """Fused, infrared and visible, of which the second pair is flat and is always dropped."""
    generator = torch.Generator().manual_seed(11)
    fused, infrared, visible = torch.rand(3, 2, 1, 48, 40, generator=generator).unbind()
    infrared[1] = 0.5
    return fused, infrared, visible


def unit(*shape, generator, dtype=torch.float64):
    return F.normalize(torch.randn(*shape, generator=generator, dtype=dtype), dim=-1)


def words(generator, dim=6, dtype=torch.float64):
    return TextDirections(*torch.randn(2, dim, generator=generator, dtype=dtype))


# --- the pure functions


def test_losses_equal_the_equations_written_slowly(generator):
    fused, infrared, visible = (unit(4, 6, generator=generator) for _ in range(3))
    said = words(generator)

    def cos(a, b):
        return sum(x * y for x, y in zip(a, b, strict=True)) / (
            sum(x * x for x in a) ** 0.5 * sum(y * y for y in b) ** 0.5
        )

    for b in range(4):
        f, i, v = (x[b].tolist() for x in (fused, infrared, visible))
        step_i = [x - y for x, y in zip(f, i, strict=True)]
        step_v = [x - y for x, y in zip(f, v, strict=True)]
        slow = 0.5 * (1 - cos(step_i, said.infrared.tolist()))
        slow += 0.5 * (1 - cos(step_v, said.visible.tolist()))
        got = direction_loss(fused, infrared, visible, said)[b].item()
        assert got == pytest.approx(slow, abs=1e-12)
        slow = 0.5 * (1 - cos(f, i)) + 0.5 * (1 - cos(f, v))
        assert angle_loss(fused, infrared, visible)[b].item() == pytest.approx(slow, abs=1e-12)


def test_moving_exactly_along_the_words_costs_nothing_and_against_them_two(generator):
    source, fused = unit(2, 6, generator=generator)
    source, fused = source[None], fused[None]
    step = (fused - source)[0]
    along = direction_loss(fused, source, source, TextDirections(step, 5 * step))
    against = direction_loss(fused, source, source, TextDirections(-step, -step))
    torch.testing.assert_close(along, torch.zeros_like(along))
    torch.testing.assert_close(against, torch.full_like(against, 2))


def test_direction_loss_is_bounded_and_does_not_see_lengths_of_words(generator):
    fused, infrared, visible = (unit(50, 6, generator=generator) for _ in range(3))
    said = words(generator)
    loss = direction_loss(fused, infrared, visible, said)
    assert loss.min() >= 0 and loss.max() <= 2
    longer = TextDirections(3 * said.infrared, 0.2 * said.visible)
    torch.testing.assert_close(direction_loss(fused, infrared, visible, longer), loss)


def test_swapping_the_sources_with_their_words_changes_nothing(generator):
    fused, infrared, visible = (unit(3, 6, generator=generator) for _ in range(3))
    said = words(generator)
    swapped = TextDirections(said.visible, said.infrared)
    torch.testing.assert_close(
        direction_loss(fused, visible, infrared, swapped),
        direction_loss(fused, infrared, visible, said),
    )
    wrong = direction_loss(fused, visible, infrared, said)
    assert not torch.allclose(wrong, direction_loss(fused, infrared, visible, said))


def test_angle_loss_is_zero_only_without_any_change(generator):
    x, other = unit(3, 6, generator=generator), unit(3, 6, generator=generator)
    torch.testing.assert_close(angle_loss(x, x, x), torch.zeros(3, dtype=x.dtype))
    assert (angle_loss(x, x, other) > 0).all()
    torch.testing.assert_close(angle_loss(-x, x, x), torch.full((3,), 2.0, dtype=x.dtype))


def test_the_parts_of_the_direction_can_be_left_out(generator):
    """Target alone and plain cosine, against both written out; together they are CLIP's score."""
    fused, infrared, visible = unit(3, 4, 6, generator=generator)
    target = unit(6, generator=generator)
    towards = TextDirections(target, target)
    cos = lambda a, b: F.cosine_similarity(a, b, dim=-1)  # noqa: E731
    got = direction_loss(fused, infrared, visible, towards)
    expected = 1 - (cos(fused - infrared, target) + cos(fused - visible, target)) / 2
    torch.testing.assert_close(got, expected)
    got = direction_loss(fused, infrared, visible, towards, "position")
    torch.testing.assert_close(got, 1 - fused @ target)
    directions = words(generator)
    got = direction_loss(fused, infrared, visible, directions, "position")
    expected = 1 - (cos(fused, directions.infrared) + cos(fused, directions.visible)) / 2
    torch.testing.assert_close(got, expected)
    with pytest.raises(ValueError, match="'difference' or 'position', got 'angle'"):
        direction_loss(fused, infrared, visible, directions, "angle")


def test_patches_can_be_compared_with_their_own_views_of_the_sources(generator):
    patches, infrared, visible = unit(3, 3, 6, generator=generator)
    directions, kept = words(generator), torch.tensor([True, False, True, True])
    got = patch_direction_loss(patches, infrared, visible, directions, kept, sources="patch")
    expected = direction_loss(patches, infrared, visible, directions).sum() / 4
    torch.testing.assert_close(got, expected)
    with pytest.raises(ValueError, match="2 views of the sources"):
        patch_direction_loss(patches, infrared[:2], visible[:2], directions, kept, sources="patch")
    with pytest.raises(ValueError, match="sources must be 'whole' or 'patch'"):
        patch_direction_loss(patches, infrared, visible, directions, kept, sources="own")


def test_gradients_of_the_pure_functions(generator):
    fused, infrared, visible = (unit(2, 6, generator=generator) for _ in range(3))
    patches = unit(4, 6, generator=generator)
    said = words(generator)
    kept = torch.tensor([True, False, True, True, False, True])
    for x in (fused, patches):
        x.requires_grad_()
    check = torch.autograd.gradcheck
    assert check(lambda x: direction_loss(x, infrared, visible, said), fused)
    assert check(lambda x: angle_loss(x, infrared, visible), fused)
    for mean_over in ("all", "kept"):
        assert check(
            lambda x, m=mean_over: patch_direction_loss(x, infrared, visible, said, kept, m),
            patches,
        )


def test_a_step_along_the_negative_gradient_lowers_each_loss(generator):
    infrared, visible = (unit(2, 6, generator=generator) for _ in range(2))
    said = words(generator)
    for loss in (
        lambda x: direction_loss(x, infrared, visible, said).mean(),
        lambda x: angle_loss(x, infrared, visible).mean(),
    ):
        fused = unit(2, 6, generator=generator).requires_grad_()
        before = loss(fused)
        (gradient,) = torch.autograd.grad(before, fused)
        assert loss(fused - 1e-3 * gradient) < before


def test_patches_are_compared_with_the_whole_sources_of_their_own_image(generator):
    patches, infrared, visible = (unit(n, 6, generator=generator) for n in (6, 2, 2))
    said = words(generator)
    slow = [
        direction_loss(patches[r][None], infrared[r % 2][None], visible[r % 2][None], said)
        for r in range(6)
    ]
    got = patch_direction_loss(patches, infrared, visible, said)
    torch.testing.assert_close(got, torch.cat(slow).mean())


def test_dropping_equals_multiplying_by_zero_in_value_and_gradient(generator):
    patches, infrared, visible = (unit(n, 6, generator=generator) for n in (6, 2, 2))
    said = words(generator)
    kept = torch.tensor([True, False, True, True, False, False])
    few = patches[kept].requires_grad_()
    all_of_them = patches.clone().requires_grad_()
    image = torch.arange(6) % 2
    slow = direction_loss(all_of_them, infrared[image], visible[image], said)
    slow = (slow * kept).mean()
    fast = patch_direction_loss(few, infrared, visible, said, kept)
    torch.testing.assert_close(fast, slow)
    fast.backward()
    slow.backward()
    torch.testing.assert_close(few.grad, all_of_them.grad[kept])
    assert not all_of_them.grad[~kept].any()
    over_kept = patch_direction_loss(patches[kept], infrared, visible, said, kept, "kept")
    torch.testing.assert_close(over_kept, slow.detach() * 6 / 3)


def test_no_kept_patch_gives_zero_with_a_graph(generator):
    infrared, visible = (unit(2, 6, generator=generator) for _ in range(2))
    patches = torch.zeros(0, 6, dtype=torch.float64, requires_grad=True)
    none = torch.zeros(8, dtype=torch.bool)
    for mean_over in ("all", "kept"):
        loss = patch_direction_loss(patches, infrared, visible, words(generator), none, mean_over)
        assert loss.item() == 0
        loss.backward()


def test_losses_below_the_threshold_stop_pulling(generator):
    patches, infrared, visible = (unit(n, 6, generator=generator) for n in (8, 2, 2))
    said = words(generator)
    image = torch.arange(8) % 2
    each = direction_loss(patches, infrared[image], visible[image], said)
    cut = each.median().item()
    patches.requires_grad_()
    loss = patch_direction_loss(patches, infrared, visible, said, ignore_below=cut)
    torch.testing.assert_close(loss, each[each > cut].sum() / 8)
    loss.backward()
    assert torch.equal(patches.grad.abs().sum(1) > 0, each > cut)


def test_counts_that_do_not_fit_are_refused(generator):
    x, said = unit(3, 6, generator=generator), words(generator)
    sources = unit(2, 6, generator=generator), unit(2, 6, generator=generator)
    with pytest.raises(ValueError, match="3 patches, 2 of 4 rows"):
        patch_direction_loss(x, *sources, said, torch.tensor([True, True, False, False]))
    with pytest.raises(ValueError, match="2 images"):
        patch_direction_loss(x, *sources, said)
    with pytest.raises(ValueError, match="mean_over"):
        patch_direction_loss(x[:2], *sources, said, mean_over="some")


def test_agreement_with_the_authors_functions(authors_dir):
    reference = {
        name: torch.from_numpy(np.asarray(array))
        for name, array in np.load(authors_dir / "ldfusion_losses.npz").items()
    }
    unit_of = {
        name: F.normalize(array, dim=-1) for name, array in reference.items() if array.ndim == 2
    }
    target = unit_of["text_target"][0]
    said = TextDirections(target - unit_of["text_infrared"][0], target - unit_of["text_visible"][0])
    sources = unit_of["image_infrared"], unit_of["image_visible"]
    patches, kept = unit_of["image_fused_patches"], reference["patch_kept"]
    got = {
        "loss_direction_global": direction_loss(unit_of["image_fused"], *sources, said).mean(),
        "loss_angle": angle_loss(unit_of["image_fused"], *sources).mean(),
        "loss_direction_patches_unfiltered": patch_direction_loss(patches, *sources, said),
        "loss_direction_patches_filtered_mean_over_all": patch_direction_loss(
            patches[kept], *sources, said, kept
        ),
    }
    for name, value in got.items():
        assert value.item() == pytest.approx(reference[name].item(), abs=1e-5), name


# --- the perceptual term


def test_filter_bank_answers_to_edges_by_their_direction_and_contrast():
    step = torch.zeros(1, 1, 32, 32)
    step[..., 16:] = 0.2
    edges_right, *_ = FilterBank(scales=1)(step)
    peaks = edges_right.amax(dim=(0, 2, 3))
    # 4 directions and a blob, then the negative parts: horizontal derivative first.
    assert peaks[0].item() == pytest.approx(1, abs=1e-3)
    assert peaks[2].item() == pytest.approx(0, abs=1e-5)
    assert peaks[1].item() == pytest.approx(2**-0.5, abs=1e-3)
    assert peaks[5].item() == pytest.approx(0, abs=1e-5)
    (edges_left,) = FilterBank(scales=1)(-step)
    torch.testing.assert_close(edges_left, edges_right.roll(5, dims=1))


def test_filter_bank_sees_blobs_and_no_flat_area():
    flat = torch.full((1, 1, 40, 40), 0.7)
    for scale in FilterBank()(flat):
        assert scale.shape[1] == 10
        torch.testing.assert_close(scale, torch.zeros_like(scale), atol=1e-5, rtol=0)
    spot = flat.clone()
    spot[..., 19:21, 19:21] = 1
    bright = FilterBank()(spot)[0]
    assert bright[0, 4, 19, 19] > 0.1 and bright[0, 9, 19, 19] == 0


def test_filter_bank_scales_halve_the_image_and_small_images_are_refused():
    sizes = [tuple(f.shape[-2:]) for f in FilterBank()(torch.rand(1, 1, 41, 64))]
    assert sizes == [(41, 64), (20, 32), (10, 16), (5, 8)]
    assert len(FilterBank()(torch.rand(1, 1, 8, 8))) == 4
    with pytest.raises(ValueError, match="20 x 7"):
        FilterBank()(torch.rand(1, 1, 7, 20))
    with pytest.raises(ValueError, match="luminance"):
        FilterBank()(torch.rand(1, 3, 32, 32))
    with pytest.raises(ValueError, match="contrast"):
        FilterBank(contrast=0)


def test_perceptual_loss_is_zero_where_the_fused_shows_all_and_not_for_an_average(generator):
    loss = PerceptualLoss()
    visible = torch.full((1, 1, 64, 64), 0.3)
    infrared = visible.clone()
    visible[..., :, 8:16] = 0.7  # bars in places far apart, seen by one camera each
    infrared[..., :, 40:48] = 0.9
    both = torch.where(infrared > 0.5, infrared, visible)
    fine = PerceptualLoss(FilterBank(scales=1))
    assert fine(both, infrared, visible).item() == pytest.approx(0, abs=1e-10)
    average = (infrared + visible) / 2
    assert loss(average, infrared, visible) > 4 * loss(both, infrared, visible)
    assert loss(visible, infrared, visible) > 4 * loss(both, infrared, visible)


def test_perceptual_loss_is_symmetric_in_the_sources_and_flows_to_the_fused_only(images):
    fused, infrared, visible = (x.clone().requires_grad_() for x in images)
    loss = PerceptualLoss()
    torch.testing.assert_close(loss(fused, infrared, visible), loss(fused, visible, infrared))
    loss(fused, infrared, visible).backward()
    assert fused.grad.abs().sum() > 0 and infrared.grad is None and visible.grad is None


def test_perceptual_gradient_in_float64(generator):
    fused, infrared, visible = torch.rand(3, 1, 1, 8, 9, generator=generator, dtype=torch.float64)
    loss = PerceptualLoss()
    assert torch.autograd.gradcheck(
        lambda x: loss(x, infrared, visible), fused.clone().requires_grad_()
    )


def test_perceptual_loss_takes_any_features():
    class Twice(nn.Module):
        def forward(self, images):
            return [images, 2 * images]

    fused, infrared, visible = (torch.full((1, 1, 4, 4), x) for x in (0.5, 0.2, 0.9))
    got = PerceptualLoss(Twice())(fused, infrared, visible)
    assert got.item() == pytest.approx(0.4**2 + 0.8**2)


def test_unknown_features_are_refused():
    with pytest.raises(ValueError, match=r"filterbank, vgg19, got 'vgg91'"):
        PerceptualLoss("vgg91")


def test_vgg19_without_weights_is_refused_not_random(monkeypatch, tmp_path):
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(RuntimeError, match=r"vgg19-dcbb9e9d.*filterbank"):
        PerceptualLoss("vgg19")


def test_vgg19_reads_the_layers_of_the_paper(monkeypatch):
    """With a state dict of right shapes, the features are those of torchvision's own forward."""
    from torchvision.models import VGG19_Weights, vgg19

    with torch.device("meta"):
        layers = vgg19(weights=None).features
    layers, generator = layers.to_empty(device="cpu"), torch.Generator().manual_seed(0)
    for parameter in layers.parameters():
        parameter.data.normal_(0, 0.05, generator=generator)
    state = {f"features.{name}": value for name, value in layers.state_dict().items()}
    monkeypatch.setattr(type(VGG19_Weights.IMAGENET1K_V1), "get_state_dict", lambda *_, **__: state)
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    image = torch.rand(1, 1, 32, 32)
    features = perceptual.VGG19Features()(image)
    assert [tuple(f.shape[1:]) for f in features] == [(128, 16, 16), (256, 8, 8), (512, 4, 4)]
    names, x, expected = [], image.repeat(1, 3, 1, 1), []
    block, number = 1, 0
    with torch.no_grad():
        for layer in layers:
            x = layer(x)
            if isinstance(layer, nn.Conv2d):
                number += 1
            elif isinstance(layer, nn.MaxPool2d):
                block, number = block + 1, 0
            elif (block, number) in ((2, 1), (3, 1), (4, 2)):
                names.append((block, number))
                expected.append(x.clone())
    assert len(names) == 3
    for got, want in zip(features, expected, strict=True):
        torch.testing.assert_close(got, want)
        assert got.min() >= 0 and got.std() > 1e-3
    with pytest.raises(RuntimeError, match="filterbank"):
        state.pop("features.0.weight")
        perceptual.VGG19Features()


# --- all of it


def test_default_weights_are_the_papers_and_bad_ones_are_refused():
    assert LossWeights() == LossWeights(direction=2, patch=10, angle=6, perceptual=10)
    with pytest.raises(ValueError, match="angle"):
        LossWeights(angle=-1)
    with pytest.raises(ValueError, match="patch"):
        LossWeights(patch=float("nan"))
    with pytest.raises(ValueError, match="nothing to learn"):
        LossWeights(0, 0, 0, 0)


def test_total_is_the_weighted_sum_of_the_terms(clip, images):
    weights = LossWeights(direction=3, patch=5, angle=7, perceptual=11)
    loss = FusionLoss(clip, PROMPTS, weights, entropy_threshold=4.0)
    got = loss(*images, torch.Generator().manual_seed(1))
    assert list(got.terms) == ["direction", "patch", "angle", "perceptual"]
    expected = sum(getattr(weights, name) * value for name, value in got.terms.items())
    torch.testing.assert_close(got.total, expected)


def test_terms_equal_the_pure_functions(clip, images):
    sampler = PatchSampler(count=3, size=16)
    loss = FusionLoss(clip, PROMPTS, sampler=sampler, entropy_threshold=None)
    got = loss(*images, torch.Generator().manual_seed(1)).terms
    embed = [clip.encode_image(x) for x in images]
    torch.testing.assert_close(got["direction"], direction_loss(*embed, loss.directions).mean())
    torch.testing.assert_close(got["angle"], angle_loss(*embed).mean())
    torch.testing.assert_close(got["perceptual"], PerceptualLoss()(*images))
    theta = sampler.sample(2, torch.Generator().manual_seed(1), (48, 40))
    patches = clip.encode_image(extract_patches(images[0], theta, 16))
    torch.testing.assert_close(
        got["patch"], patch_direction_loss(patches, *embed[1:], loss.directions)
    )


@pytest.mark.parametrize("off", ["direction", "patch", "angle", "perceptual"])
def test_a_term_of_weight_zero_is_not_computed(off, clip, images):
    full = FusionLoss(clip, PROMPTS)(*images, torch.Generator().manual_seed(1))
    part = FusionLoss(clip, PROMPTS, LossWeights(**{off: 0}))
    got = part(*images, torch.Generator().manual_seed(1))
    assert set(got.terms) == set(full.terms) - {off}
    assert (got.kept is None) == (off == "patch")
    for name in got.terms:
        torch.testing.assert_close(got.terms[name], full.terms[name])


def test_without_language_no_clip_is_needed_and_with_it_it_is(images):
    weights = LossWeights(direction=0, patch=0, angle=0)
    assert list(FusionLoss(None, weights=weights)(*images).terms) == ["perceptual"]
    with pytest.raises(ValueError, match="need a CLIP"):
        FusionLoss(None)


def test_only_the_kept_patches_are_encoded_and_the_sources_have_no_graph(clip, images):
    fused, infrared, visible = images
    fused = fused.clone().requires_grad_()
    sampler = PatchSampler(count=10, size=16)
    loss = FusionLoss(clip, PROMPTS, sampler=sampler, entropy_threshold=4.0)
    clip.encoded.clear()
    got = loss(fused, infrared, visible, torch.Generator().manual_seed(1))
    sources, whole, patches = clip.encoded
    assert sources == (4, False, False)
    assert whole == (2, True, True)
    assert patches == (10, True, True)  # of 20: those of the pair that is not flat
    assert got.kept == 0.5


def test_gradient_equals_that_of_encoding_all_patches_and_multiplying_by_zero(clip, images):
    fused, infrared, visible = images
    sampler = PatchSampler(count=6, size=16)
    fast = fused.clone().requires_grad_()
    weights = LossWeights(0, 1, 0, 0)
    loss = FusionLoss(clip, PROMPTS, weights, sampler, entropy_threshold=4.0)
    loss(fast, infrared, visible, torch.Generator().manual_seed(1)).total.backward()
    slow = fused.clone().requires_grad_()
    theta = sampler.sample(2, torch.Generator().manual_seed(1), (48, 40))
    embeddings = clip.encode_image(extract_patches(slow, theta, 16))
    image = torch.arange(12) % 2
    with torch.no_grad():
        sources = [clip.encode_image(x)[image] for x in (infrared, visible)]
    kept = torch.tensor([True, False] * 6)
    (direction_loss(embeddings, *sources, loss.directions) * kept).mean().backward()
    assert slow.grad.abs().sum() > 0
    torch.testing.assert_close(fast.grad, slow.grad)
    assert not fast.grad[1].any()


def test_no_patch_kept_leaves_a_valid_graph(clip, images):
    fused, infrared, visible = images
    fused = fused.clone().requires_grad_()
    loss = FusionLoss(clip, PROMPTS, LossWeights(0, 1, 0, 0), entropy_threshold=8.0)
    got = loss(fused, infrared, visible, torch.Generator().manual_seed(1))
    assert got.total.item() == 0 and got.kept == 0
    got.total.backward()
    assert not fused.grad.any()


def test_clip_is_frozen_and_stays_in_eval_mode(clip, images):
    loss = FusionLoss(clip, PROMPTS)
    assert not clip.training and not loss.train().clip.training
    assert not any(p.requires_grad for p in loss.parameters())
    fused = images[0].clone().requires_grad_()
    loss(fused, *images[1:], torch.Generator()).total.backward()
    assert clip.weight.grad is None and fused.grad.isfinite().all()


def test_the_generator_decides_the_patches(clip, images):
    loss = FusionLoss(clip, PROMPTS, entropy_threshold=None)
    value = [loss(*images, torch.Generator().manual_seed(s)).total.item() for s in (1, 1, 2)]
    assert value[0] == value[1] != value[2]


def test_whole_gradient_in_float64(clip):
    generator = torch.Generator().manual_seed(5)
    clip.double()
    fused, infrared, visible = torch.rand(3, 1, 1, 10, 9, generator=generator, dtype=torch.float64)
    loss = FusionLoss(
        clip, PROMPTS, sampler=PatchSampler(count=2, size=16), entropy_threshold=None
    ).double()
    assert torch.autograd.gradcheck(
        lambda x: loss(x, infrared, visible, torch.Generator().manual_seed(1)).total,
        fused.clone().requires_grad_(),
    )


def test_bfloat16_is_near_float32(clip, images):
    exact = FusionLoss(clip, PROMPTS)(*images, torch.Generator().manual_seed(1))
    rough = FusionLoss(FrozenClip(clip, autocast=True), PROMPTS)(
        *images, torch.Generator().manual_seed(1)
    )
    assert rough.total.dtype == torch.float32
    assert rough.total.item() != exact.total.item()
    assert rough.total.item() == pytest.approx(exact.total.item(), rel=0.05)


def test_shapes_that_do_not_fit_are_refused(clip, images):
    loss = FusionLoss(clip, PROMPTS)
    fused, infrared, visible = images
    for bad in (
        (fused, infrared, visible.expand(-1, 3, -1, -1)),
        (fused, infrared[:1], visible),
        (fused[..., :-1], infrared, visible),
    ):
        with pytest.raises(ValueError, match="one shape"):
            loss(*bad)


def _terms(clip, images, **options):
    """The terms of a loss with these options, same patches as of any other call."""
    options = {"entropy_threshold": 4.0, "sampler": PatchSampler(count=6, size=16)} | options
    return FusionLoss(clip, PROMPTS, **options)(*images, torch.Generator().manual_seed(1))


def test_the_mean_over_kept_patches_is_the_mean_over_all_by_their_share(clip, images):
    over_all, over_kept = (_terms(clip, images, mean_over=m) for m in ("all", "kept"))
    assert over_all.kept == over_kept.kept == 0.5
    torch.testing.assert_close(over_kept.terms["patch"], over_all.terms["patch"] / 0.5)
    assert over_kept.terms["direction"] == over_all.terms["direction"]


def test_the_threshold_of_the_filter_decides_the_share(clip, images):
    kept = [_terms(clip, images, entropy_threshold=t).kept for t in (None, 4.0, 8.0)]
    assert kept == [1.0, 0.5, 0.0]


def test_the_rule_of_the_filter_decides_the_share(clip, images):
    kept = {
        rule: _terms(clip, images, patch_filter=rule).kept
        for rule in ("bits", "normalized", "upper_half", "none")
    }
    assert kept == {"bits": 0.5, "normalized": 0.5, "upper_half": 0.5, "none": 1.0}
    one = _terms(clip, images, filter_sources="visible", entropy_threshold=4.0)
    assert one.kept == 1.0, "only the infrared image is flat"
    with pytest.raises(ValueError, match="rule of the patch filter"):
        FusionLoss(clip, PROMPTS, patch_filter="quarter")


def test_patches_against_their_own_views_equal_the_pure_function(clip, images):
    sampler = PatchSampler(count=3, size=16)
    got = _terms(clip, images, sampler=sampler, entropy_threshold=None, patch_sources="patch")
    theta = sampler.sample(2, torch.Generator().manual_seed(1), (48, 40))
    views = [clip.encode_image(extract_patches(x, theta, 16)) for x in images]
    directions = FusionLoss(clip, PROMPTS).directions
    torch.testing.assert_close(got.terms["patch"], direction_loss(*views, directions).mean())
    nothing = _terms(clip, images, entropy_threshold=8.0, patch_sources="patch")
    assert nothing.kept == 0 and nothing.terms["patch"] == 0


def test_the_sides_of_the_direction_decide_both_language_terms(clip, images):
    usual = _terms(clip, images)
    for change in ({"direction_text": "target"}, {"direction_image": "position"}):
        other = _terms(clip, images, **change)
        for name in ("direction", "patch"):
            assert other.terms[name] != usual.terms[name], (change, name)
        torch.testing.assert_close(other.terms["angle"], usual.terms["angle"])
    fused = clip.encode_image(images[0])
    target = clip.encode_text([PROMPTS.fused])[0]
    plain = _terms(clip, images, direction_text="target", direction_image="position")
    torch.testing.assert_close(plain.terms["direction"], 1 - (fused @ target).mean())


def test_small_patch_losses_are_ignored_as_asked(clip, images):
    usual = _terms(clip, images).terms["patch"]
    assert _terms(clip, images, ignore_below=2.0).terms["patch"] == 0 < usual
    part = _terms(clip, images, ignore_below=0.9).terms["patch"]
    assert part == _terms(clip, images, ignore_below=0.9).terms["patch"] <= usual


def test_the_sampler_decides_how_many_patches_of_which_size_are_encoded(clip, images):
    for count, size in ((3, 16), (5, 12)):
        clip.encoded.clear()
        _terms(clip, images, sampler=PatchSampler(count=count, size=size), entropy_threshold=None)
        assert clip.encoded[-1][0] == 2 * count
    first, second = (
        _terms(clip, images, sampler=PatchSampler(count=6, size=16, side=side)).terms["patch"]
        for side in ((0.3, 0.4), (0.7, 0.8))
    )
    assert first != second


def test_the_perceptual_features_are_those_given(clip, images):
    class Brightness(nn.Module):
        def forward(self, x):
            return [x.mean(dim=(-2, -1))]

    got = _terms(clip, images, perceptual=Brightness()).terms["perceptual"]
    torch.testing.assert_close(got, PerceptualLoss(Brightness())(*images))
    assert got != _terms(clip, images).terms["perceptual"]


def test_the_prompts_decide_the_directions(clip, images):
    other = SimpleNamespace(**{**vars(PROMPTS), "fused": PROMPTS.visible})
    with pytest.raises(ValueError, match="same sentence"):
        FusionLoss(clip, other)
    swapped = SimpleNamespace(
        infrared=PROMPTS.infrared, visible=PROMPTS.fused, fused=PROMPTS.visible
    )
    one = FusionLoss(clip, PROMPTS)(*images, torch.Generator().manual_seed(1)).terms["direction"]
    two = FusionLoss(clip, swapped)(*images, torch.Generator().manual_seed(1)).terms["direction"]
    assert (one - two).abs() > 1e-3
