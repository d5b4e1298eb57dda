"""Histograms of grey levels, of one picture and of two jointly."""

from __future__ import annotations

import torch

LEVELS = 256


def _counts(index: torch.Tensor, bins: int) -> torch.Tensor:
    """Count whole numbers 0..bins-1 per batch element; ``(B, bins)`` float64."""
    return torch.stack([torch.bincount(one.flatten(), minlength=bins) for one in index]).double()


def histogram(levels: torch.Tensor) -> torch.Tensor:
    """How often each grey level occurs.

    Args:
        levels: ``(B, 1, H, W)`` whole numbers 0..255.

    Returns:
        ``(B, 256)`` float64 counts.
    """
    return _counts(levels.int(), LEVELS)


def joint_histogram(first: torch.Tensor, second: torch.Tensor) -> torch.Tensor:
    """How often each pair of grey levels occurs at one pixel.

    Args:
        first: ``(B, 1, H, W)`` whole numbers 0..255.
        second: the same.

    Returns:
        ``(B, 256, 256)`` float64 counts, ``[b, i, j]`` for level i in first and j in second.
    """
    counts = _counts((first * LEVELS + second).int(), LEVELS * LEVELS)
    return counts.view(-1, LEVELS, LEVELS)


def entropy_of_counts(counts: torch.Tensor) -> torch.Tensor:
    """Entropy in bits of the distribution that counts describe, over all but the first dimension.

    Args:
        counts: ``(B, ...)``, none negative.

    Returns:
        ``(B,)`` float64.
    """
    counts = counts.flatten(1)
    shares = counts / counts.sum(dim=1, keepdim=True)
    # Adding 0 turns the -0.0 of a single level into 0.0.
    return -torch.special.xlogy(shares, shares).sum(dim=1) / torch.log(counts.new_tensor(2.0)) + 0.0
