"""Information that histograms of gray levels share with those of the sources: MI, NMI, CE."""

from __future__ import annotations

import math

import torch

from ldf_utils.metrics.histograms import LEVELS, entropy_of_counts, histogram, joint_histogram
from ldf_utils.metrics.levels import Convention, check_convention, gray_levels, stretched


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
    first, second = (_shared_bits(triple[0], source, joint_top)[0] for source in triple[1:])
    return first + second


def mutual_information(
    fused: torch.Tensor,
    infrared: torch.Tensor,
    visible: torch.Tensor,
    *,
    convention: Convention = "standard",
) -> torch.Tensor:
    """Compute MI, mutual information with both sources, ``I(F; IR) + I(F; VI)``, in nats.

    ``I(A; B) = H(A) + H(B) - H(A, B)`` on 256 x 256 joint counts of gray levels. 0 nats to
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
    """Compute MI_bits, MI in bits, divided by ln 2: for tables made with MATLAB's ``log2``.

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
) -> torch.Tensor:
    """Compute NMI, each mutual information as a share of the entropies, summed over the sources.

    ``2 I(F; IR) / (H(F) + H(IR)) + 2 I(F; VI) / (H(F) + H(VI))``: 0 to 2; higher counts as
    better. It takes from MI the preference for the source with the larger entropy. Two flat
    pictures share nothing: 0. Some code stretches each picture to 0..255 first; here it does not.

    Args:
        fused: ``(B, 1, H, W)``, uint8 or in [0, 1].
        infrared: the same.
        visible: the same.

    Returns:
        ``(B,)`` float64.

    Source: Hossny, Nahavandi and Creighton, DOI 10.1049/el:20081754.
    """
    fused, infrared, visible = gray_levels(fused, infrared, visible, smallest=1)
    shares = (_shared_bits(fused, source) for source in (infrared, visible))
    first, second = (2 * bits / own.masked_fill(own == 0, 1) for bits, own in shares)
    return first + second


def cross_entropy(
    fused: torch.Tensor,
    infrared: torch.Tensor,
    visible: torch.Tensor,
) -> torch.Tensor:
    """Compute CE, how far the histogram of the fused picture is from those of its sources.

    The mean over both sources of ``sum p log2(p / q)``, p the shares of the gray levels in the
    source, q in the fused picture. 0 where the histograms are equal; lower counts as better.

    Disagreement: despite the name it is the relative entropy. That is infinite where a source
    has a level that the fused picture has not; as in published code such levels are left out,
    so a histogram with gaps can come out below 0.

    Args:
        fused: ``(B, 1, H, W)``, uint8 or in [0, 1].
        infrared: the same.
        visible: the same.

    Returns:
        ``(B,)`` float64 in bits.

    Source: Bulanon, Burks and Alchanatis, DOI 10.1016/j.biosystemseng.2009.02.009.
    """
    triple = gray_levels(fused, infrared, visible, smallest=1)
    shares, infrared_shares, visible_shares = (
        counts / counts.sum(dim=1, keepdim=True) for counts in map(histogram, triple)
    )

    def relative(source: torch.Tensor) -> torch.Tensor:
        both = (source > 0) & (shares > 0)
        ratio = torch.where(both, source / shares.masked_fill(~both, 1), 1)
        return (source * ratio.log2()).sum(dim=1)

    return (relative(infrared_shares) + relative(visible_shares)) / 2
