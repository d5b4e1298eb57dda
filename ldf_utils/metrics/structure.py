"""Structure that the fused picture keeps of its sources, in local windows."""

from __future__ import annotations

import torch
import torch.nn.functional as F

from ldf_utils.metrics.filters import gaussian, separable, strips
from ldf_utils.metrics.levels import Convention, check_convention, gray_levels

SSIM_SMALLEST = 7  # its window
_C1, _C2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2
_MS_SSIM_WEIGHTS = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)
MS_SSIM_SMALLEST = 161
_VIF_SCALES = 4
_VIF_NOISE = 2.0
_VIF_EPS = 1e-10
VIF_SMALLEST = 41


def _local_moments(
    triple: torch.Tensor, kernel: tuple[float, ...], ceiling: float | None = None
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Weighted sums of fused, infrared and visible pictures, and how far they vary together.

    Args:
        triple: ``(B, 3, H, W)``, fused first.
        kernel: weights of the window along each direction; a window's weights sum to its area A.
        ceiling: products of grey levels are cut to this, as 8-bit integers would.

    Returns:
        A times the local means ``(B, 3, h, w)``; A^2 times the variances ``(B, 3, h, w)`` and the
        covariances of the fused picture with each source ``(B, 2, h, w)``, all in float64. Of whole
        levels and weights of 1 they have no rounding error.
    """
    area = round(sum(kernel)) ** 2
    squares, mixed = triple.square(), triple[:, :1] * triple[:, 1:]
    if ceiling is not None:
        squares, mixed = squares.clamp_max(ceiling), mixed.clamp_max(ceiling)
    sums, squares, mixed = (separable(x, kernel).double() for x in (triple, squares, mixed))
    if area > 1:
        squares, mixed = area * squares, area * mixed
    return sums, squares - sums.square(), mixed - sums[:, :1] * sums[:, 1:]


def _similarity(
    triple: torch.Tensor, kernel: tuple[float, ...], *, unbiased: bool
) -> tuple[torch.Tensor, torch.Tensor]:
    """The two terms of SSIM of the fused picture with each source, ``(B, 2, h, w)`` each."""
    area = round(sum(kernel)) ** 2
    sums, variances, covariances = _local_moments(triple, kernel)
    # Numerators and denominators carry A^2, and where variances are unbiased A^2 (A - 1) / A.
    c1, c2 = _C1 * area**2, _C2 * area**2 * ((area - 1) / area if unbiased else 1)
    squares = sums.square()
    luminance = (2 * sums[:, :1] * sums[:, 1:] + c1) / (squares[:, :1] + squares[:, 1:] + c1)
    contrast = (2 * covariances + c2) / (variances[:, :1] + variances[:, 1:] + c2)
    return luminance, contrast


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
        kernel = gaussian(window, 1.5)
    else:
        # Sums of 49 products of whole levels are under 2^24: float32 holds them without loss.
        triple = triple.float() if rounded else triple
        kernel = (1.0,) * window
    total = 0
    for strip in strips(triple, window):
        luminance, contrast = _similarity(strip, kernel, unbiased=convention != "vifb")
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
    0.2363, 0.1333 of the source. Between scales pictures are halved by means of 2 x 2, after odd
    sides are lengthened by one at the top and left, as piq does; its dense windows give the same
    value in many times the time. 0 to 2; higher counts as better; symmetric in the sources.

    Disagreement: tables differ in sum or mean over the sources and, as for SSIM, in the data range.
    A scale where the sources and the fused picture vary against each other counts as 0.

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
    triple = torch.cat(
        gray_levels(fused, infrared, visible, rounded=rounded, smallest=MS_SSIM_SMALLEST), dim=1
    )
    kernel = gaussian(11, 1.5)
    product = 1
    for scale, weight in enumerate(_MS_SSIM_WEIGHTS):
        if scale > 0:
            odd = max(side % 2 for side in triple.shape[-2:])
            triple = F.avg_pool2d(F.pad(triple, (odd, 0, odd, 0), mode="replicate"), 2)
        total = count = 0
        for strip in strips(triple, len(kernel)):
            luminance, contrast = _similarity(strip, kernel, unbiased=False)
            coarsest = scale == len(_MS_SSIM_WEIGHTS) - 1
            total = total + (luminance * contrast if coarsest else contrast).sum(dim=(2, 3))
            count += contrast[0, 0].numel()
        product = product * torch.relu(total / count) ** weight
    return product.sum(dim=1)


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
        kernel = gaussian(window, window / 5)
        if scale > 1:
            triple = separable(triple, kernel, stride=2)
        saturates = convention == "matlab-uint8" and scale == 1
        for strip in strips(triple, window):
            _, variances, covariances = _local_moments(strip, kernel, 255 if saturates else None)
            fused_variance, variances = variances[:, :1], variances[:, 1:]
            seen = (variances >= _VIF_EPS) & (fused_variance >= _VIF_EPS) & (covariances > 0)
            variances = variances.clamp_min(0)
            gain = covariances / (variances + _VIF_EPS) * seen
            noise = (fused_variance - gain * covariances).clamp_min(_VIF_EPS) + _VIF_NOISE
            kept = kept + torch.log1p(gain.square() * variances / noise).sum(dim=(2, 3))
            there = there + torch.log1p(variances / _VIF_NOISE).sum(dim=(2, 3))
    flat = there <= _VIF_EPS
    return (kept / there.masked_fill(flat, 1)).masked_fill(flat, 0).sum(dim=1)
