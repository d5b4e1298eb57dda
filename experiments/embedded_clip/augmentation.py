"""Augmentation: what cameras and their software do to an image, drawn at random.

Rendered cameras are cleaner than real ones, and a small model learns to tell the two renderings
apart instead of the two cameras, if it can. So tone curves, noise, blur, sharpening and spectra of
both sources are drawn from the same wide distributions, and fine structure of one may show in the
other. What is left to tell them apart is what is warm and what is lit.
"""

from __future__ import annotations

import functools
import math

import torch

from ldf_utils.data.blur import gaussian_blur


def uniform(count: int, low: float, high: float, generator: torch.Generator) -> torch.Tensor:
    """Draw one number for each image, ``(count, 1, 1, 1)``, uniform from ``low`` to ``high``."""
    return low + (high - low) * torch.rand(count, 1, 1, 1, generator=generator)


def random_crops(count: int, generator: torch.Generator) -> torch.Tensor:
    """Draw crops as affine maps: side, place, mirroring, a few degrees; a third nearly whole.

    Real images are wider than high and are squeezed to a square, so a crop is up to 1.4 times as
    wide as high.

    Args:
        count: how many.
        generator: draws them.

    Returns:
        ``(count, 2, 3)``, as `torch.nn.functional.affine_grid` takes them.
    """
    side = 0.5 + 0.5 * torch.rand(count, generator=generator)
    whole = torch.rand(count, generator=generator) < 0.35
    side = torch.where(whole, 0.9 + 0.1 * side, side)
    angle = math.radians(6) * (2 * torch.rand(count, generator=generator) - 1)
    flip = torch.where(torch.rand(count, generator=generator) < 0.5, -1.0, 1.0)
    sides = torch.stack([side, side * (0.7 + 0.3 * torch.rand(count, generator=generator))], 1)
    place = (2 * torch.rand(count, 2, generator=generator) - 1) * (1 - sides)
    theta = torch.zeros(count, 2, 3)
    theta[:, 0, 0], theta[:, 0, 1] = sides[:, 0] * flip * angle.cos(), -sides[:, 0] * angle.sin()
    theta[:, 1, 0], theta[:, 1, 1] = sides[:, 1] * flip * angle.sin(), sides[:, 1] * angle.cos()
    theta[:, :, 2] = place
    return theta


def exchange_structure(
    infrared: torch.Tensor, visible: torch.Tensor, generator: torch.Generator
) -> tuple[torch.Tensor, torch.Tensor]:
    """Let fine structure of the visible image show in the infrared one, and the reverse.

    Real surfaces differ in emissivity and in how much the sun has warmed them, so real infrared
    images contain bricks, markings and bark, with the same contrast or the opposite one.

    Args:
        infrared: ``(B, 1, H, W)`` in [0, 1].
        visible: the same.
        generator: draws how much.

    Returns:
        The two images, of the same shapes.
    """
    count = len(infrared)

    def draw(low: float, high: float) -> torch.Tensor:
        return uniform(count, low, high, generator)

    width = 0.8 + 3.0 * float(torch.rand((), generator=generator))
    fine = visible - gaussian_blur(visible, width)
    warm = infrared - gaussian_blur(infrared, width)
    sign = torch.where(draw(0, 1) < 0.35, -1.0, 1.0)
    infrared = infrared + sign * draw(0, 0.9) * (draw(0, 1) < 0.6) * fine
    visible = visible - draw(0, 0.7) * (draw(0, 1) < 0.4) * fine
    visible = visible + draw(-0.4, 0.4) * (draw(0, 1) < 0.3) * warm
    return infrared.clamp(0, 1), visible.clamp(0, 1)


