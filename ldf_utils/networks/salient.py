"""The bounded network without halos, and with the right to lift what stands out."""

from __future__ import annotations

import itertools
import math

import torch
import torch.nn.functional as F
from torch import nn

from ldf_utils.networks.bounded import (
    Adjust,
    BoundedFusionNetwork,
    _as_they_are,
    _box,
    _enlarge,
    _halve,
    _limit,
    _mix,
    _pad_to_multiple,
    _stretch,
    check_pair,
    soft_clip,
)

RARE = 2.0
"""Deviations from the mean of the surroundings at which a gate is half open."""
_SOFT = 0.25  # width of a gate, in deviations
_FLOOR = 0.03  # deviation below which surroundings count as flat
_WINDOWS = ((4, 3), (5, 3), (5, 5))  # (times halved, side there): 48, 96 and 160 pixels
_STEEP = 5.0  # the logit of the share of the infrared base, for each unit of difference


def _mean(image: torch.Tensor, side: int) -> torch.Tensor:
    """Mean over a square of odd side, the border repeated; one axis after the other."""
    margin = side // 2
    image = F.avg_pool2d(
        F.pad(image, (margin, margin, 0, 0), mode="replicate"), (1, side), stride=1
    )
    return F.avg_pool2d(F.pad(image, (0, 0, margin, margin), mode="replicate"), (side, 1), stride=1)


def smooth_keep_edges(
    image: torch.Tensor, radius: int = 2, noise: float = 0.05, coarse: int = 1
) -> torch.Tensor:
    """Smooth flat places and keep edges: the guided filter of an image by itself.

    ``y = mean(a) x + mean((1 - a) mean(x))`` with ``a = var(x) / (var(x) + noise^2)`` over windows
    (He, Sun and Tang 2013, DOI 10.1109/TPAMI.2012.213).

    Args:
        image: ``(B, C, H, W)``.
        radius: of the windows, in pixels of the size that a is computed at.
        noise: standard deviation below which a window is averaged.
        coarse: a is computed at the size divided by this (He and Sun 2015, arXiv:1505.00996).

    Returns:
        The shape of ``image``.

    Example:
        >>> step = torch.zeros(1, 1, 8, 32); step[..., 16:] = 1
        >>> (smooth_keep_edges(step) - step).abs().max() < 0.01
        tensor(True)
    """
    side = 2 * radius + 1
    small = F.avg_pool2d(image, coarse) if coarse > 1 else image
    mean = _mean(small, side)
    variance = (_mean(small.square(), side) - mean.square()).clamp(min=0)
    share = variance / (variance + noise**2)
    slope, offset = _mean(share, side), _mean((1 - share) * mean, side)
    if coarse > 1:
        slope, offset = _enlarge(slope, coarse), _enlarge(offset, coarse)
    return slope * image + offset


def follow_edges(
    coefficients: torch.Tensor, guide: torch.Tensor, noise: float = 0.05
) -> torch.Tensor:
    """Enlarge a coarse map so that it has the edges of a guide: the fast guided filter.

    Args:
        coefficients: ``(B, 1, h, w)``.
        guide: ``(B, 1, H, W)``, H and W multiples of h and w.
        noise: standard deviation of the guide below which the map is averaged.

    Returns:
        ``(B, 1, H, W)``: ``a guide + b`` with the a and b that fit the map best in each window of
        three coarse pixels (arXiv:1505.00996).
    """
    factor = guide.shape[-1] // coefficients.shape[-1]
    small = F.avg_pool2d(guide, factor)
    stack = torch.cat([small, coefficients, small * coefficients, small.square()], 1)
    mean, wanted, product, square = _mean(stack, 3).split(1, dim=1)
    slope = (product - mean * wanted) / ((square - mean.square()).clamp(min=0) + noise**2)
    both = _enlarge(_mean(torch.cat([slope, wanted - slope * mean], 1), 3), factor)
    return both[:, :1] * guide + both[:, 1:]


