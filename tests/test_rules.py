"""Baselines: what a rule must keep, and agreement with slow direct computations by scipy."""

import numpy as np
import pytest
import torch
from scipy import ndimage

from ldf_utils.fusion.rules import (
    RULES,
    average,
    guided_filter,
    guided_smooth,
    laplacian_pyramid,
    maximum,
)

EVERY_RULE = pytest.mark.parametrize("rule", RULES.values(), ids=RULES.keys())


def _pair(generator, *shape, dtype=torch.float32):
    """Two smooth random pictures with some texture, which rules treat differently."""
    coarse = torch.rand(2, shape[0], 1, 5, 7, generator=generator)
    noise = torch.rand(2, *shape, generator=generator)
    smooth = torch.nn.functional.interpolate(coarse.flatten(0, 1), shape[-2:], mode="bicubic")
    both = 0.7 * smooth.view(2, *shape).clamp(0, 1) + 0.3 * noise
    return both[0].to(dtype), both[1].to(dtype)


@EVERY_RULE
@pytest.mark.parametrize("size", [(32, 32), (33, 47), (50, 131)])
def test_equal_sources_are_kept(rule, size, generator):
    image, _ = _pair(generator, 2, 1, *size)
    torch.testing.assert_close(rule(image, image), image, atol=2e-6, rtol=0)


@EVERY_RULE
def test_result_has_shape_type_and_range(rule, generator):
    infrared = (torch.rand(3, 1, 41, 36, generator=generator) > 0.5).float()
    visible = (torch.rand(3, 1, 41, 36, generator=generator) > 0.5).float()
    fused = rule(infrared, visible)
    assert fused.shape == infrared.shape and fused.dtype == torch.float32
    assert fused.min() >= 0 and fused.max() <= 1
    assert fused.std() > 0.05


@EVERY_RULE
def test_sources_may_be_swapped(rule, generator):
    infrared, visible = _pair(generator, 2, 1, 45, 38)
    infrared[:, :, :20, :20] = 1 - visible[:, :, :20, :20]  # opposite details of one magnitude
    torch.testing.assert_close(rule(infrared, visible), rule(visible, infrared), atol=1e-6, rtol=0)


@EVERY_RULE
def test_a_batch_is_its_images(rule, generator):
    infrared, visible = _pair(generator, 3, 1, 40, 40)
    one_by_one = torch.cat([rule(i[None], v[None]) for i, v in zip(infrared, visible, strict=True)])
    torch.testing.assert_close(rule(infrared, visible), one_by_one, atol=1e-6, rtol=0)


@EVERY_RULE
def test_gradient_reaches_both_sources(rule, generator):
    infrared, visible = (x.requires_grad_() for x in _pair(generator, 1, 1, 36, 34))
    rule(infrared, visible).square().sum().backward()
    for source in (infrared, visible):
        assert torch.isfinite(source.grad).all()
        assert source.grad.abs().sum() > 0


@pytest.mark.parametrize("rule", [average, laplacian_pyramid])
def test_gradient_is_that_of_finite_differences(rule, generator):
    pair = [x * 0.5 + 0.25 for x in _pair(generator, 1, 1, 9, 10, dtype=torch.float64)]
    assert torch.autograd.gradcheck(rule, [x.requires_grad_() for x in pair])


@EVERY_RULE
def test_wrong_shapes_are_named(rule):
    good = torch.zeros(1, 1, 32, 32)
    for bad in (torch.zeros(1, 3, 32, 32), torch.zeros(1, 1, 32, 31), torch.zeros(32, 32)):
        with pytest.raises(ValueError, match="one shape"):
            rule(good, bad)


def test_average_and_maximum():
    infrared, visible = torch.tensor([0.0, 0.5, 1.0]), torch.tensor([1.0, 0.25, 1.0])
    infrared, visible = infrared.view(1, 1, 1, 3), visible.view(1, 1, 1, 3)
    assert average(infrared, visible).flatten().tolist() == [0.5, 0.375, 1.0]
    assert maximum(infrared, visible).flatten().tolist() == [1.0, 0.5, 1.0]


def test_pyramid_takes_the_stronger_detail_and_the_mean_base(generator):
    """A pattern in one source on a flat other one: full contrast about the mean of the bases."""
    rows, columns = torch.meshgrid(torch.arange(64), torch.arange(64), indexing="ij")
    pattern = 0.2 * ((rows + columns) % 2 * 2.0 - 1)
    infrared = torch.full((1, 1, 64, 64), 0.7)
    visible = (0.3 + pattern)[None, None]
    fused = laplacian_pyramid(infrared, visible)
    torch.testing.assert_close(fused, (0.5 + pattern)[None, None], atol=0.01, rtol=0)
    with pytest.raises(ValueError, match="level"):
        laplacian_pyramid(infrared, visible, levels=0)


