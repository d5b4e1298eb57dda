"""Flicker: how much a fused clip changes where nothing happens."""

from __future__ import annotations

import math
from collections.abc import Iterable

import torch
from torch.nn import functional as F

STILL = 4 / 255
"""Mean absolute change of a block up to which it is still."""

BLOCK = 8
"""Side in pixels of a block."""


class Flicker:
    """Measure how much a fused clip changes where both sources are still, over what they do.

    A block of 8 x 8 pixels is still from one frame to the next if the mean absolute change of
    luminance is at most 4/255 in both sources. With the mean over all still blocks and frames,

        ratio = mean |F_t - F_(t-1)| / max(mean |I_t - I_(t-1)|, mean |V_t - V_(t-1)|).

    1 says that the fused clip is as steady as the less steady of its sources; noise that is
    amplified, and weights that jump, make it larger.

    Attributes:
        infrared: mean absolute change of still blocks so far.
        visible: likewise.
        fused: likewise.

    Example:
        >>> flicker = Flicker()
        >>> for t in range(3):
        ...     source = torch.full((1, 16, 16), 0.5) + 0.01 * (t % 2)
        ...     flicker.add(source, source, 0.8 * source)
        >>> round(flicker.ratio, 3)
        0.8
    """

    def __init__(self) -> None:
        self._last: torch.Tensor | None = None
        self._sums = torch.zeros(3, dtype=torch.float64)
        self._still, self._blocks = 0, 0

    def add(self, infrared: torch.Tensor, visible: torch.Tensor, fused: torch.Tensor) -> None:
        """Take the luminance ``(1, H, W)`` in [0, 1] of the next frame of the three clips.

        Raises:
            ValueError: if the shapes differ.
        """
        if not infrared.shape == visible.shape == fused.shape:
            raise ValueError(
                "expected three frames (1, H, W) of one size, got "
                f"{tuple(infrared.shape)}, {tuple(visible.shape)} and {tuple(fused.shape)}"
            )
        frame = torch.cat([infrared, visible, fused])
        if self._last is not None:
            change = F.avg_pool2d((frame - self._last).abs(), BLOCK).flatten(1)
            still = (change[:2] <= STILL).all(0)
            self._sums += change[:, still].double().sum(1)
            self._still += int(still.sum())
            self._blocks += still.numel()
        self._last = frame

    @property
    def infrared(self) -> float:
        return self._mean(0)

    @property
    def visible(self) -> float:
        return self._mean(1)

    @property
    def fused(self) -> float:
        return self._mean(2)

    def _mean(self, which: int) -> float:
        return self._sums[which].item() / self._still if self._still else math.nan

    @property
    def still(self) -> float:
        """Share of blocks that are still."""
        return self._still / self._blocks if self._blocks else math.nan

    @property
    def ratio(self) -> float:
        """The number; NaN where nothing is still, or nothing at all changes in the sources."""
        source = max(self.infrared, self.visible)
        return self.fused / source if self._still and source > 0 else math.nan

    def __str__(self) -> str:
        return (
            f"flicker {self.ratio:.2f} (mean change in still places, of 255: infrared "
            f"{255 * self.infrared:.2f}, visible {255 * self.visible:.2f}, fused "
            f"{255 * self.fused:.2f}; {self.still:.0%} of all places are still)"
        )


def measure_flicker(
    frames: Iterable[tuple[torch.Tensor, torch.Tensor, torch.Tensor]],
) -> Flicker:
    """Measure the `Flicker` of frames, each ``(infrared, visible, fused)`` of ``(1, H, W)``."""
    flicker = Flicker()
    for infrared, visible, fused in frames:
        flicker.add(infrared, visible, fused)
    return flicker
