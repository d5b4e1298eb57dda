"""Information that the fused picture shares with its sources.

From histograms of grey levels (MI, NMI, CE), and from the shape of small windows (FMI).
"""

from __future__ import annotations

import math

import torch

from ldf_utils.metrics.histograms import LEVELS, entropy_of_counts, histogram, joint_histogram
from ldf_utils.metrics.levels import Convention, check_convention, gray_levels, stretched

_FMI_WINDOW = 3
_FMI_CHUNK = 1 << 14  # windows at a time: keeps the memory flat


def _shared_bits(
    first: torch.Tensor, second: torch.Tensor, joint_top: int = LEVELS - 1
) -> tuple[torch.Tensor, torch.Tensor]:
    """I(first; second) and H(first) + H(second) in bits.

    Levels above ``joint_top`` count as ``joint_top`` in the joint histogram, and there only.
    """
    joint = joint_histogram(first, second)
    own = entropy_of_counts(joint.sum(dim=2)) + entropy_of_counts(joint.sum(dim=1))
    if joint_top < LEVELS - 1:
        top = slice(joint_top, None)
        joint = torch.cat([joint[:, :joint_top], joint[:, top].sum(1, keepdim=True)], dim=1)
        joint = torch.cat([joint[..., :joint_top], joint[..., top].sum(2, keepdim=True)], dim=2)
    return (own - entropy_of_counts(joint)).clamp_min(0), own


def mutual_information(
    fused: torch.Tensor,
    infrared: torch.Tensor,
    visible: torch.Tensor,
    *,
    convention: Convention = "standard",
) -> torch.Tensor:
    """MI, mutual information with both sources, ``I(F; IR) + I(F; VI)``, in nats.

    ``I(A; B) = H(A) + H(B) - H(A, B)`` on 256 x 256 joint counts of grey levels. 0 nats to
    2 ln 256 = 11.09; higher counts as better. Symmetric in the sources, unchanged when the levels
    of the fused picture are relabelled one to one (an inverted picture scores the same), and
    highest for a copy of the source with the larger entropy.

    Disagreement: ``"matlab-uint8"`` is in bits (divide nats by ln 2 = 0.6931), and its joint
    counts, indexed by level + 1 in 8 bits, put the levels 254 and 255 into one bin, which adds up
    to 0.04 bits. ``"vifb"`` stretches each picture to 0..255 first. Code built on scikit-learn
    gives nats, as here.

    Args:
        fused: ``(B, 1, H, W)``, uint8 or in [0, 1].
        infrared: the same.
        visible: the same.
        convention: one of `CONVENTIONS`.

    Returns:
        ``(B,)`` float64 in nats (bits for ``"matlab-uint8"``).

    Source: Qu, Zhang and Yan, DOI 10.1049/el:20020212.
    """
    check_convention(convention)
    fused, infrared, visible = gray_levels(fused, infrared, visible, smallest=1)
    if convention == "matlab-uint8":
        return sum(_shared_bits(fused, source, LEVELS - 2)[0] for source in (infrared, visible))
    if convention == "vifb":
        fused, infrared, visible = (stretched(levels) for levels in (fused, infrared, visible))
    bits = sum(_shared_bits(fused, source)[0] for source in (infrared, visible))
    return bits * math.log(2)


def normalized_mutual_information(
    fused: torch.Tensor,
    infrared: torch.Tensor,
    visible: torch.Tensor,
    *,
    convention: Convention = "standard",
) -> torch.Tensor:
    """NMI, each mutual information as a share of the entropies, summed over the sources.

    ``2 I(F; IR) / (H(F) + H(IR)) + 2 I(F; VI) / (H(F) + H(VI))``: 0 to 2; higher counts as
    better. It takes from MI the preference for the source with the larger entropy. Two flat
    pictures share nothing: 0. Some code stretches each picture to 0..255 first; here it does not.

    Args:
        fused: ``(B, 1, H, W)``, uint8 or in [0, 1].
        infrared: the same.
        visible: the same.
        convention: the same value in all.

    Returns:
        ``(B,)`` float64.

    Source: Hossny, Nahavandi and Creighton, DOI 10.1049/el:20081754.
    """
    check_convention(convention)
    fused, infrared, visible = gray_levels(fused, infrared, visible, smallest=1)
    shares = (_shared_bits(fused, source) for source in (infrared, visible))
    return sum(2 * bits / own.masked_fill(own == 0, 1) for bits, own in shares)


