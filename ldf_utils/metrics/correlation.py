"""Correlation with the sources, pixel by pixel: SCD and CC."""

from __future__ import annotations

import torch

from ldf_utils.metrics.levels import gray_levels

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
    rounded: bool = True,
) -> torch.Tensor:
    """Compute SCD, ``r(F - VI, IR) + r(F - IR, VI)`` with Pearson's correlation r.

    What remains after one source is taken out should look like the other. -2 to 2; higher counts
    as better; symmetric in the sources. Implementations agree. Where a difference has no
    variation (a copy of a source) its correlation is undefined and counts as 0 here.

    Args:
        fused: ``(B, 1, H, W)``, uint8 or in [0, 1].
        infrared: the same.
        visible: the same.
        rounded: see `gray_levels`.

    Returns:
        ``(B,)`` float64.

    Source: Aslantas and Bendes, DOI 10.1016/j.aeue.2015.09.004.
    """
    between = _covariances(*gray_levels(fused, infrared, visible, rounded=rounded))
    total = between.new_zeros(len(between))
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
    rounded: bool = True,
) -> torch.Tensor:
    """Compute CC, Pearson's correlation with each source, mean: ``(r(F, IR) + r(F, VI)) / 2``.

    -1 to 1; higher counts as better; symmetric in the sources, unchanged by contrast and offset.
    Averaging the sources nearly maximizes it. Some tables give the sum, twice this. The
    correlation with a flat picture is undefined and counts as 0 here.

    Args:
        fused: ``(B, 1, H, W)``, uint8 or in [0, 1].
        infrared: the same.
        visible: the same.
        rounded: see `gray_levels`.

    Returns:
        ``(B,)`` float64.

    Source: as in Ma, Ma and Li, DOI 10.1016/j.inffus.2018.02.004.
    """
    between = _covariances(*gray_levels(fused, infrared, visible, rounded=rounded))
    variances = between.diagonal(dim1=1, dim2=2)
    products = variances[:, :1] * variances[:, 1:]
    return _ratio(between[:, 0, 1:], products, products == 0).mean(dim=1)