def _pyramid_by_scipy(infrared, visible, levels):
    taps = np.array([1, 4, 6, 4, 1]) / 16

    def blur(x):
        return ndimage.convolve1d(
            ndimage.convolve1d(x, taps, 0, mode="mirror"), taps, 1, mode="mirror"
        )

    def expand(x, shape):
        wide = np.zeros(shape)
        wide[::2, ::2] = x
        return 4 * blur(wide)

    if levels == 0:
        return (infrared + visible) / 2
    low = [blur(x)[::2, ::2] for x in (infrared, visible)]
    details = [x - expand(y, x.shape) for x, y in zip((infrared, visible), low, strict=True)]
    stronger = np.where(abs(details[0]) > abs(details[1]), *details)
    return expand(_pyramid_by_scipy(*low, levels - 1), infrared.shape) + stronger


@pytest.mark.parametrize("size", [(64, 64), (51, 78)])
def test_pyramid_agrees_with_scipy(size, generator):
    infrared, visible = _pair(generator, 1, 1, *size, dtype=torch.float64)
    expected = _pyramid_by_scipy(infrared[0, 0].numpy(), visible[0, 0].numpy(), 3).clip(0, 1)
    fused = laplacian_pyramid(infrared, visible, levels=3)[0, 0]
    np.testing.assert_allclose(fused.numpy(), expected, atol=1e-12)


def _window_mean(x, radius):
    """Mean of each cut-off window, pixel by pixel."""
    result = np.empty_like(x)
    for row, column in np.ndindex(*x.shape):
        rows = slice(max(row - radius, 0), row + radius + 1)
        columns = slice(max(column - radius, 0), column + radius + 1)
        result[row, column] = x[rows, columns].mean()
    return result


def _guided_directly(image, guide, radius, epsilon):
    mean_image, mean_guide = _window_mean(image, radius), _window_mean(guide, radius)
    a = _window_mean(image * guide, radius) - mean_image * mean_guide
    a = a / (_window_mean(guide**2, radius) - mean_guide**2 + epsilon)
    b = mean_image - a * mean_guide
    return _window_mean(a, radius) * guide + _window_mean(b, radius)


def test_guided_smooth_agrees_with_windows(generator):
    image, guide = _pair(generator, 1, 1, 21, 26, dtype=torch.float64)
    expected = _guided_directly(image[0, 0].numpy(), guide[0, 0].numpy(), 4, 0.01)
    smooth = guided_smooth(image, guide, 4, 0.01)[0, 0]
    np.testing.assert_allclose(smooth.numpy(), expected, atol=1e-12)


def test_guided_smooth_keeps_the_edge_of_its_guide(generator):
    step = torch.zeros(1, 1, 32, 32, dtype=torch.float64)
    step[..., 16:] = 1
    noisy = step + 0.1 * torch.randn(step.shape, generator=generator, dtype=torch.float64)
    smooth = guided_smooth(noisy, step, 5, 1e-4)
    assert (smooth - step).std() < 0.3 * (noisy - step).std()
    assert (smooth[..., 16] - smooth[..., 15]).mean() > 0.9


def test_guided_filter_agrees_with_a_direct_computation(generator):
    pair = _pair(generator, 1, 1, 38, 43, dtype=torch.float64)
    sources = [x[0, 0].numpy() for x in pair]
    saliency = [
        ndimage.gaussian_filter(abs(ndimage.laplace(x, mode="mirror")), 5, radius=5, mode="mirror")
        for x in sources
    ]
    winners = [(s >= np.maximum(*saliency)).astype(float) for s in saliency]
    bases = [_window_mean(x, 15) for x in sources]
    details = [x - b for x, b in zip(sources, bases, strict=True)]
    expected = 0
    for parts, radius, epsilon in ((bases, 45, 0.3), (details, 7, 1e-6)):
        weights = [
            _guided_directly(w, x, radius, epsilon).clip(min=0)
            for w, x in zip(winners, sources, strict=True)
        ]
        expected = expected + sum(w * p for w, p in zip(weights, parts, strict=True)) / sum(weights)
    np.testing.assert_allclose(guided_filter(*pair)[0, 0].numpy(), expected.clip(0, 1), atol=1e-9)


def test_guided_filter_takes_texture_from_where_it_is(generator):
    """Left half textured in one source, right half in the other: both textures survive."""
    texture = 0.2 * torch.rand(1, 1, 64, 64, generator=generator) - 0.1
    infrared, visible = torch.full((2, 1, 1, 64, 64), 0.5)
    infrared[..., :32] += texture[..., :32]
    visible[..., 32:] += texture[..., 32:]
    fused = guided_filter(infrared, visible) - 0.5
    kept = torch.corrcoef(torch.stack([fused.flatten(), texture.flatten()]))[0, 1]
    assert kept > 0.95 and fused.std() > 0.8 * texture.std()
    assert average(infrared, visible).std() < 0.6 * texture.std()