def add_texture(
    infrared: torch.Tensor, visible: torch.Tensor, generator: torch.Generator
) -> tuple[torch.Tensor, torch.Tensor]:
    """Add fine structure to both images, as much to the infrared one as real ones may contain.

    Real infrared images contain more texture than rendered ones, and a CLIP trained on rendered
    ones alone calls them visible. So the infrared image gets the fine structure of the visible one,
    with the same contrast or the opposite one, scaled to a random standard deviation. Both get
    clutter of their own, noise with the spectrum of natural images.

    Args:
        infrared: ``(B, 1, S, S)`` in [0, 1], square.
        visible: the same.
        generator: draws how much.

    Returns:
        The two images, of the same shapes, in [0, 1].
    """
    count = len(infrared)

    def draw(low: float, high: float) -> torch.Tensor:
        return uniform(count, low, high, generator)

    width = 0.8 + 5.0 * float(torch.rand((), generator=generator))
    fine = visible - gaussian_blur(visible, width)
    warm = infrared - gaussian_blur(infrared, width)
    sign = torch.where(draw(0, 1) < 0.4, -1.0, 1.0)
    wanted = 0.07 * draw(0, 1) ** 1.5
    ratio = (wanted / fine.std((-2, -1), keepdim=True).clamp_min(0.004)).clamp(max=4)
    infrared = infrared + sign * ratio * (draw(0, 1) < 0.8) * fine
    visible = visible - draw(0, 0.9) * (draw(0, 1) < 0.5) * fine
    visible = visible + draw(-0.4, 0.4) * (draw(0, 1) < 0.3) * warm
    both = torch.cat([infrared.clamp(0, 1), visible.clamp(0, 1)])
    infrared, visible = _add_clutter(both, generator).chunk(2)
    return infrared, visible


