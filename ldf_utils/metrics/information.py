"""Information that the fused picture shares with its sources.

From histograms of grey levels (MI, NMI, CE), and from the shape of small windows (FMI).
"""

from __future__ import annotations

import math

import torch

from ldf_utils.metrics.histograms import LEVELS, entropy_of_counts, histogram, joint_histogram
from ldf_utils.metrics.levels import Convention, check_convention, gray_levels, stretched

_FMI_WINDOW = 3
_FMI_CHUNK = 1 << 10  # windows at a time: their joint distributions stay in the cache


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


def _mutual_bits(
    fused: torch.Tensor, infrared: torch.Tensor, visible: torch.Tensor, convention: Convention
) -> torch.Tensor:
    """Mutual information with both sources, summed, in bits."""
    check_convention(convention)
    triple = gray_levels(fused, infrared, visible, smallest=1)
    if convention == "vifb":
        triple = [stretched(levels) for levels in triple]
    joint_top = LEVELS - 2 if convention == "matlab-uint8" else LEVELS - 1
    return sum(_shared_bits(triple[0], source, joint_top)[0] for source in triple[1:])


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
    gives nats, as here; `mutual_information_bits` is the same in bits.

    Args:
        fused: ``(B, 1, H, W)``, uint8 or in [0, 1].
        infrared: the same.
        visible: the same.
        convention: one of `CONVENTIONS`.

    Returns:
        ``(B,)`` float64 in nats (bits for ``"matlab-uint8"``).

    Source: Qu, Zhang and Yan, DOI 10.1049/el:20020212.
    """
    bits = _mutual_bits(fused, infrared, visible, convention)
    return bits if convention == "matlab-uint8" else bits * math.log(2)


def mutual_information_bits(
    fused: torch.Tensor,
    infrared: torch.Tensor,
    visible: torch.Tensor,
    *,
    convention: Convention = "standard",
) -> torch.Tensor:
    """MI in bits, `mutual_information` divided by ln 2: for tables made with MATLAB's ``log2``.

    0 to 16 bits; higher counts as better. It ranks pictures as MI in nats does, 1.4427 times as
    large; a table that does not name its unit can often be told by that.

    Args:
        fused: ``(B, 1, H, W)``, uint8 or in [0, 1].
        infrared: the same.
        visible: the same.
        convention: one of `CONVENTIONS`; bits in all.

    Returns:
        ``(B,)`` float64 in bits.

    Source: Qu, Zhang and Yan, DOI 10.1049/el:20020212.
    """
    return _mutual_bits(fused, infrared, visible, convention)


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
    """All windows inside a picture, ``(B, 9, N)``, the places of each read column by column."""
    windows = feature[:, 0].unfold(1, _FMI_WINDOW, 1).unfold(2, _FMI_WINDOW, 1)
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
    """Normalized mutual information of windows ``(9, N)`` with ``(9, N)``: ``(N,)``."""
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
    fused, *sources = (_windows(feature) for feature in (fused, infrared, visible))
    totals = fused.new_zeros(len(fused))
    for source in sources:
        for start in range(0, fused.shape[-1], _FMI_CHUNK):
            chunk = slice(start, start + _FMI_CHUNK)
            for b in range(len(fused)):
                totals[b] += _window_information(fused[b, :, chunk], source[b, :, chunk]).sum()
    return totals / (2 * fused.shape[-1])


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
