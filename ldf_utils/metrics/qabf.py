"""Edges: what the fused picture keeps of those of its sources, and which it invents."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
import torch.nn.functional as F

from ldf_utils.metrics.filters import magnitude, sobel, strips
from ldf_utils.metrics.levels import Convention, check_convention, gray_levels


def _sigmoid(value: torch.Tensor, top: float, slope: float, middle: float) -> torch.Tensor:
    return top * torch.sigmoid(slope * (value - middle))


def _edges(padded: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Strength and orientation of edges in float64; that of steps only up or down is one of two."""
    right, down = (step.double() for step in sobel(padded))
    still = right == 0
    angle = torch.atan(down / right.masked_fill(still, 1)).masked_fill(still, -math.pi / 2)
    return magnitude(right, down), angle


def edge_preservation(
    fused: torch.Tensor,
    infrared: torch.Tensor,
    visible: torch.Tensor,
    *,
    convention: Convention = "standard",
    rounded: bool = True,
) -> torch.Tensor:
    """Compute Qabf, the share of the sources' edges that the fused picture keeps.

    Sobel gradients; for each pixel and source the ratio of the weaker to the stronger gradient
    and the agreement of the orientations pass through sigmoids (0.9994, slope 15, middle 0.5;
    0.9879, slope 22, middle 0.8); their product is averaged over pixels and sources, weighted by
    the source's gradient. 0 to 0.987; higher counts as better; symmetric in the sources.

    Disagreement: where two gradients are equal, all known code puts the gradient itself in the
    place of the ratio. On gray levels 0..255 that passes for 1 and changes nothing; on [0, 1]
    floats (``"matlab-uint8"``) it is near 0 and depends on how equal rounding leaves the two, so
    published values are met to 1e-4 in the median and 3e-3 at worst. Zeros outside the picture make
    its frame an edge of the sources and of the fused picture alike, as in published code.

    Args:
        fused: ``(B, 1, H, W)``, uint8 or in [0, 1].
        infrared: the same.
        visible: the same.
        convention: one of `CONVENTIONS`.
        rounded: see `gray_levels`.

    Returns:
        ``(B,)`` float64. Sources without any edge: 0.

    Source: Xydeas and Petrovic, DOI 10.1049/el:20000267.
    """
    check_convention(convention)
    triple = torch.cat(gray_levels(fused, infrared, visible, rounded=rounded), dim=1)
    if convention == "matlab-uint8":
        triple = triple / 255
    elif rounded:
        triple = triple.float()  # steps between whole levels are whole: nothing is lost
    kept = total = triple.new_zeros(len(triple), dtype=torch.float64)
    for strip in strips(F.pad(triple, (1, 1, 1, 1)), 3):
        strength, angle = _edges(strip)
        own, source = strength[:, :1], strength[:, 1:]
        equal = source == own
        ratio = torch.minimum(source, own) / torch.maximum(source, own).masked_fill(equal, 1)
        ratio = torch.where(equal, own, ratio)
        disagreement = (angle[:, 1:] - angle[:, :1]).abs() * (2 / math.pi)
        # 22 (1 - disagreement - 0.8), as 1 - disagreement is the agreement.
        quality = torch.sigmoid(15 * ratio - 7.5) * torch.sigmoid(4.4 - 22 * disagreement)
        kept = kept + (quality * source).sum(dim=(1, 2, 3))
        total = total + source.sum(dim=(1, 2, 3))
    return 0.9994 * 0.9879 * kept / total.masked_fill(total == 0, 1)


def _mirrored_edges(padded: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Slope and orientation of edges; the orientation of no slope is 0."""
    right, down = (step / 8 for step in sobel(padded))
    level = down == 0
    angle = torch.atan(right / down.masked_fill(level, 1))
    angle = torch.where(level, right.sign() * (math.pi / 2), angle)
    return magnitude(right, down), angle


def _artifacts(
    triple: list[torch.Tensor], weigh: Callable[[torch.Tensor], torch.Tensor]
) -> torch.Tensor:
    """Compute the share of invented edges, weighted by the edges of the sources: ``(B,)``."""
    stacked = torch.cat(triple, dim=1)
    artifacts = total = stacked.new_zeros(len(stacked))
    for strip in strips(F.pad(stacked, (1, 1, 1, 1), mode="reflect"), 3):
        slope, angle = _mirrored_edges(strip)
        own, source = slope[:, :1], slope[:, 1:]
        invented = (own > source).all(dim=1, keepdim=True)
        stronger = torch.maximum(source, own)
        ratio = torch.minimum(source, own) / stronger.masked_fill(stronger == 0, 1)
        agreement = ((angle[:, 1:] - angle[:, :1]).abs() - math.pi / 2).abs() * (2 / math.pi)
        quality = (_sigmoid(ratio, 0.9999, 19, 0.5) * _sigmoid(agreement, 0.9995, 22, 0.5)).sqrt()
        weight = weigh(source)
        artifacts = artifacts + (invented * (1 - quality) * weight).sum(dim=(1, 2, 3))
        total = total + weight.sum(dim=(1, 2, 3))
    return artifacts / total


def fusion_artifacts(
    fused: torch.Tensor, infrared: torch.Tensor, visible: torch.Tensor
) -> torch.Tensor:
    """Compute Nabf, the share of edge information that fusion invents.

    Where the fused gradient passes those of both sources, ``1 - Q`` of each source counts,
    weighted by the source's gradient to the power 1.5 (0.001 where it is under 2 levels a
    pixel). Q is the root of the product of a sigmoid of the gradient ratio (0.9999, slope 19,
    middle 0.5) and one of the agreement of orientations (0.9995, slope 22, middle 0.5). 0 to 1;
    lower counts as better; symmetric in the sources.

    Disagreement: this is the form modified by Kumar, in which preserved, lost and invented
    information add up to 1; that of Petrovic counts each invented edge for both sources and is
    about twice as large. Some ports give the weak gradients the weight 0 in place of 0.001. Many
    tables hold `fusion_artifacts_unweighted` in its place, 10 to 3,000 times as large.

    Args:
        fused: ``(B, 1, H, W)``, uint8 or in [0, 1].
        infrared: the same.
        visible: the same.

    Returns:
        ``(B,)`` float64.

    Source: Shreyamsha Kumar, DOI 10.1007/s11760-012-0361-x.
    """
    return _artifacts(
        gray_levels(fused, infrared, visible),
        lambda slope: torch.where(slope >= 2, slope**1.5, 0.001),
    )


def fusion_artifacts_unweighted(
    fused: torch.Tensor, infrared: torch.Tensor, visible: torch.Tensor
) -> torch.Tensor:
    """Compute Nabf_unweighted, Nabf as tables have it: every place of a source counts alike.

    The weights of Nabf are meant for gray levels 0..255. The code that many tables were made with
    runs on pictures in [0, 1], where no gradient reaches 2 levels a pixel, so that each weight is
    0.001 and drops out: the value is the mean of ``1 - Q`` where the fused gradient passes those of
    both sources. 0 to 1; lower counts as better; symmetric in the sources.

    Two gradients that are equal but for the rounding of floating point pass each other or do not
    by chance there, and so they do here: published values are met to 3e-5 (0.002 on whole levels).

    Args:
        fused: ``(B, 1, H, W)``, uint8 or in [0, 1].
        infrared: the same.
        visible: the same.

    Returns:
        ``(B,)`` float64.

    Source: Shreyamsha Kumar, DOI 10.1007/s11760-012-0361-x, run on [0, 1].
    """
    triple = [levels / 255 for levels in gray_levels(fused, infrared, visible)]
    return _artifacts(triple, torch.ones_like)