def deviations(infrared: torch.Tensor) -> torch.Tensor:
    """Compute how far each pixel is from its surroundings, in their standard deviations.

    ``z_s = (y - m_s) / sqrt(v_s + floor^2)`` with y the infrared image smoothed by
    `smooth_keep_edges`, and m_s and v_s mean and variance in windows of 48, 96 and 160 pixels;
    of the three, the one farthest from 0.

    A pixel of a region that fills the share p of the window, before flat surroundings, has
    ``z = sqrt((1 - p) / p)``: large where the region is small, and at most 1 where p >= 1/2, as it
    is on either side of a straight edge. So a threshold above 1 finds small warm (z > 0) and cold
    (z < 0) objects, and nothing beside the edge between two large areas.

    Args:
        infrared: ``(B, 1, H, W)``, sides multiples of 32.

    Returns:
        The same shape.
    """
    levels = [torch.cat([infrared, infrared.square()], 1)]
    for _ in range(5):
        levels.append(_halve(levels[-1]))
    smooth = smooth_keep_edges(infrared)
    found = torch.zeros_like(infrared)
    for times, side in _WINDOWS:
        mean, square = _mean(levels[times], side).split(1, dim=1)
        spread = ((square - mean.square()).clamp(min=0) + _FLOOR**2).sqrt()
        z = (smooth - _enlarge(mean, 2**times)) / _enlarge(spread, 2**times)
        found = torch.where(z.abs() > found.abs(), z, found)
    return found


