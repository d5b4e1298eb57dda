"""Structural similarity to the sources: SSIM, over several scales, and as MATLAB tables have it."""

from __future__ import annotations

import torch
import torch.nn.functional as F

from ldf_utils.metrics.filters import gaussian, local_moments, strips
from ldf_utils.metrics.levels import Convention, check_convention, gray_levels

SSIM_SMALLEST = 7  # its window
_C1, _C2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2
_MS_SSIM_WEIGHTS = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)
MS_SSIM_SMALLEST = 161


def _similarity(
    triple: torch.Tensor, kernel: tuple[float, ...], *, unbiased: bool
) -> tuple[torch.Tensor, torch.Tensor]:
    """Compute both terms of SSIM of the fused picture with each source, each ``(B, 2, h, w)``."""
    area = round(sum(kernel)) ** 2
    sums, variances, covariances = local_moments(triple, kernel)
    # Numerators and denominators carry A^2, and where variances are unbiased A^2 (A - 1) / A.
    c1, c2 = _C1 * area**2, _C2 * area**2 * ((area - 1) / area if unbiased else 1)
    squares = sums.square()
    luminance = (2 * sums[:, :1] * sums[:, 1:] + c1) / (squares[:, :1] + squares[:, 1:] + c1)
    contrast = (2 * covariances + c2) / (variances[:, :1] + variances[:, 1:] + c2)
    return luminance, contrast


def _summed_similarity(
    triple: torch.Tensor, kernel: tuple[float, ...], *, unbiased: bool
) -> torch.Tensor:
    """Compute the mean SSIM over all windows in the pictures, summed over the sources, ``(B,)``."""
    window = len(kernel)
    total = triple.new_zeros(len(triple), dtype=torch.float64)
    for strip in strips(triple, window):
        luminance, contrast = _similarity(strip, kernel, unbiased=unbiased)
        total = total + (luminance * contrast).sum(dim=(1, 2, 3))
    return total / ((triple.shape[-2] - window + 1) * (triple.shape[-1] - window + 1))


def structural_similarity(
    fused: torch.Tensor,
    infrared: torch.Tensor,
    visible: torch.Tensor,
    *,
    convention: Convention = "standard",
    rounded: bool = True,
) -> torch.Tensor:
    """Compute SSIM with both sources, summed: ``SSIM(F, IR) + SSIM(F, VI)``.

    Window 7 x 7 of equal weights, unbiased variances, data range 255 (the constants are
    (0.01 * 255)^2 and (0.03 * 255)^2), windows inside the picture only. -2 to 2; higher counts
    as better; symmetric in the sources.

    Disagreement: float pictures without a data range make the constants those of a range 1 or 2
    (1.02 instead of 1.52 for one picture); ``"vifb"`` and the first authors' code use a Gaussian
    window 11 x 11 of sigma 1.5 and biased variances (1.59 for that picture); some tables give
    the mean over the sources, half of this.

    Args:
        fused: ``(B, 1, H, W)``, uint8 or in [0, 1], at least 7 x 7 (11 x 11 for ``"vifb"``).
        infrared: the same.
        visible: the same.
        convention: one of `CONVENTIONS`.
        rounded: see `gray_levels`.

    Returns:
        ``(B,)`` float64.

    Source: Wang, Bovik, Sheikh and Simoncelli, DOI 10.1109/TIP.2003.819861.
    """
    check_convention(convention)
    window = 11 if convention == "vifb" else SSIM_SMALLEST
    triple = torch.cat(
        gray_levels(fused, infrared, visible, rounded=rounded, smallest=window), dim=1
    )
    if convention == "vifb":
        kernel = gaussian(window, 1.5)
    else:
        # Sums of 49 products of whole levels are under 2^24: float32 holds them without loss.
        triple = triple.float() if rounded else triple
        kernel = (1.0,) * window
    return _summed_similarity(triple, kernel, unbiased=convention != "vifb")


def structural_similarity_matlab(
    fused: torch.Tensor,
    infrared: torch.Tensor,
    visible: torch.Tensor,
    *,
    rounded: bool = True,
) -> torch.Tensor:
    """Compute SSIMa, MATLAB's ssim, averaged over both sources.

    Gaussian window 11 x 11 of sigma 1.5, biased variances, data range 255, and one window for
    each pixel of the picture, whose border is replicated. -1 to 1; higher counts as better;
    symmetric in the sources.

    Disagreement: `structural_similarity` is the sum over the sources, with a window of 7 x 7 and
    inside the picture only. Leaving out the border changes this one by up to 0.009.

    Args:
        fused: ``(B, 1, H, W)``, uint8 or in [0, 1].
        infrared: the same.
        visible: the same.
        rounded: see `gray_levels`.

    Returns:
        ``(B,)`` float64.

    Source: Wang, Bovik, Sheikh and Simoncelli, DOI 10.1109/TIP.2003.819861.
    """
    triple = torch.cat(gray_levels(fused, infrared, visible, rounded=rounded), dim=1)
    padded = F.pad(triple, (5, 5, 5, 5), mode="replicate")
    return _summed_similarity(padded, gaussian(11, 1.5), unbiased=False) / 2


def multi_scale_structural_similarity(
    fused: torch.Tensor,
    infrared: torch.Tensor,
    visible: torch.Tensor,
    *,
    rounded: bool = True,
) -> torch.Tensor:
    """Compute MS-SSIM with both sources, summed: over five scales, each half the last.

    Gaussian window 11 x 11 of sigma 1.5, data range 255, the weights 0.0448, 0.2856, 0.3001,
    0.2363, 0.1333 of the source. Between scales pictures are halved by means of 2 x 2, after odd
    sides are lengthened by one at the top and left, as piq does; its dense windows give the same
    value in many times the time. 0 to 2; higher counts as better; symmetric in the sources.

    Disagreement: tables differ in sum or mean over the sources and, as for SSIM, in the data range.
    A scale where the sources and the fused picture vary against each other counts as 0.

    Args:
        fused: ``(B, 1, H, W)``, uint8 or in [0, 1], at least 161 x 161.
        infrared: the same.
        visible: the same.
        rounded: see `gray_levels`.

    Returns:
        ``(B,)`` float64.

    Source: Wang, Simoncelli and Bovik, DOI 10.1109/ACSSC.2003.1292216.
    """
    triple = torch.cat(
        gray_levels(fused, infrared, visible, rounded=rounded, smallest=MS_SSIM_SMALLEST), dim=1
    )
    kernel = gaussian(11, 1.5)
    product = triple.new_ones(len(triple), 2)
    for scale, weight in enumerate(_MS_SSIM_WEIGHTS):
        if scale > 0:
            odd = max(side % 2 for side in triple.shape[-2:])
            triple = F.avg_pool2d(F.pad(triple, (odd, 0, odd, 0), mode="replicate"), 2)
        total, count = torch.zeros_like(product), 0
        for strip in strips(triple, len(kernel)):
            luminance, contrast = _similarity(strip, kernel, unbiased=False)
            coarsest = scale == len(_MS_SSIM_WEIGHTS) - 1
            total = total + (luminance * contrast if coarsest else contrast).sum(dim=(2, 3))
            count += contrast[0, 0].numel()
        product = product * torch.relu(total / count) ** weight
    return product.sum(dim=1)
