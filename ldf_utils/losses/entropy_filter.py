"""The entropy filter: which patches count."""

from __future__ import annotations

import torch

from ldf_utils.metrics import entropy


def keep_mask(
    infrared_patches: torch.Tensor, visible_patches: torch.Tensor, threshold: float = 6.0
) -> torch.Tensor:
    """Find the patches that have something to show in both sources.

    A patch counts if ``-sum p log2 p > threshold`` in both, p the shares of 256 gray levels
    (`ldf_utils.metrics.entropy` with ``rounded=False``).

    Args:
        infrared_patches: ``(N, 1, h, w)`` in [0, 1].
        visible_patches: ``(N, 1, h, w)`` in [0, 1], the same views.
        threshold: bits of entropy that both have to exceed.

    Returns:
        ``(N,)`` bool, True where the patch counts.

    Raises:
        ValueError: for a NaN.

    Source: arXiv:2402.16267.
    """
    infrared, visible = (entropy(x, rounded=False) for x in (infrared_patches, visible_patches))
    return (infrared > threshold) & (visible > threshold)
