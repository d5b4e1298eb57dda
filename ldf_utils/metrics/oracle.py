"""Scores against the truth, where a renderer knows it: the oracle fusion and what is warm.

On real pairs nobody knows the right fusion. Of the rendered pairs (`ldf_utils.data.truth`) it is
known, and with it four things can be asked of a fused picture that no metric without a reference
can ask: how far is it from the oracle, in levels (PSNR) and in structure (SSIM); which share of the
warm objects stands out; which share of the background's texture is kept. Here only the truth gives
credit: detail that the oracle has not, be it noise, gives none.
"""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from scipy import ndimage

from ldf_utils.data.blur import gaussian_blur
from ldf_utils.metrics.filters import gaussian, separable
from ldf_utils.metrics.levels import gray_levels
from ldf_utils.metrics.ssim import structural_similarity

WARM_SMALLEST = 30  # pixels of a warm object that counts
_RING = 6  # width of the surroundings of an object in pixels
_SEEN = 10.0  # levels by which an object stands out in the oracle, to count
_ENOUGH = 0.5  # of what it stands out in the oracle
_BLOCK = 8  # side of the blocks in which texture is compared
_SMOOTH = gaussian(5, 1.0)  # against the noise of single pixels
TEXTURE_SMALLEST = _BLOCK + len(_SMOOTH)


def psnr_to_oracle(
    fused: torch.Tensor,
    oracle: torch.Tensor,
    salient: torch.Tensor | None = None,
    *,
    rounded: bool = True,
) -> torch.Tensor:
    """Compute PSNR_oracle, the PSNR against the oracle, ``10 log10(255^2 / MSE)``.

    0 dB upwards, infinite for the oracle itself; higher is better.

    Args:
        fused: ``(B, 1, H, W)``, uint8 or in [0, 1].
        oracle: the same, the true fusion.
        salient: not used.
        rounded: see `gray_levels`.

    Returns:
        ``(B,)`` float64 in decibels.

    Raises:
        ValueError: as `gray_levels`.

    Source: as in Wang, Bovik, Sheikh and Simoncelli, DOI 10.1109/TIP.2003.819861.
    """
    fused, oracle = gray_levels(fused, oracle, rounded=rounded)
    return 10 * torch.log10(255**2 / (fused - oracle).square().mean(dim=(1, 2, 3)))


def ssim_to_oracle(
    fused: torch.Tensor, oracle: torch.Tensor, salient: torch.Tensor | None = None
) -> torch.Tensor:
    """Compute SSIM_oracle, structural similarity to the oracle, as in `structural_similarity`.

    -1 to 1, which is the oracle itself; higher is better.

    Args:
        fused: ``(B, 1, H, W)``, uint8 or in [0, 1], at least 7 x 7.
        oracle: the same, the true fusion.
        salient: not used.

    Returns:
        ``(B,)`` float64.

    Raises:
        ValueError: as `gray_levels`.

    Source: Wang, Bovik, Sheikh and Simoncelli, DOI 10.1109/TIP.2003.819861.
    """
    return structural_similarity(fused, oracle, oracle) / 2


def warm_objects(salient: torch.Tensor) -> list[torch.Tensor]:
    """Find the warm objects of one scene: connected places where the salient map passes one half.

    Args:
        salient: ``(1, H, W)``, uint8 or in [0, 1].

    Returns:
        A mask ``(1, H, W)`` bool for each object of at least `WARM_SMALLEST` pixels; neighbors
        along an edge or a corner belong together, so objects that touch are one.
    """
    hot = gray_levels(salient[None])[0][0] > 127.5
    found, count = ndimage.label(hot[0].cpu().numpy(), structure=np.ones((3, 3)))
    numbers = torch.from_numpy(found).to(hot.device)[None]
    masks = (numbers == number for number in range(1, count + 1))
    return [mask for mask in masks if mask.sum() >= WARM_SMALLEST]


def _surroundings(mask: torch.Tensor) -> tuple[slice, ...]:
    """Return the rows and columns of a picture that an object and its ring lie in."""
    window = [slice(None)]
    for dim in (1, 2):
        places = mask.any(dim=3 - dim)[0].nonzero()
        first, last = places.min().item(), places.max().item()
        window.append(slice(max(0, first - _RING), last + _RING + 1))
    return tuple(window)


def _gap(levels: torch.Tensor, mask: torch.Tensor, ring: torch.Tensor) -> float:
    """How many levels the mean inside is above that of the ring."""
    return (levels[mask].mean() - levels[ring].mean()).item()


def warm_objects_shown(
    fused: torch.Tensor, oracle: torch.Tensor, salient: torch.Tensor
) -> torch.Tensor:
    """Compute Warm_shown, the share of warm objects that stand out as the truth has it.

    An object (`warm_objects`) counts if its mean in the oracle is more than 10 levels above that of
    the ring of 6 pixels around it, other warm objects left out. It stands out in the fused picture
    if it is above its ring by at least half as much as in the oracle. 0 to 1; higher is better. A
    contrast stretch can raise it, as it should; noise and blur hardly move it.

    Args:
        fused: ``(B, 1, H, W)``, uint8 or in [0, 1].
        oracle: the same, the true fusion.
        salient: the same, how much a pixel belongs to a warm object.

    Returns:
        ``(B,)`` float64; NaN for a scene without an object that counts.

    Raises:
        ValueError: as `gray_levels`.

    Source: defined here.
    """
    fused, oracle, warmth = gray_levels(fused, oracle, salient)
    shares = []
    for shown, truth, warm in zip(fused, oracle, warmth, strict=True):
        counted = standing = 0
        hot = warm > 127.5
        for mask in warm_objects(warm.to(torch.uint8)):
            window = _surroundings(mask)
            inside = mask[window]
            near = F.max_pool2d(inside.double(), 2 * _RING + 1, 1, _RING) > 0
            ring = near & ~hot[window]
            if not ring.any() or (expected := _gap(truth[window], inside, ring)) <= _SEEN:
                continue
            counted += 1
            standing += _gap(shown[window], inside, ring) >= _ENOUGH * expected
        shares.append(standing / counted if counted else torch.nan)
    return torch.tensor(shares, dtype=torch.float64, device=fused.device)


