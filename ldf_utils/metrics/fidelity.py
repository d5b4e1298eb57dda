"""Fidelity to the sources, pixel by pixel: correlations and differences."""

from __future__ import annotations

import torch

from ldf_utils.metrics.levels import gray_levels


def _correlation(first: torch.Tensor, second: torch.Tensor) -> torch.Tensor:
    """Pearson correlation per batch element; 0 where a picture has no variation."""
    first, second = first.flatten(1), second.flatten(1)
    first = first - first.mean(dim=1, keepdim=True)
    second = second - second.mean(dim=1, keepdim=True)
    scale = (first.square().sum(dim=1) * second.square().sum(dim=1)).clamp_min(0)
    flat = scale == 0
    shared = (first * second).sum(dim=1) / scale.masked_fill(flat, 1).sqrt()
    return shared.masked_fill(flat, 0)


def sum_of_correlations_of_differences(
    fused: torch.Tensor,
    infrared: torch.Tensor,
    visible: torch.Tensor,
    *,
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
        rounded: see `gray_levels`.

    Returns:
        ``(B,)`` float64.

    Source: Aslantas and Bendes, DOI 10.1016/j.aeue.2015.09.004.
    """
    fused, infrared, visible = gray_levels(fused, infrared, visible, rounded=rounded)
    return _correlation(fused - visible, infrared) + _correlation(fused - infrared, visible)