def cross_entropy(
    fused: torch.Tensor,
    infrared: torch.Tensor,
    visible: torch.Tensor,
    *,
    convention: Convention = "standard",
) -> torch.Tensor:
    """CE, how far the histogram of the fused picture is from those of its sources.

    The mean over both sources of ``sum p log2(p / q)``, p the shares of the grey levels in the
    source, q in the fused picture. 0 where the histograms are equal; lower counts as better.

    Disagreement: despite the name it is the relative entropy. That is infinite where a source
    has a level that the fused picture has not; as in published code such levels are left out,
    so a histogram with gaps can come out below 0.

    Args:
        fused: ``(B, 1, H, W)``, uint8 or in [0, 1].
        infrared: the same.
        visible: the same.
        convention: the same value in all.

    Returns:
        ``(B,)`` float64 in bits.

    Source: Bulanon, Burks and Alchanatis, DOI 10.1016/j.biosystemseng.2009.02.009.
    """
    check_convention(convention)
    triple = gray_levels(fused, infrared, visible, smallest=1)
    shares, infrared_shares, visible_shares = (
        counts / counts.sum(dim=1, keepdim=True) for counts in map(histogram, triple)
    )

    def relative(source: torch.Tensor) -> torch.Tensor:
        both = (source > 0) & (shares > 0)
        ratio = torch.where(both, source / shares.masked_fill(~both, 1), 1)
        return (source * ratio.log2()).sum(dim=1)

    return (relative(infrared_shares) + relative(visible_shares)) / 2


def _windows(feature: torch.Tensor) -> torch.Tensor:
    """All windows inside a picture, ``(B, N, 9)``, each read column by column."""
    windows = feature[:, 0].unfold(1, _FMI_WINDOW, 1).unfold(2, _FMI_WINDOW, 1)
    return windows.transpose(-1, -2).flatten(3).flatten(1, 2)


def _as_distribution(windows: torch.Tensor) -> torch.Tensor:
    """Windows stretched to [0, 1] and divided by their sum; flat ones become uniform."""
    low = windows.amin(dim=-1, keepdim=True)
    span = windows.amax(dim=-1, keepdim=True) - low
    shape = torch.where(span == 0, 1.0, (windows - low) / span.masked_fill(span == 0, 1))
    return shape / shape.sum(dim=-1, keepdim=True)


def _entropy_of_shares(shares: torch.Tensor) -> torch.Tensor:
    """Entropy in bits over the last dimension; a negative share counts with its absolute log."""
    return -torch.xlogy(shares, shares.abs()).sum(dim=-1) / math.log(2)


