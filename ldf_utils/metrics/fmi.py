"""Feature mutual information: the shape of small windows in the fused picture and its sources."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F

from ldf_utils.metrics.filters import sobel
from ldf_utils.metrics.histograms import count
from ldf_utils.metrics.levels import gray_levels

_WINDOW = 3
_CHUNK = 1 << 10  # windows at a time: their joint distributions stay in the cache


def _windows(feature: torch.Tensor) -> torch.Tensor:
    """All windows inside a picture, ``(B, 9, N)``, the places of each read column by column."""
    windows = feature[:, 0].unfold(1, _WINDOW, 1).unfold(2, _WINDOW, 1)
    return windows.permute(0, 4, 3, 1, 2).flatten(1, 2).flatten(2)


def _as_distribution(windows: torch.Tensor) -> torch.Tensor:
    """Windows ``(9, N)`` stretched to [0, 1] and divided by their sum; flat ones become uniform."""
    low = windows.amin(dim=0)
    span = windows.amax(dim=0) - low
    shape = torch.where(span == 0, 1.0, (windows - low) / span.masked_fill(span == 0, 1))
    return shape / shape.sum(dim=0)


def _entropy_of_shares(shares: torch.Tensor) -> torch.Tensor:
    """Entropy in bits over the first dimension; a negative share counts with its absolute log."""
    tiny = torch.finfo(shares.dtype).tiny  # 0 log 0 is 0
    return -(shares * shares.abs().clamp_min(tiny).log()).sum(dim=0) / math.log(2)


def _window_information(first: torch.Tensor, second: torch.Tensor) -> torch.Tensor:
    """Compute the normalized mutual information of windows ``(9, N)`` with ``(9, N)``: ``(N,)``."""
    p, q = _as_distribution(first), _as_distribution(second)
    cdf_p, cdf_q = p.cumsum(dim=0), q.cumsum(dim=0)
    centered_p, centered_q = p - p.mean(0), q - q.mean(0)
    scale = (centered_p.square().sum(0) * centered_q.square().sum(0)).sqrt()
    product = (centered_p * centered_q).sum(0)
    correlation = torch.where(scale > 0, product / scale.masked_fill(scale == 0, 1), 0)

    # The joint distribution lies between independence and the bound of Frechet: the upper one
    # for windows that rise together, else the lower one.
    rows, columns = cdf_p[:, None], cdf_q[None]
    lower = (rows + columns - 1).clamp_min(0)
    bound = torch.where(correlation >= 0, torch.minimum(rows, columns), lower)
    places = torch.arange(1, len(p) + 1, dtype=p.dtype, device=p.device)
    spread_p, spread_q = (
        (places**2 @ x - (places @ x).square()).clamp_min(0).sqrt() for x in (p, q)
    )
    covariance = bound.sum((0, 1)) - cdf_p.sum(0) * cdf_q.sum(0)
    possible = (covariance != 0) & (spread_p > 0) & (spread_q > 0)
    weight = torch.where(
        possible, correlation * spread_p * spread_q / covariance.masked_fill(~possible, 1), 0
    )
    at_bound = bound.clone()
    at_bound[1:] -= bound[:-1]
    at_bound[:, 1:] -= bound[:, :-1]
    at_bound[1:, 1:] += bound[:-1, :-1]
    joint = torch.lerp(p[:, None] * q[None], at_bound, weight)
    own = _entropy_of_shares(p) + _entropy_of_shares(q)
    shared = 2 * (own - _entropy_of_shares(joint.flatten(0, 1))) / own.masked_fill(own == 0, 1)
    return torch.where((first == second).all(dim=0), 1.0, shared)


def _feature_mutual_information(
    fused: torch.Tensor, infrared: torch.Tensor, visible: torch.Tensor
) -> torch.Tensor:
    own, *sources = (_windows(feature) for feature in (fused, infrared, visible))
    totals = own.new_zeros(len(own))
    for source in sources:
        for start in range(0, own.shape[-1], _CHUNK):
            chunk = slice(start, start + _CHUNK)
            for b in range(len(own)):
                totals[b] += _window_information(own[b, :, chunk], source[b, :, chunk]).sum()
    return totals / (2 * own.shape[-1])


def feature_mutual_information_pixel(
    fused: torch.Tensor, infrared: torch.Tensor, visible: torch.Tensor
) -> torch.Tensor:
    """Compute FMI_pixel, normalized mutual information of 3 x 3 windows, mean over both sources.

    Each window, stretched to [0, 1] and divided by its sum, is taken as a distribution over its
    nine places (read column by column). The joint distribution of two windows mixes independence
    with the bound of Frechet so that it has their correlation; ``2 I / (H + H)`` of it is
    averaged over all windows inside the picture. 0 to 1 up to rounding; higher counts as better.
    1 for three equal pictures.

    Disagreement: tables whose FMI_pixel is near 0.9 hold `feature_mutual_information_edge`.
    Ports that read windows row by row get slightly other values, since the order of the places
    enters the cumulative sums. Pixel, edge, gradient, wavelet and DCT variants are different
    numbers that tables rarely tell apart.

    Args:
        fused: ``(B, 1, H, W)``, uint8 or in [0, 1], at least 3 x 3.
        infrared: the same.
        visible: the same.

    Returns:
        ``(B,)`` float64.

    Source: Haghighat and Razian, DOI 10.1109/ICAICT.2014.7036000.
    """
    return _feature_mutual_information(*gray_levels(fused, infrared, visible, smallest=_WINDOW))


def feature_mutual_information_gradient(
    fused: torch.Tensor, infrared: torch.Tensor, visible: torch.Tensor
) -> torch.Tensor:
    """Compute FMI_gradient, as FMI_pixel, of the slope along rows.

    The feature is the central difference to the right (one-sided at the border), which is what
    the reference code's gradient returns; slopes down the columns are not looked at. 0 to 1 up to
    rounding; higher counts as better.

    Args:
        fused: ``(B, 1, H, W)``, uint8 or in [0, 1], at least 3 x 3.
        infrared: the same.
        visible: the same.

    Returns:
        ``(B,)`` float64.

    Source: Haghighat and Razian, DOI 10.1109/ICAICT.2014.7036000.
    """
    triple = gray_levels(fused, infrared, visible, smallest=_WINDOW)
    return _feature_mutual_information(*(torch.gradient(levels, dim=-1)[0] for levels in triple))


def edge_map(image: torch.Tensor) -> torch.Tensor:
    """Find edges as MATLAB's ``edge`` does when it is told nothing else.

    Sobel gradients, the border replicated; an edge is where the squared gradient passes 4 times its
    mean over the picture and is the largest along its steeper direction, so that edges are one
    pixel wide. The outermost pixels are none.

    Args:
        image: ``(B, 1, H, W)``, uint8 or in [0, 1], at least 3 x 3.

    Returns:
        ``(B, 1, H, W)`` bool.

    Raises:
        ValueError: as `gray_levels`.

    Source: MATLAB, Image Processing Toolbox, ``edge(I)``.
    """
    (levels,) = gray_levels(image, smallest=_WINDOW)
    right, down = (step.abs() for step in sobel(F.pad(levels, (1, 1, 1, 1), mode="replicate")))
    strength = right.square() + down.square()
    inner = (..., slice(1, -1), slice(1, -1))
    here = strength[inner]
    ridge = (strength[..., 1:-1, :-2] <= here) & (here > strength[..., 1:-1, 2:])
    crest = (strength[..., :-2, 1:-1] <= here) & (here > strength[..., 2:, 1:-1])
    ridge &= right[inner] >= down[inner]
    crest &= down[inner] >= right[inner]
    strong = here > 4 * strength.mean(dim=(1, 2, 3), keepdim=True)
    return F.pad(strong & (ridge | crest), (1, 1, 1, 1))


def _edge_windows(image: torch.Tensor) -> torch.Tensor:
    """Code the windows of the edge map as numbers 0..511, one bit a place; ``(B, N)``."""
    edges = edge_map(image)[:, 0].int()
    rows, columns = (side - _WINDOW + 1 for side in edges.shape[-2:])
    codes = torch.zeros_like(edges[:, :rows, :columns])
    for place in range(_WINDOW**2):  # column by column, as `_windows`
        right, down = divmod(place, _WINDOW)
        codes += edges[:, down : down + rows, right : right + columns] << place
    return codes.flatten(1)


def feature_mutual_information_edge(
    fused: torch.Tensor, infrared: torch.Tensor, visible: torch.Tensor
) -> torch.Tensor:
    """Compute FMI_edge, as FMI_pixel, of Sobel edges: what most tables call FMI_pixel.

    The feature is `edge_map`, 1 on an edge and 0 elsewhere: what the widely used MATLAB routine
    takes when no feature is named. 0 to 1 up to rounding; higher counts as better. Two equal
    windows count 1, and nearly all windows of two edge maps are equal because both are empty: more
    than 99 % of a typical value of 0.9 are equal windows, 96 to 98 % empty ones
    (`edge_window_shares`).

    Args:
        fused: ``(B, 1, H, W)``, uint8 or in [0, 1], at least 3 x 3.
        infrared: the same.
        visible: the same.

    Returns:
        ``(B,)`` float64.

    Source: Haghighat and Razian, DOI 10.1109/ICAICT.2014.7036000, and their code.
    """
    gray_levels(fused, infrared, visible, smallest=_WINDOW)  # one shape
    own, *sources = (_edge_windows(image) for image in (fused, infrared, visible))
    # Of 512 x 512 possible pairs of windows a picture has a few hundred: each is computed once.
    places = torch.arange(_WINDOW**2, device=own.device)[:, None]
    size = 2 ** (_WINDOW**2)
    counts = count(torch.cat([own, own], dim=1) * size + torch.cat(sources, dim=1), size * size)
    kinds = counts.sum(dim=0).nonzero()[:, 0]
    mine, theirs = ((kinds // size) >> places) & 1, (kinds >> places) & 1
    return counts[:, kinds] @ _window_information(mine.double(), theirs.double()) / counts[0].sum()


def edge_window_shares(
    fused: torch.Tensor, infrared: torch.Tensor, visible: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Compute in which share of 3 x 3 windows edge maps are equal, and in which they are empty.

    Two equal windows count 1 in `feature_mutual_information_edge`, and an empty window of the fused
    picture equals an empty one of a source, whatever was fused: the second share is the part of
    that metric which is emptiness. Both are means over the sources.

    Args:
        fused: ``(B, 1, H, W)``, uint8 or in [0, 1], at least 3 x 3.
        infrared: the same.
        visible: the same.

    Returns:
        The share of windows in which the edge maps of the fused picture and a source are equal, and
        of those in which neither has an edge, ``(B,)`` float64 each, in [0, 1].
    """
    gray_levels(fused, infrared, visible, smallest=_WINDOW)  # one shape
    own, *sources = (_edge_windows(image) for image in (fused, infrared, visible))
    both = torch.stack([torch.stack([own == x, (own == 0) & (x == 0)]) for x in sources])
    equal, empty = both.double().mean(dim=(0, 3))
    return equal, empty