def texture_kept(fused: torch.Tensor, oracle: torch.Tensor, salient: torch.Tensor) -> torch.Tensor:
    """Compute Texture_kept, the share of the oracle's background texture that is kept.

    Both pictures are smoothed a little (Gaussian, sigma 1), and their slopes (differences to the
    right and down) compared in blocks of 8 x 8 pixels outside of warm objects: the part of the
    oracle's slopes that a block holds is ``g_F . g_O / (|g_O| max(|g_O|, |g_F|))``, at least 0,
    over all slopes g of the block; the mean over the blocks is weighted by |g_O|. Where the fused
    slopes are the weaker ones that is the share of the oracle's slopes in them, where they are the
    stronger ones the cosine between both. 0 to 1; higher is better. Slopes that the oracle has
    not, such as noise, are at right angles to its own on average: they give no credit, and bury
    what is there. A stretch gives none above 1.

    Args:
        fused: ``(B, 1, H, W)``, uint8 or in [0, 1], at least 13 x 13.
        oracle: the same, the true fusion.
        salient: the same, how much a pixel belongs to a warm object.

    Returns:
        ``(B,)`` float64; NaN for a scene without background texture.

    Raises:
        ValueError: as `gray_levels`.

    Source: defined here.
    """
    fused, oracle, warmth = gray_levels(fused, oracle, salient, smallest=TEXTURE_SMALLEST)
    reach = len(_SMOOTH) // 2 + 1  # of a pixel, by the smoothing and a slope
    away = F.max_pool2d(warmth, 2 * reach + 1, 1, reach) <= 0
    away = away[..., reach : 1 - reach, reach : 1 - reach]

    def slopes(levels: torch.Tensor) -> torch.Tensor:
        smooth = separable(levels, _SMOOTH)
        right, down = smooth.diff(dim=-1)[..., 1:, :], smooth.diff(dim=-2)[..., 1:]
        return torch.cat([right, down], dim=1) * away

    own, truth = slopes(fused), slopes(oracle)
    shared, shown, there = (
        F.avg_pool2d(product.sum(dim=1), _BLOCK)
        for product in (own * truth, own.square(), truth.square())
    )
    flat = there < 1e-9  # no slope but for rounding
    # The weight |g_O| takes the place of the |g_O| in the denominator.
    kept = shared.clamp_min(0) / torch.maximum(there, shown).masked_fill(flat, 1).sqrt()
    length = there.sqrt().masked_fill(flat, 0)
    return kept.masked_fill(flat, 0).sum(dim=(1, 2)) / length.sum(dim=(1, 2))


def widen(mask: torch.Tensor, reach: int = _RING) -> torch.Tensor:
    """Take the maximum of ``(..., H, W)`` over squares of ``2 reach + 1`` pixels.

    By shifted copies, one direction after the other, which a CPU does far faster than pooling.
    """
    for axis, pad in ((-2, (0, 0, reach, reach)), (-1, (reach, reach, 0, 0))):
        wide, length = F.pad(mask, pad, value=-torch.inf), mask.shape[axis]
        mask = wide.narrow(axis, 0, length).clone()
        for shift in range(1, 2 * reach + 1):
            torch.maximum(mask, wide.narrow(axis, shift, length), out=mask)
    return mask


def masked_mean(value: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """Average ``(..., H, W)`` where a mask of the same size is 1; 0 where it is nowhere."""
    return (value * mask).sum((-2, -1)) / mask.sum((-2, -1)).clamp_min(1)


def background_detail(images: torch.Tensor, salient: torch.Tensor) -> torch.Tensor:
    """Compute the mean slope of the background, for several views of each scene.

    The pictures are blurred a little (Gaussian, sigma 0.8); the mean of ``(|dx| + |dy|) / 2`` is
    taken away from warm objects and from the ring of 6 pixels around them. 0 to 1 a pixel.

    Args:
        images: ``(G, V, H, W)`` in [0, 1].
        salient: ``(G, 1, H, W)`` in [0, 1], above one half where warm objects are.

    Returns:
        ``(G, V)``.

    Source: defined here.
    """
    soft = gaussian_blur(images, 0.8)
    slope = soft.diff(dim=-1).abs()[..., :-1, :] + soft.diff(dim=-2).abs()[..., :, :-1]
    away = 1 - widen((salient > 0.5).float())[..., :-1, :-1]
    return masked_mean(slope / 2, away)


def warm_gap(images: torch.Tensor, salient: torch.Tensor) -> torch.Tensor:
    """Compute how much brighter warm objects are than a ring of 6 pixels around them.

    Args:
        images: ``(G, V, H, W)`` in [0, 1].
        salient: ``(G, 1, H, W)`` in [0, 1], above one half where warm objects are.

    Returns:
        ``(G, V)`` in [-1, 1], of all objects of a scene together; 0 without any.

    Source: defined here.
    """
    hot = (salient > 0.5).float()
    return masked_mean(images, hot) - masked_mean(images, widen(hot) - hot)
