"""Fidelity to the sources, pixel by pixel: correlations and differences."""

from __future__ import annotations

import torch

from ldf_utils.metrics.levels import Convention, check_convention, gray_levels

# A share of the variances of two pictures under which that of their difference is rounding. One
# pixel of ten million that differs by one level is a hundred times as much.
_ROUNDING = 1e-13


def _covariances(*images: torch.Tensor) -> torch.Tensor:
    """``(B, K, K)``: H W times the covariance of each two of K pictures ``(B, 1, H, W)``."""
    rows = torch.cat(images, dim=1).flatten(2)
    rows = rows - rows.mean(dim=2, keepdim=True)
    return rows @ rows.mT


def _ratio(covariance: torch.Tensor, variances: torch.Tensor, flat: torch.Tensor) -> torch.Tensor:
    """Pearson correlation, given the product of the variances; 0 where one has no variation."""
    return (covariance / variances.masked_fill(flat, 1).sqrt()).masked_fill(flat, 0)


def sum_of_correlations_of_differences(
    fused: torch.Tensor,
    infrared: torch.Tensor,
    visible: torch.Tensor,
    *,
    convention: Convention = "standard",
    rounded: bool = True,
) -> torch.Tensor:
    """SCD, ``r(F - VI, IR) + r(F - IR, VI)`` with Pearson's correlation r.

    What remains after one source is taken out should look like the other. -2 to 2; higher counts
    as better; symmetric in the sources. Implementations agree. Where a difference has no
    variation (a copy of a source) its correlation is undefined and counts as 0 here.

    Args:
        fused: ``(B, 1, H, W)``, uint8 or in [0, 1].
        infrared: the same.
        visible: the same.
        convention: the same value in all.
        rounded: see `gray_levels`.

    Returns:
        ``(B,)`` float64.

    Source: Aslantas and Bendes, DOI 10.1016/j.aeue.2015.09.004.
    """
    check_convention(convention)
    between = _covariances(*gray_levels(fused, infrared, visible, rounded=rounded))
    total = 0
    for source, other in ((1, 2), (2, 1)):
        both = between[:, 0, 0] + between[:, other, other]
        difference = both - 2 * between[:, 0, other]
        flat = (difference <= _ROUNDING * both) | (between[:, source, source] == 0)
        total = total + _ratio(
            between[:, 0, source] - between[:, other, source],
            difference * between[:, source, source],
            flat,
        )
    return total


def correlation_coefficient(
    fused: torch.Tensor,
    infrared: torch.Tensor,
    visible: torch.Tensor,
    *,
    convention: Convention = "standard",
    rounded: bool = True,
) -> torch.Tensor:
    """CC, the mean of Pearson's correlation with each source, ``(r(F, IR) + r(F, VI)) / 2``.

    -1 to 1; higher counts as better; symmetric in the sources, unchanged by contrast and offset.
    Averaging the sources nearly maximizes it. Some tables give the sum, twice this. The
    correlation with a flat picture is undefined and counts as 0 here.

    Args:
        fused: ``(B, 1, H, W)``, uint8 or in [0, 1].
        infrared: the same.
        visible: the same.
        convention: the same value in all.
        rounded: see `gray_levels`.

    Returns:
        ``(B,)`` float64.

    Source: as in Ma, Ma and Li, DOI 10.1016/j.inffus.2018.02.004.
    """
    check_convention(convention)
    between = _covariances(*gray_levels(fused, infrared, visible, rounded=rounded))
    variances = between.diagonal(dim1=1, dim2=2)
    products = variances[:, :1] * variances[:, 1:]
    return _ratio(between[:, 0, 1:], products, products == 0).mean(dim=1)


def mean_squared_error(
    fused: torch.Tensor,
    infrared: torch.Tensor,
    visible: torch.Tensor,
    *,
    convention: Convention = "standard",
    rounded: bool = True,
) -> torch.Tensor:
    """MSE, the mean of the squared differences to each source, of pictures in [0, 1].

    ``(mean((F - IR)^2) + mean((F - VI)^2)) / 2``: 0 to 1; lower counts as better; averaging the
    sources minimizes it. Tables on grey levels 0..255 are 65025 times larger.

    Args:
        fused: ``(B, 1, H, W)``, uint8 or in [0, 1].
        infrared: the same.
        visible: the same.
        convention: the same value in all.
        rounded: see `gray_levels`.

    Returns:
        ``(B,)`` float64 on the scale of [0, 1].

    Source: as in Ma, Ma and Li, DOI 10.1016/j.inffus.2018.02.004.
    """
    check_convention(convention)
    fused, infrared, visible = gray_levels(fused, infrared, visible, rounded=rounded)
    squares = (fused - infrared).square() + (fused - visible).square()
    return squares.mean(dim=(1, 2, 3)) / (2 * 255**2)


def peak_signal_to_noise_ratio(
    fused: torch.Tensor,
    infrared: torch.Tensor,
    visible: torch.Tensor,
    *,
    convention: Convention = "standard",
    rounded: bool = True,
) -> torch.Tensor:
    """PSNR against both sources, ``10 log10(1 / MSE)`` of the mean squared error to both.

    0 dB upwards, infinite for three equal pictures; higher counts as better. A decreasing
    function of `mean_squared_error`, so it ranks a single picture as that does.

    Disagreement: ``"matlab-uint8"`` takes the error on [0, 1] and the peak 255,
    20 log10(255) = 48.13 dB too much ("60 dB" tables). ``"vifb"`` uses ``sqrt(sum of
    squares) / (H W)`` on grey levels in the place of the mean square, whose value depends on the
    size of the picture.

    Args:
        fused: ``(B, 1, H, W)``, uint8 or in [0, 1].
        infrared: the same.
        visible: the same.
        convention: one of `CONVENTIONS`.
        rounded: see `gray_levels`.

    Returns:
        ``(B,)`` float64 in decibels.

    Source: as in Jagalingam and Hegde, DOI 10.1016/j.aqpro.2015.02.019.
    """
    check_convention(convention)
    fused, infrared, visible = gray_levels(fused, infrared, visible, rounded=rounded)
    errors = torch.stack(
        [(fused - source).square().sum(dim=(1, 2, 3)) for source in (infrared, visible)]
    )
    if convention == "vifb":
        errors = errors.sqrt()
    error = errors.mean(dim=0) / fused[0].numel()
    if convention == "matlab-uint8":
        error = error / 255**2
    return 10 * torch.log10(255**2 / error)
