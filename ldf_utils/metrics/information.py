"""Information that the fused picture shares with its sources, from histograms of grey levels."""

from __future__ import annotations

import math

import torch

from ldf_utils.metrics.histograms import entropy_of_counts, joint_histogram
from ldf_utils.metrics.levels import gray_levels


def _mutual_information(first: torch.Tensor, second: torch.Tensor) -> torch.Tensor:
    joint = joint_histogram(first, second)
    parts = entropy_of_counts(joint.sum(dim=2)) + entropy_of_counts(joint.sum(dim=1))
    return (parts - entropy_of_counts(joint)).clamp_min(0) * math.log(2)


def mutual_information(
    fused: torch.Tensor, infrared: torch.Tensor, visible: torch.Tensor
) -> torch.Tensor:
    """MI, mutual information with both sources, ``I(F; IR) + I(F; VI)``, in nats.

    ``I(A; B) = H(A) + H(B) - H(A, B)`` on 256 x 256 joint counts of grey levels. 0 nats to
    2 ln 256 = 11.09; higher counts as better. Symmetric in the sources, unchanged when the levels
    of the fused picture are relabelled one to one (an inverted picture scores the same), and
    highest for a copy of the source with the larger entropy.

    Disagreement: MATLAB code gives bits, code built on scikit-learn nats as here: divide by
    ln 2 = 0.6931 to compare. Some code stretches each picture to 0..255 before counting, which
    rounds levels together or apart by a few per cent.

    Args:
        fused: ``(B, 1, H, W)``, uint8 or in [0, 1].
        infrared: the same.
        visible: the same.

    Returns:
        ``(B,)`` float64 in nats.

    Source: Qu, Zhang and Yan, DOI 10.1049/el:20020212.
    """
    fused, infrared, visible = gray_levels(fused, infrared, visible, smallest=1)
    return _mutual_information(fused, infrared) + _mutual_information(fused, visible)
