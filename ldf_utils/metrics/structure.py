"""Structure that the fused picture keeps of its sources, in local windows."""

from __future__ import annotations

import torch
import torch.nn.functional as F

from ldf_utils.metrics.levels import gray_levels

_SSIM_WINDOW = 7
_C1, _C2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2


def _ssim(first: torch.Tensor, second: torch.Tensor) -> torch.Tensor:
    """Mean SSIM of two pictures, window 7 x 7 of equal weights, unbiased moments."""
    window, count = _SSIM_WINDOW, _SSIM_WINDOW**2
    # An offset common to both pictures keeps the squares small; the means get it back below.
    first, second = first - 128, second - 128
    stack = torch.cat([first, second, first * first, second * second, first * second], dim=1)
    means = F.avg_pool2d(F.avg_pool2d(stack, (1, window), 1), (window, 1), 1)
    mean1, mean2, square1, square2, product = means.unbind(dim=1)
    unbiased = count / (count - 1)
    variance1 = unbiased * (square1 - mean1 * mean1)
    variance2 = unbiased * (square2 - mean2 * mean2)
    covariance = unbiased * (product - mean1 * mean2)
    mean1, mean2 = mean1 + 128, mean2 + 128
    luminance = (2 * mean1 * mean2 + _C1) / (mean1.square() + mean2.square() + _C1)
    contrast = (2 * covariance + _C2) / (variance1 + variance2 + _C2)
    return (luminance * contrast).mean(dim=(1, 2))


def structural_similarity(
    fused: torch.Tensor,
    infrared: torch.Tensor,
    visible: torch.Tensor,
    *,
    rounded: bool = True,
) -> torch.Tensor:
    """SSIM with both sources, summed: ``SSIM(F, IR) + SSIM(F, VI)``.

    Window 7 x 7 of equal weights, unbiased variances, data range 255 (the constants are
    (0.01 * 255)^2 and (0.03 * 255)^2), windows inside the picture only. -2 to 2; higher counts
    as better; symmetric in the sources.

    Disagreement: float pictures without a data range make the constants that of a range 1 or 2
    (1.02 instead of 1.52 for one picture); a Gaussian window 11 gives 1.59 there; some tables
    give the mean over the sources, half of this.

    Args:
        fused: ``(B, 1, H, W)``, uint8 or in [0, 1], at least 7 x 7.
        infrared: the same.
        visible: the same.
        rounded: see `gray_levels`.

    Returns:
        ``(B,)`` float64.

    Source: Wang, Bovik, Sheikh and Simoncelli, DOI 10.1109/TIP.2003.819861.
    """
    fused, infrared, visible = gray_levels(
        fused, infrared, visible, rounded=rounded, smallest=_SSIM_WINDOW
    )
    return _ssim(fused, infrared) + _ssim(fused, visible)
