"""The entropy filter: which patches count."""

from __future__ import annotations

import math

import torch

BINS = 256


def entropy(patches: torch.Tensor) -> torch.Tensor:
    """Shannon entropy of the grey levels of each patch.

    Args:
        patches: ``(N, ...)`` in [0, 1], at least one value each. All values of a row, of all its
            channels, go into one histogram of 256 equal bins over [0, 1]; values outside are
            counted in the nearest bin.

    Returns:
        ``(N,)`` float32, in bits: 0 for a constant patch, 8 where all levels are equally common.

    Raises:
        ValueError: for a NaN.
    """
    values = patches.detach().flatten(1)
    if values.isnan().any():
        raise ValueError("the entropy of a patch with NaN in it is not defined; check the images")
    rows, length = values.shape
    # The clamp comes first: a large float has no defined integer.
    levels = (values.clamp(0, 1) * BINS).long().clamp_(max=BINS - 1)
    levels += BINS * torch.arange(rows, device=levels.device)[:, None]
    counts = torch.bincount(levels.flatten(), minlength=rows * BINS).view(rows, BINS)
    return torch.special.entr(counts / length).sum(dim=1) / math.log(2)


def keep_mask(
    infrared_patches: torch.Tensor, visible_patches: torch.Tensor, threshold: float = 6.0
) -> torch.Tensor:
    """Which patches have something to show in both sources.

    Args:
        infrared_patches: ``(N, 1, h, w)`` in [0, 1].
        visible_patches: ``(N, 1, h, w)`` in [0, 1], the same views.
        threshold: bits of entropy that both have to exceed.

    Returns:
        ``(N,)`` bool, True where the patch counts.
    """
    return (entropy(infrared_patches) > threshold) & (entropy(visible_patches) > threshold)
