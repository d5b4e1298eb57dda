"""Histograms of gray levels, of one picture and of two jointly."""

from __future__ import annotations

import math

import torch

LEVELS = 256


def count(index: torch.Tensor, bins: int) -> torch.Tensor:
    """Count whole numbers 0..bins-1 of shape ``(B, ...)`` per element: ``(B, bins)`` float64."""
    batch = len(index)
    places = index.reshape(batch, -1).long()
    places = places + bins * torch.arange(batch, device=index.device)[:, None]
    return torch.bincount(places.flatten(), minlength=batch * bins).view(batch, bins).double()


def histogram(levels: torch.Tensor) -> torch.Tensor:
    """How often each gray level occurs.

    Args:
        levels: ``(B, ...)`` whole numbers 0..255.

    Returns:
        ``(B, 256)`` float64 counts.
    """
    return count(levels.int(), LEVELS)


def joint_histogram(first: torch.Tensor, second: torch.Tensor) -> torch.Tensor:
    """How often each pair of gray levels occurs at one pixel.

    Args:
        first: ``(B, 1, H, W)`` whole numbers 0..255.
        second: the same.

    Returns:
        ``(B, 256, 256)`` float64 counts, ``[b, i, j]`` for level i in first and j in second.
    """
    counts = count((first * LEVELS + second).int(), LEVELS * LEVELS)
    return counts.view(-1, LEVELS, LEVELS)


def entropy_of_counts(counts: torch.Tensor) -> torch.Tensor:
    """Entropy in bits of the distribution that counts describe, over all but the first dimension.

    Args:
        counts: ``(B, ...)`` floating point, none negative.

    Returns:
        ``(B,)`` of the type of the counts.
    """
    counts = counts.flatten(1)
    shares = counts / counts.sum(dim=1, keepdim=True)
    return torch.special.entr(shares).sum(dim=1) / math.log(2)