def _add_clutter(images: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """Noise whose amplitude falls as ``f ** -a``, a from 0.7 to 1.6, on some square images."""
    count, side = len(images), images.shape[-1]
    ring, sizes = _frequency_rings(side)
    radius = torch.arange(len(sizes))
    slope = 0.7 + 0.9 * torch.rand(count, 1, generator=generator)
    gain = radius.clamp_min(1) ** -slope * (radius > 2)
    waves = torch.fft.rfft2(torch.randn(count, side, side, generator=generator))
    waves = waves * gain[:, ring.flatten()].view(count, *ring.shape)
    clutter = torch.fft.irfft2(waves, s=(side, side))[:, None]
    clutter = clutter / clutter.std((-2, -1), keepdim=True)
    amount = 0.09 * uniform(count, 0, 1, generator) ** 2
    return (images + amount * (uniform(count, 0, 1, generator) < 0.6) * clutter).clamp(0, 1)


@functools.cache
def _frequency_rings(side: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the ring of each frequency of a real Fourier transform, and the sizes of the rings."""
    rows, columns = torch.fft.fftfreq(side)[:, None], torch.fft.rfftfreq(side)[None]
    ring = (torch.hypot(rows, columns) * side / 2).round().long().clamp(max=side // 2)
    sizes = torch.zeros(side // 2 + 1).scatter_add_(0, ring.flatten(), torch.ones(ring.numel()))
    return ring, sizes.clamp_min(1)


def naturalize_spectrum(images: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """Give each square image the spectrum of a natural one, ``f ** -a`` with a from 1 to 1.9.

    Mean and standard deviation stay. Source of the slope: Field, doi:10.1364/JOSAA.4.002379.

    Args:
        images: ``(B, 1, S, S)``.
        generator: draws the slopes.

    Returns:
        The images, of the same shape, not clamped to [0, 1].
    """
    count, side = len(images), images.shape[-1]
    ring, sizes = _frequency_rings(side)
    mean = images.mean((-2, -1), keepdim=True)
    spread = images.std((-2, -1), keepdim=True)
    waves = torch.fft.rfft2((images - mean)[:, 0])
    power = torch.zeros(count, len(sizes)).scatter_add_(
        1, ring.flatten().expand(count, -1), (waves.abs() ** 2).flatten(1)
    )
    slope = 1.0 + 0.9 * torch.rand(count, 1, generator=generator)
    wanted = torch.arange(len(sizes)).clamp_min(1) ** (-2 * slope)
    gain = (wanted / (power / sizes).clamp_min(1e-9)).sqrt()
    gain[:, 0] = gain[:, 1]
    waves = waves * gain[:, ring.flatten()].view(count, *ring.shape)
    made = torch.fft.irfft2(waves, s=(side, side))[:, None]
    return made / made.std((-2, -1), keepdim=True).clamp_min(1e-6) * spread + mean


def randomize_tones(images: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """Map the quantiles of each image to random ones: a monotone tone curve.

    Args:
        images: ``(B, 1, H, W)``.
        generator: draws the curves.

    Returns:
        The images, of the same shape, about in [0, 1].
    """
    count, knots = len(images), 7
    flat = images.flatten(1)
    edges = torch.quantile(flat[:, ::9], torch.linspace(0.005, 0.995, knots), dim=1).T
    edges = edges + torch.arange(knots) * 1e-4
    steps = torch.rand(count, knots - 1, generator=generator) ** 1.5 + 0.05
    goal = torch.cat([torch.zeros(count, 1), steps.cumsum(1)], 1)
    low = 0.25 * torch.rand(count, 1, generator=generator) ** 2
    span = (1 - low) * (0.35 + 0.65 * torch.rand(count, 1, generator=generator))
    goal = low + span * goal / goal[:, -1:]
    place = torch.searchsorted(edges.contiguous(), flat.contiguous()).clamp(1, knots - 1)
    x0, x1 = edges.gather(1, place - 1), edges.gather(1, place)
    y0, y1 = goal.gather(1, place - 1), goal.gather(1, place)
    return (y0 + (flat - x0) / (x1 - x0) * (y1 - y0)).view_as(images).clamp(-0.1, 1.1)


def simulate_camera(
    images: torch.Tensor, generator: torch.Generator
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Apply what a camera and its software may do, the same for both kinds of camera.

    Args:
        images: ``(B, 1, S, S)`` in [0, 1].
        generator: draws what is done.

    Returns:
        The images in [0, 1]; which of them may be blurred, ``(B,)`` bool; and which may be noisy,
        ``(B,)`` bool.
    """
    count, side = len(images), images.shape[-1]

    def draw(low: float, high: float) -> torch.Tensor:
        return uniform(count, low, high, generator)

    new_spectrum = draw(0, 1) < 0.25
    images = torch.where(new_spectrum, naturalize_spectrum(images, generator).clamp(0, 1), images)
    images = images.clamp_min(1e-4) ** torch.exp(draw(-0.5, 0.5))
    images = torch.where(draw(0, 1) < 0.25, randomize_tones(images, generator), images)
    fine, wide = gaussian_blur(images, 1.0), gaussian_blur(images, 4.0)
    sharpened = 1.4 * draw(0, 1) ** 2 * (images - fine) + draw(0, 1) ** 2 * (images - wide)
    soft = draw(0, 1) < 0.2
    width = 0.6 + 0.6 * float(torch.rand((), generator=generator))
    images = torch.where(soft, gaussian_blur(images, width), images + sharpened)
    images = images * draw(0.7, 1.15) + draw(-0.05, 0.1)
    images = torch.where(draw(0, 1) < 0.08, images * draw(0.25, 0.6), images)
    amount = 0.035 * draw(0, 1) ** 2
    columns = torch.randn(count, 1, 1, side, generator=generator) * (draw(0, 1) < 0.2)
    rows = torch.randn(count, 1, side, 1, generator=generator) * (draw(0, 1) < 0.2)
    grain = torch.randn(images.shape, generator=generator)
    images = images + amount * (grain + 0.6 * (columns + rows))
    blurred, noisy = soft | new_spectrum, (amount > 0.012) | new_spectrum
    return images.clamp(0, 1), blurred.flatten(), noisy.flatten()


def darken_some(images: torch.Tensor, share: float, generator: torch.Generator) -> torch.Tensor:
    """Show some images as cameras for the night do, all but the brightest parts near black.

    Args:
        images: ``(B, 1, H, W)`` in [0, 1].
        share: of the images that are changed, in [0, 1].
        generator: draws which, and how dark.

    Returns:
        The images, of the same shape.
    """
    count = len(images)
    dim = images.clamp_min(1e-4) ** uniform(count, 1.0, 2.5, generator)
    dim = dim * uniform(count, 0.15, 0.7, generator)
    return torch.where(uniform(count, 0, 1, generator) < share, dim, images)


def enhance(images: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """Change images as good fusions may: tone curve, sharpness, local contrast, slight noise.

    Args:
        images: ``(B, 1, H, W)`` in [0, 1].
        generator: draws how much.

    Returns:
        The images, of the same shape, in [0, 1].
    """
    count = len(images)
    images = images.clamp_min(1e-4) ** torch.exp(uniform(count, -0.2, 0.2, generator))
    strength = torch.rand(2, count, 1, 1, 1, generator=generator) ** 2
    wide = gaussian_blur(images, 3.0 + 3.0 * float(torch.rand((), generator=generator)))
    fine = gaussian_blur(images, 1.0)
    grain = 0.012 * uniform(count, 0, 1, generator) * torch.randn(images.shape, generator=generator)
    images = images + 1.2 * strength[0] * (images - fine) + 0.9 * strength[1] * (images - wide)
    return (images + grain).clamp(0, 1)
