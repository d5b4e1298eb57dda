"""Structure that the fused picture keeps of its sources, in local windows."""

from __future__ import annotations

import piq
import torch

from ldf_utils.metrics.filters import gaussian, separable, strips
from ldf_utils.metrics.levels import Convention, check_convention, gray_levels

SSIM_SMALLEST = 7  # its window
_C1, _C2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2
MS_SSIM_SMALLEST = 161
_VIF_SCALES = 4
_VIF_NOISE = 2.0
_VIF_EPS = 1e-10
VIF_SMALLEST = 41


def _local_moments(
    triple: torch.Tensor, kernel: torch.Tensor, scale: float = 1.0, ceiling: float | None = None
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Local means, variances and covariances of fused, infrared and visible pictures.

    Args:
        triple: ``(B, 3, H, W)``, fused first.
        kernel: weights of the window along each direction.
        scale: factor to the weighted sums.
        ceiling: products of grey levels are cut to this, as 8-bit integers would.

    Returns:
        Means ``(B, 3, h, w)``, variances ``(B, 3, h, w)``, covariances of the fused picture with
        each source ``(B, 2, h, w)``.
    """
    products = torch.cat([triple.square(), triple[:, :1] * triple[:, 1:]], dim=1)
    if ceiling is not None:
        products = products.clamp_max(ceiling)
    sums = separable(torch.cat([triple, products], dim=1), kernel).double() * scale
    means, squares, mixed = sums.split([3, 3, 2], dim=1)
    return means, squares - means.square(), mixed - means[:, :1] * means[:, 1:]


def structural_similarity(
    fused: torch.Tensor,
    infrared: torch.Tensor,
    visible: torch.Tensor,
    *,
    convention: Convention = "standard",
    rounded: bool = True,
) -> torch.Tensor:
    """SSIM with both sources, summed: ``SSIM(F, IR) + SSIM(F, VI)``.

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
        kernel, scale, unbiased = gaussian(window, 1.5, triple), 1.0, 1.0
    else:
        # Sums of 49 products of whole levels are under 2^24: float32 holds them without loss.
        triple = triple.float() if rounded else triple
        kernel, scale = triple.new_ones(window), 1 / window**2
        unbiased = window**2 / (window**2 - 1)
    total = 0
    for strip in strips(triple, window):
        means, variances, covariances = _local_moments(strip, kernel, scale)
        luminance = (2 * means[:, :1] * means[:, 1:] + _C1) / (
            means[:, :1].square() + means[:, 1:].square() + _C1
        )
        contrast = (2 * unbiased * covariances + _C2) / (
            unbiased * (variances[:, :1] + variances[:, 1:]) + _C2
        )
        total = total + (luminance * contrast).sum(dim=(1, 2, 3))
    windows = (triple.shape[-2] - window + 1) * (triple.shape[-1] - window + 1)
    return total / windows


def multi_scale_structural_similarity(
    fused: torch.Tensor,
    infrared: torch.Tensor,
    visible: torch.Tensor,
    *,
    convention: Convention = "standard",
    rounded: bool = True,
) -> torch.Tensor:
    """MS-SSIM with both sources, summed: SSIM over five scales, each half the size of the last.

    Gaussian window 11 x 11 of sigma 1.5, data range 255, the weights 0.0448, 0.2856, 0.3001,
    0.2363, 0.1333 of the source; computed by piq. 0 to 2; higher counts as better; symmetric in
    the sources. Tables differ in sum or mean over the sources and, as for SSIM, in the data range.

    Args:
        fused: ``(B, 1, H, W)``, uint8 or in [0, 1], at least 161 x 161.
        infrared: the same.
        visible: the same.
        convention: the same value in all.
        rounded: see `gray_levels`.

    Returns:
        ``(B,)`` float64.

    Source: Wang, Simoncelli and Bovik, DOI 10.1109/ACSSC.2003.1292216.
    """
    check_convention(convention)
    fused, *sources = gray_levels(
        fused, infrared, visible, rounded=rounded, smallest=MS_SSIM_SMALLEST
    )
    return sum(
        piq.multi_scale_ssim(fused, source, data_range=255.0, reduction="none")
        for source in sources
    )


def visual_information_fidelity(
    fused: torch.Tensor,
    infrared: torch.Tensor,
    visible: torch.Tensor,
    *,
    convention: Convention = "standard",
    rounded: bool = True,
) -> torch.Tensor:
    """VIF, the share of each source's information that survives, ``VIF(F|IR) + VIF(F|VI)``.

    The pixel-domain form (VIFp): four scales with Gaussian windows of 17, 9, 5 and 3 pixels
    (sigma a fifth of that), visual noise 2.0, windows inside the picture only; the local gain and
    noise of the fused picture give ``sum log(1 + g^2 s^2 / (v + 2)) / sum log(1 + s^2 / 2)``.
    0 upwards, 2 for three equal pictures, above that where contrast was raised; higher counts as
    better; symmetric in the sources.

    Disagreement: ``"matlab-uint8"`` squares 8-bit integers at the first scale, where they
    saturate at 255 (0.6195 published, 0.5364 true for one picture). Some Python ports pad with
    zeros and put the kernel off centre (0.5355 instead of 0.5083 for another). What popular code
    calls "VIFF" is this VIF, not the VIFF of Han et al. A source without any structure has no
    information to lose: its term is 0.

    Args:
        fused: ``(B, 1, H, W)``, uint8 or in [0, 1], at least 41 x 41.
        infrared: the same.
        visible: the same.
        convention: one of `CONVENTIONS`.
        rounded: see `gray_levels`.

    Returns:
        ``(B,)`` float64.

    Source: Sheikh and Bovik, DOI 10.1109/TIP.2005.859378.
    """
    check_convention(convention)
    triple = torch.cat(
        gray_levels(fused, infrared, visible, rounded=rounded, smallest=VIF_SMALLEST), dim=1
    )
    kept, there = triple.new_zeros(len(triple), 2), triple.new_zeros(len(triple), 2)
    for scale in range(1, _VIF_SCALES + 1):
        window = 2 ** (_VIF_SCALES - scale + 1) + 1
        kernel = gaussian(window, window / 5, triple)
        if scale > 1:
            triple = separable(triple, kernel, stride=2)
        saturates = convention == "matlab-uint8" and scale == 1
        for strip in strips(triple, window):
            _, variances, covariances = _local_moments(
                strip, kernel, ceiling=255 if saturates else None
            )
            fused_variance, variances = variances[:, :1], variances[:, 1:]
            seen = (variances >= _VIF_EPS) & (fused_variance >= _VIF_EPS) & (covariances > 0)
            gain = covariances / (variances.clamp_min(0) + _VIF_EPS) * seen
            noise = (fused_variance - gain * covariances).clamp_min(_VIF_EPS) + _VIF_NOISE
            kept = kept + torch.log1p(gain.square() * variances / noise).sum(dim=(2, 3))
            there = there + torch.log1p(variances.clamp_min(0) / _VIF_NOISE).sum(dim=(2, 3))
    flat = there <= _VIF_EPS
    return (kept / there.masked_fill(flat, 1)).masked_fill(flat, 0).sum(dim=1)