class SalientFusionNetwork(BoundedFusionNetwork):
    """The bounded network without halos, which may lift what stands out in the infrared image.

    Two things differ from `BoundedFusionNetwork`, whose U-Net and heads it has.

    **Edges.** There, the sources are split into a Laplacian pyramid. A strong edge is then in all
    bands, and where the share of the infrared detail is not that of its base, the edge overshoots:
    beside a step of 0.6 in one source, by 0.09 above and 0.18 below. Here a filter that keeps
    edges splits them (`smooth_keep_edges` with radii of 2, 4 and 8 pixels), so the edges are in
    the base, and the shares of the base follow the edges of both sources:

        base   = w b_ir + (1 - w) b_vi        w = sigmoid(5 (b_ir - b_vi) + map)
        fused  = tone(base) + sum over bands of stretch(s d_ir + (1 - s) d_vi, amount) + offset

    with the maps of `BoundedFusionNetwork`.

    **Offset.** A person of 0.9 before a wall of 0.85 stays so: no mixture of the two has contrast.

        offset = lift_warm g_warm + lift_cold g_cold + ground presence (1 - g_warm - g_cold)

    - ``g_warm = sigmoid((z - 2) / 0.25)`` and ``g_cold = sigmoid((-z - 2) / 0.25)`` are gates:
      where the infrared image is much warmer or colder than its surroundings, see `deviations`.
      They have its outlines, and are closed on both sides of an edge between two flat areas. In a
      white-hot image people are in the first, in a black-hot one in the second;
    - ``lift_warm`` and ``lift_cold`` in (-max_lift, max_lift) have a sign of the network's choice:
      brighter, or darker where there is no room above;
    - ``ground`` in (-max_lift / 2, max_lift / 2) darkens (or brightens) what is around an object:
      ``presence`` is the mean of the gates over about 80 pixels, times 6 and limited to 1, and
      fades out as slowly.

    The three maps are predicted at a sixteenth of the size, too coarse to draw outlines. Flat
    sources stay flat, and no texture is invented, whatever the weights are.

    Args:
        width: as in `BoundedFusionNetwork`.
        max_gain: as in `BoundedFusionNetwork`.
        max_lift: largest offset, in (0, 1/2].

    Raises:
        ValueError: for a value out of its range.
    """

    def __init__(self, width: int = 16, max_gain: float = 3.0, max_lift: float = 0.4):
        super().__init__(width, max_gain)
        if not 0 < max_lift <= 0.5:
            raise ValueError(f"expected max_lift in (0, 0.5], found {max_lift}")
        self.arguments["max_lift"] = max_lift
        self.max_lift = max_lift
        self.lift_head = nn.Conv2d(4 * width, 3, 1)
        nn.init.normal_(self.lift_head.weight, std=0.01)
        assert self.lift_head.bias is not None
        nn.init.zeros_(self.lift_head.bias)

    def maps(self, infrared: torch.Tensor, visible: torch.Tensor) -> dict[str, torch.Tensor]:
        """Every map the fused image is made with, at the size of the image.

        Args:
            infrared: as in `forward`.
            visible: as in `forward`.

        Returns:
            Those of `BoundedFusionNetwork.maps`, and ``warm`` and ``cold`` (gates, in (0, 1)),
            ``lift_warm`` and ``lift_cold`` (in (-max_lift, max_lift)), and ``ground`` (what is
            added around an object, within half of that).

        Raises:
            ValueError: as `forward`.
        """
        return super().maps(infrared, visible)

    def _run(
        self, infrared: torch.Tensor, visible: torch.Tensor, adjust: Adjust = _as_they_are
    ) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        check_pair(infrared, visible)
        height, width = infrared.shape[-2:]
        pair = _pad_to_multiple(torch.cat([infrared, visible], 1), self.multiple)
        half, quarter, eighth, sixteenth = self._features(pair, adjust)

        levels = [pair, smooth_keep_edges(pair)]
        levels.append(smooth_keep_edges(levels[-1], radius=4))
        levels.append(smooth_keep_edges(levels[-1], radius=4, coarse=2))
        bases = levels[-1]
        moved = follow_edges(_limit(self.weight_head(eighth)), bases[:, :1])
        preference = _limit(moved) + _STEEP * (bases[:, :1] - bases[:, 1:])
        maps = {"weight": torch.sigmoid(preference)}
        base = _mix(bases, maps["weight"])
        wide = F.avg_pool2d(base, 32)
        level = _enlarge(_mean(_mean(wide, 3), 3), 32)
        tone = F.avg_pool2d(torch.tanh(self.tone_head(sixteenth)), 2)
        contrast, brightness = _enlarge(_mean(tone, 3), 32).split(1, dim=1)
        maps["contrast"], maps["brightness"] = torch.exp2(contrast), 0.25 * brightness
        fused = level + maps["brightness"] + _stretch(base - level, maps["contrast"], scale=0.25)

        start = math.log(1 / (self.max_gain - 1))  # the sigmoid is 1 / max_gain there
        heads = [head(x) for head, x in zip(self.band_heads, (half, half, quarter), strict=True)]
        for index, (upper, lower) in enumerate(itertools.pairwise(levels)):
            band, detail = self.bands[index], upper - lower
            energy = detail.square()
            for _ in range(index + 1):
                energy = _halve(energy)
            energy = _enlarge(energy, 2 ** (index + 1)) + 1e-4
            stronger = energy[:, :1].log() - energy[:, 1:].log()
            moved, gain = _enlarge(heads[index], 4 if index == 2 else 2).split(1, dim=1)
            share = torch.sigmoid(_limit(moved) + stronger + 0.5 * preference)
            amount = self.max_gain * torch.sigmoid(gain + start)
            fused = fused + _stretch(_mix(detail, share), amount, scale=0.1)
            maps[f"infrared_gain_{band}"] = share * amount
            maps[f"visible_gain_{band}"] = (1 - share) * amount

        offset, more = self._offset(pair[:, :1], sixteenth)
        return soft_clip(fused + offset)[..., :height, :width], maps | more

    def _offset(
        self, infrared: torch.Tensor, sixteenth: torch.Tensor
    ) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        """Return what is added for objects that stand out, and its maps."""
        z = deviations(infrared)
        warm, cold = torch.sigmoid((z - RARE) / _SOFT), torch.sigmoid((-z - RARE) / _SOFT)
        both = warm + cold
        presence = (6 * _box(F.avg_pool2d(both, 16), 3)).clamp(max=1)
        presence = _enlarge(_box(presence, 3), 16)
        lifts = self.max_lift * torch.tanh(_enlarge(_box(self.lift_head(sixteenth), 3), 16))
        lift_warm, lift_cold, ground = lifts.split(1, dim=1)
        ground = ground / 2 * presence * (1 - both).clamp(min=0)
        return lift_warm * warm + lift_cold * cold + ground, {
            "warm": warm,
            "cold": cold,
            "lift_warm": lift_warm,
            "lift_cold": lift_cold,
            "ground": ground,
        }