def _window_information(first: torch.Tensor, second: torch.Tensor) -> torch.Tensor:
    """Normalized mutual information of windows ``(N, 9)`` with ``(N, 9)``: ``(N,)``."""
    p, q = _as_distribution(first), _as_distribution(second)
    cdf_p, cdf_q = p.cumsum(dim=-1), q.cumsum(dim=-1)
    centered_p, centered_q = p - p.mean(-1, keepdim=True), q - q.mean(-1, keepdim=True)
    scale = (centered_p.square().sum(-1) * centered_q.square().sum(-1)).sqrt()
    product = (centered_p * centered_q).sum(-1)
    correlation = torch.where(scale > 0, product / scale.masked_fill(scale == 0, 1), 0)

    # The joint distribution lies between independence and the bound of Frechet: the upper one
    # for windows that rise together, else the lower one.
    rows, columns = cdf_p.unsqueeze(-1), cdf_q.unsqueeze(-2)
    rising = (correlation >= 0)[:, None, None]
    bound = torch.where(rising, torch.minimum(rows, columns), (rows + columns - 1).clamp_min(0))
    steps = torch.arange(1, p.shape[-1] + 1, dtype=p.dtype, device=p.device)
    spread_p, spread_q = (
        ((steps**2 * x).sum(-1) - (steps * x).sum(-1).square()).clamp_min(0).sqrt() for x in (p, q)
    )
    covariance = bound.sum((-1, -2)) - cdf_p.sum(-1) * cdf_q.sum(-1)
    possible = (covariance != 0) & (spread_p > 0) & (spread_q > 0)
    weight = torch.where(
        possible, correlation * spread_p * spread_q / covariance.masked_fill(~possible, 1), 0
    )[:, None, None]
    at_bound = bound.clone()
    at_bound[:, 1:] -= bound[:, :-1]
    at_bound[:, :, 1:] -= bound[:, :, :-1]
    at_bound[:, 1:, 1:] += bound[:, :-1, :-1]
    joint = weight * at_bound + (1 - weight) * p.unsqueeze(-1) * q.unsqueeze(-2)
    own = _entropy_of_shares(p) + _entropy_of_shares(q)
    shared = 2 * (own - _entropy_of_shares(joint.flatten(1))) / own.masked_fill(own == 0, 1)
    return torch.where((first == second).all(dim=-1), 1.0, shared)


def _feature_mutual_information(
    fused: torch.Tensor, infrared: torch.Tensor, visible: torch.Tensor
) -> torch.Tensor:
    fused, *sources = (_windows(feature) for feature in (fused, infrared, visible))
    totals = fused.new_zeros(len(fused))
    for source in sources:
        for start in range(0, fused.shape[1], _FMI_CHUNK):
            chunk = slice(start, start + _FMI_CHUNK)
            for b in range(len(fused)):
                totals[b] += _window_information(fused[b, chunk], source[b, chunk]).sum()
    return totals / (2 * fused.shape[1])


def feature_mutual_information_pixel(
    fused: torch.Tensor,
    infrared: torch.Tensor,
    visible: torch.Tensor,
    *,
    convention: Convention = "standard",
) -> torch.Tensor:
    """FMI of pixels: normalized mutual information of 3 x 3 windows, mean over both sources.

    Each window, stretched to [0, 1] and divided by its sum, is taken as a distribution over its
    nine places (read column by column). The joint distribution of two windows mixes independence
    with the bound of Frechet so that it has their correlation; ``2 I / (H + H)`` of it is
    averaged over all windows inside the picture. 0 to 1 up to rounding; higher counts as better.
    1 for three equal pictures.

    Disagreement: ports that read windows row by row get slightly other values, since the order
    of the places enters the cumulative sums. Pixel, gradient, wavelet and DCT variants are
    different numbers that tables rarely tell apart.

    Args:
        fused: ``(B, 1, H, W)``, uint8 or in [0, 1].
        infrared: the same.
        visible: the same.
        convention: the same value in all.

    Returns:
        ``(B,)`` float64.

    Source: Haghighat and Razian, DOI 10.1109/ICAICT.2014.7036000.
    """
    check_convention(convention)
    return _feature_mutual_information(*gray_levels(fused, infrared, visible, smallest=_FMI_WINDOW))


def feature_mutual_information_gradient(
    fused: torch.Tensor,
    infrared: torch.Tensor,
    visible: torch.Tensor,
    *,
    convention: Convention = "standard",
) -> torch.Tensor:
    """FMI of gradients: as `feature_mutual_information_pixel`, of the slope along rows.

    The feature is the central difference to the right (one-sided at the border), which is what
    the reference code's gradient returns; slopes down the columns are not looked at. 0 to 1 up to
    rounding; higher counts as better.

    Args:
        fused: ``(B, 1, H, W)``, uint8 or in [0, 1].
        infrared: the same.
        visible: the same.
        convention: the same value in all.

    Returns:
        ``(B,)`` float64.

    Source: Haghighat and Razian, DOI 10.1109/ICAICT.2014.7036000.
    """
    check_convention(convention)
    triple = gray_levels(fused, infrared, visible, smallest=_FMI_WINDOW)
    return _feature_mutual_information(*(torch.gradient(levels, dim=-1)[0] for levels in triple))
