"""Rules: classical fusion without training, to compare a network with.

Every rule is ``rule(infrared, visible) -> fused`` on luminance ``(B, 1, H, W)`` in [0, 1], batched,
on any device, differentiable almost everywhere. `RULES` lists them by name.
"""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F

from ldf_utils.networks.bounded import check_pair

Rule = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]


def average(infrared: torch.Tensor, visible: torch.Tensor) -> torch.Tensor:
    """Take the mean of both sources: what only one shows loses half its contrast, opposites cancel.

    Args:
        infrared: ``(B, 1, H, W)`` in [0, 1].
        visible: luminance of the same shape.

    Returns:
        ``(B, 1, H, W)`` in [0, 1].

    Raises:
        ValueError: for other shapes.

    Example:
        >>> average(torch.zeros(1, 1, 1, 1), torch.ones(1, 1, 1, 1)).item()
        0.5
    """
    check_pair(infrared, visible, smallest=1)
    return (infrared + visible) / 2


def maximum(infrared: torch.Tensor, visible: torch.Tensor) -> torch.Tensor:
    """Take the brighter source at every pixel: hot and lit things stay, dark detail is lost.

    Args, result and errors as `average`.
    """
    check_pair(infrared, visible, smallest=1)
    return torch.maximum(infrared, visible)


def _blur(image: torch.Tensor, taps: Sequence[float]) -> torch.Tensor:
    """Weighted mean along both axes; ``taps`` is odd and symmetric, the border reflected."""
    radius, total = len(taps) // 2, math.fsum(taps)
    for dim, pad in ((-2, (0, 0, radius, radius)), (-1, (radius, radius, 0, 0))):
        size, wide = image.shape[dim], F.pad(image, pad, mode="reflect")
        parts = [wide.narrow(dim, k, size) * (tap / total) for k, tap in enumerate(taps)]
        image = functools.reduce(torch.add, parts)
    return image


_BINOMIAL = (1, 4, 6, 4, 1)


def _expand(image: torch.Tensor, size: torch.Size) -> torch.Tensor:
    """Twice the size: zeros in between, then the blur at four times its weight."""
    spread = image.new_zeros(*image.shape[:2], *size)
    spread[..., ::2, ::2] = image
    return 4 * _blur(spread, _BINOMIAL)


def laplacian_pyramid(
    infrared: torch.Tensor, visible: torch.Tensor, levels: int = 4
) -> torch.Tensor:
    """Fuse Laplacian pyramids: per band the coefficient of larger magnitude, the mean base.

    Burt and Adelson, "The Laplacian pyramid as a compact image code" (1983),
    DOI 10.1109/TCOM.1983.1095851. Coefficients of equal magnitude are averaged, so the rule is
    symmetric.

    Args:
        infrared: ``(B, 1, H, W)`` in [0, 1], H and W at least 3, odd ones included.
        visible: luminance of the same shape.
        levels: detail bands; fewer are used where the base would have less than 3 pixels a side.

    Returns:
        ``(B, 1, H, W)`` in [0, 1] (clamped).

    Raises:
        ValueError: for other shapes, or ``levels`` below 1.
    """
    check_pair(infrared, visible, smallest=3)
    if levels < 1:
        raise ValueError(f"levels must be >= 1, got {levels}")
    gaussian = [torch.cat([infrared, visible])]
    while len(gaussian) <= levels and min(gaussian[-1].shape[-2:]) > 4:
        gaussian.append(_blur(gaussian[-1], _BINOMIAL)[..., ::2, ::2])
    fused = average(*gaussian[-1].chunk(2))
    for finer, coarser in reversed(list(itertools.pairwise(gaussian))):
        first, second = (finer - _expand(coarser, finer.shape[-2:])).chunk(2)
        difference = first.abs() - second.abs()
        detail = torch.where(difference > 0, first, second)
        detail = torch.where(difference == 0, (first + second) / 2, detail)
        fused = _expand(fused, finer.shape[-2:]) + detail
    return fused.clamp(0, 1)


def _box_mean(image: torch.Tensor, radius: int) -> torch.Tensor:
    """Mean over the square of side ``2 radius + 1``, cut off at the border; time without radius."""
    ones = torch.ones_like(image[:1])
    return _window_sum(image, radius) / _window_sum(ones, radius)


