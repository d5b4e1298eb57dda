"""Salience: how far objects stand out from their surroundings, measured and edited.

An image in which a person stands out and the same image in which that person is hidden differ in
nothing else; neither noise nor global contrast makes up for it. Both polarities count: an object
may be brighter or darker than what is around it.
"""

from __future__ import annotations

import torch

from experiments.embedded_clip.augmentation import uniform
from ldf_utils.data.blur import gaussian_blur
from ldf_utils.metrics.oracle import masked_mean, widen

RING = 5  # pixels around an object
WIDE = 6.0  # standard deviation of the window over surroundings, pixels
HIDDEN, OBVIOUS = 0.35, 0.9
"""Limits of the prominence of hidden and of salient objects."""

HIDDEN_GAP, OBVIOUS_GAP = 0.045, 0.12
"""Limits of the contrast in [0, 1] of hidden and of salient objects."""


def _ring(mask: torch.Tensor) -> torch.Tensor:
    return widen(mask, RING) - mask


def contrast(images: torch.Tensor, mask: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Compute how much brighter objects are than a ring around them, and how prominent that is.

    With the mean m and the standard deviation s: ``gap = m_in - m_ring`` and ``prominence =
    |gap| / (0.5 s_ring + 0.5 s_image + 0.02)``, which stretching an image does not raise and which
    noise lowers.

    Args:
        images: ``(G, V, H, W)`` in [0, 1].
        mask: ``(G, 1, H, W)`` with 0 and 1: where the objects are.

    Returns:
        ``gap`` in [-1, 1] and ``prominence`` from 0, each ``(G, V)``; 0 without objects.
    """
    ring = _ring(mask)
    around = masked_mean(images, ring)
    gap = masked_mean(images, mask) - around
    spread = masked_mean((images - around[..., None, None]).square(), ring).sqrt()
    overall = images.std((-2, -1), correction=0)
    there = (mask.sum((-2, -1)) > 0) & (ring.sum((-2, -1)) > 0)
    gap = gap * there
    return gap, gap.abs() / (0.5 * spread + 0.5 * overall + 0.02)


def _mean_near(images: torch.Tensor, weight: torch.Tensor, width: float) -> torch.Tensor:
    """Average over a Gaussian window where the weight is, elsewhere over all of it."""
    mean = masked_mean(images, weight)[..., None, None]
    total = gaussian_blur(weight, width) + 1e-3
    return gaussian_blur((images - mean) * weight, width) / total + mean


def set_contrast(
    images: torch.Tensor, mask: torch.Tensor, gap: torch.Tensor, texture: torch.Tensor
) -> torch.Tensor:
    """Move the levels of objects so that they stand out from their surroundings by a given gap.

    Args:
        images: ``(G, 1, H, W)`` in [0, 1].
        mask: ``(G, 1, H, W)`` with 0 and 1.
        gap: wanted difference to the surroundings, ``(G, 1, 1, 1)``; 0 hides the objects.
        texture: share of the objects' own texture that stays, away from their outlines,
            ``(G, 1, 1, 1)``.

    Returns:
        The images, of the same shape, in [0, 1]; unchanged outside of the objects but for a soft
        edge.
    """
    far = 1 - widen(mask, 2)
    around = _mean_near(images, far, WIDE)
    inside = _mean_near(images, mask, WIDE)
    level = (around + gap).clamp(0.02, 0.98)
    core = gaussian_blur(-widen(-mask, 1), 1.0)
    edited = level + texture * core * (images - inside)
    soft = gaussian_blur(widen(mask, 2), 0.7)
    return images.lerp(edited, soft).clamp(0, 1)


def vary_tones(images: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """Give half of the images another global contrast, lower or higher, and another brightness.

    Args:
        images: ``(G, 1, H, W)`` in [0, 1].
        generator: draws which, and how much.
    """
    count = len(images)
    mean = images.mean((-2, -1), keepdim=True)
    gain = torch.exp(uniform(count, -0.5, 0.3, generator))
    varied = mean + uniform(count, -0.12, 0.12, generator) + gain * (images - mean)
    return torch.where(uniform(count, 0, 1, generator) < 0.5, varied, images).clamp(0, 1)


def distract(images: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """Add grain to a third of the images, and change global contrast or brightness of the others.

    Contrast and brightness go up or down: where only more contrast counted as less salient, a
    network that follows the words lowers the contrast of the whole picture, and people with it.

    Args:
        images: ``(G, 1, H, W)`` in [0, 1].
        generator: draws which, and how much.
    """
    count = len(images)

    def either(low: tuple[float, float], high: tuple[float, float]) -> torch.Tensor:
        return torch.where(
            uniform(count, 0, 1, generator) < 0.5,
            uniform(count, *low, generator),
            uniform(count, *high, generator),
        )

    grain = uniform(count, 0.03, 0.1, generator)
    noisy = images + grain * torch.randn(images.shape, generator=generator)
    mean = images.mean((-2, -1), keepdim=True)
    stretched = mean + either((0.35, 0.75), (1.25, 1.8)) * (images - mean)
    shifted = images + either((-0.3, -0.1), (0.1, 0.3))
    way = uniform(count, 0, 1, generator)
    return torch.where(way < 1 / 3, noisy, torch.where(way < 2 / 3, stretched, shifted)).clamp(0, 1)


def emphasize(images: torch.Tensor, mask: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """Make objects stand out, brighter or darker than their surroundings, by 0.2 to 0.5.

    Args:
        images: ``(G, 1, H, W)`` in [0, 1].
        mask: ``(G, 1, H, W)`` with 0 and 1.
        generator: draws polarity and contrast.
    """
    count = len(images)
    around = _mean_near(images, 1 - widen(mask, 2), WIDE)
    level = masked_mean(around, mask)[..., None, None]
    brighter = uniform(count, 0, 1, generator) < torch.where(level > 0.55, 0.2, 0.85)
    gap = uniform(count, 0.2, 0.5, generator) * torch.where(brighter, 1.0, -1.0)
    return set_contrast(images, mask, gap, uniform(count, 0.5, 1.0, generator))


def hide(images: torch.Tensor, mask: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """Give objects the level of their surroundings, with 20 to 90 percent of their texture.

    Args:
        images: ``(G, 1, H, W)`` in [0, 1].
        mask: ``(G, 1, H, W)`` with 0 and 1.
        generator: draws what remains.
    """
    count = len(images)
    gap = uniform(count, -0.02, 0.02, generator)
    return set_contrast(images, mask, gap, uniform(count, 0.2, 0.9, generator))