def _window_sum(image: torch.Tensor, radius: int) -> torch.Tensor:
    for dim, before, after in (
        (-2, (0, 0, radius + 1, 0), (0, 0, 0, radius)),
        (-1, (radius + 1, 0, 0, 0), (0, radius, 0, 0)),
    ):
        total = F.pad(F.pad(image.cumsum(dim), before), after, mode="replicate")
        size, side = image.shape[dim], 2 * radius + 1
        image = total.narrow(dim, side, size) - total.narrow(dim, 0, size)
    return image


def guided_smooth(
    image: torch.Tensor, guide: torch.Tensor, radius: int, epsilon: float
) -> torch.Tensor:
    """Smooth ``image`` by the guided filter, with the edges of ``guide``.

    In every window the result is a line ``a guide + b`` fitted to ``image``; ``epsilon`` punishes
    a steep one. K. He, J. Sun, X. Tang, "Guided image filtering" (2013),
    DOI 10.1109/TPAMI.2012.213.

    Args:
        image: ``(B, 1, H, W)``, float64 advised.
        guide: the same shape.
        radius: of the windows in pixels; they are cut off at the border.
        epsilon: against the variance of the guide, in its unit squared.

    Returns:
        ``(B, 1, H, W)``.
    """
    mean_image, mean_guide = _box_mean(image, radius), _box_mean(guide, radius)
    covariance = _box_mean(guide * image, radius) - mean_guide * mean_image
    variance = _box_mean(guide * guide, radius) - mean_guide * mean_guide
    a = covariance / (variance + epsilon)
    b = mean_image - a * mean_guide
    return _box_mean(a, radius) * guide + _box_mean(b, radius)


def guided_filter(infrared: torch.Tensor, visible: torch.Tensor) -> torch.Tensor:
    """Fuse by guided filters: two scales, saliency weights that follow the edges of their source.

    S. Li, X. Kang, J. Hu, "Image fusion with guided filtering" (2013),
    DOI 10.1109/TIP.2013.2244222, with its constants: base by a 31 x 31 mean; saliency
    as the magnitude of the Laplacian under a Gaussian of radius and deviation 5; the more salient
    source weighs 1 (ties: both), refined by the guided filter with radius 45 and epsilon 0.3 for
    the base and with 7 and 1e-6 for the detail. Where a refined weight is negative it is set to 0
    before the two are normalized.

    Args:
        infrared: ``(B, 1, H, W)`` in [0, 1], H and W at least 6.
        visible: luminance of the same shape.

    Returns:
        ``(B, 1, H, W)`` in [0, 1] (clamped); computed in float64, in the type of ``infrared``.

    Raises:
        ValueError: for other shapes.
    """
    check_pair(infrared, visible, smallest=6)
    sources = torch.stack([infrared, visible]).double()  # (2, B, 1, H, W)
    flat = sources.flatten(0, 1)
    wide = F.pad(flat, (1, 1, 1, 1), mode="reflect")
    neighbors = wide[..., :-2, 1:-1] + wide[..., 2:, 1:-1] + wide[..., 1:-1, :-2]
    response = (neighbors + wide[..., 1:-1, 2:] - 4 * flat).abs()
    saliency = _blur(response, [math.exp(-(k**2) / 50) for k in range(-5, 6)]).view_as(sources)
    winner = (saliency == saliency.amax(0)).double().flatten(0, 1)

    base = _box_mean(flat, 15)
    fused = torch.zeros_like(sources[0])
    for part, radius, epsilon in ((base, 45, 0.3), (flat - base, 7, 1e-6)):
        weight = guided_smooth(winner, flat, radius, epsilon).clamp(min=0).view_as(sources) + 1e-12
        fused = fused + (weight / weight.sum(0) * part.view_as(sources)).sum(0)
    return fused.clamp(0, 1).to(infrared.dtype)


RULES: dict[str, Rule] = {
    "average": average,
    "maximum": maximum,
    "laplacian_pyramid": laplacian_pyramid,
    "guided_filter": guided_filter,
}
"""The rules by name."""
